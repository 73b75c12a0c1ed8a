"""Features of a frozen encoder, computed once and shared by every protocol.

Legend: N images, D features, B batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wisp.errors import WispError


@dataclass(frozen=True)
class Features:
    """Features [N,D] float and labels [N] int64 of a training and a test set, on one device.

    Attributes:
        train: of the training images, plain.
        train_labels: theirs.
        test: of the test images, plain.
        test_labels: theirs.
        augmented: of the same training images in the same order, cropped and flipped at random: [N,D], one a pass.

    Raises:
        WispError: sizes that do not fit together, features that are not finite, or negative labels.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    augmented: tuple[Tensor, ...] = ()

    def __post_init__(self) -> None:
        for name, x, y in (("training", self.train, self.train_labels), ("test", self.test, self.test_labels)):
            if x.ndim != 2 or len(x) == 0:
                raise WispError(f"the {name} set gives features of shape {list(x.shape)}; needed are one or more rows")
            if y.shape != (len(x),):
                raise WispError(f"the {name} set has {len(x)} images and {y.numel()} labels; every image needs one")
            if not bool(torch.isfinite(x).all()):
                raise WispError(f"the encoder gives non-finite features on the {name} set; lower the learning rate")
            if int(y.min()) < 0:
                raise WispError(f"the {name} set has a label below 0; labels count from 0")
        if self.train.shape[1] != self.test.shape[1]:
            raise WispError(f"training and test features differ in size: {self.train.shape[1]}, {self.test.shape[1]}")
        if any(extra.shape != self.train.shape for extra in self.augmented):
            raise WispError("an augmented pass must hold the same images as the training features, in the same order")
        if not all(bool(torch.isfinite(extra).all()) for extra in self.augmented):
            raise WispError("the encoder gives non-finite features on augmented images; leave --augmented out")

    @property
    def classes(self) -> int:
        """How many classes the labels span."""
        return int(max(self.train_labels.max(), self.test_labels.max())) + 1


def extract(encoder: nn.Module, batches: Iterable[Tensor], device: torch.device | str = "cpu") -> Tensor:
    """Features of all images, [N,D] float32 on the CPU, with running statistics and without a graph.

    Args:
        encoder: maps normalised images [B,3,H,W] to [B,D]; it must already be on `device`.
        batches: normalised images [B,3,H,W]; their memory format is kept.
        device: where the encoder computes.

    Raises:
        WispError: there is no batch, or the encoder does not give one row of features an image.
    """
    rows = []
    with evaluating(encoder), torch.inference_mode():
        for images in batches:
            features = encoder(images.to(device, non_blocking=True))
            if features.ndim != 2 or len(features) != len(images):
                raise WispError(f"the encoder gives {list(features.shape)} for {len(images)} images; needed is [B,D]")
            rows.append(features.to("cpu", torch.float32))
    if not rows:
        raise WispError("there are no images to evaluate")
    # Outside of inference mode: a result that may enter autograd later.
    return torch.cat(rows)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts `module` into eval mode and gives each submodule its own mode back, whatever it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
