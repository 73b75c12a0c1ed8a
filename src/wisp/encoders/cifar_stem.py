"""The stem that trainings on images of 32 pixels give a ResNet: one 3x3 convolution of stride 1, no pooling behind it.

Source: SimCLR (Chen et al. 2020, appendix B.9). The names of the tensors are the stock ones and the shape of the first
tells, but no tensor tells by how many pixels the convolution pads: solo-learn by two, most others by one. It is no
`wisp.encoders.stock.small_stem`, which keeps the stock weights.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

SIDE = 32
"""Of the images that such networks are usually trained on, in pixels."""


def has_cifar_stem(tensors: Mapping[str, Tensor], encoder: nn.Module) -> bool:
    """Whether `tensors` have this stem where `encoder`, a stock ResNet, has its own."""
    own, found = getattr(encoder, "conv1", None), tensors.get("conv1.weight")
    stock = isinstance(own, nn.Conv2d) and own.kernel_size == (7, 7) and hasattr(encoder, "maxpool")
    return stock and found is not None and tuple(found.shape[1:]) == (3, 3, 3)


def give_cifar_stem(encoder: nn.Module, padding: int) -> None:
    """Puts the stem, with fresh weights, in the place of a stock ResNet's own."""
    stem = encoder.conv1
    assert isinstance(stem, nn.Conv2d)
    encoder.conv1 = nn.Conv2d(3, stem.out_channels, 3, stride=1, padding=padding, bias=False)
    encoder.maxpool = nn.Identity()
