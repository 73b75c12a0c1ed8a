"""Encoder names to encoders: the only place that knows timm's models (its LARS is in `train/optimizers.py`).

A spec is what a card stores: the call that rebuilds the network, and how its images are prepared.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from wisp.errors import WispError, first_line, nearest, one_line
from wisp.muting import muted

Triple = tuple[float, float, float]
CIFAR_MEAN: Triple = (0.4914, 0.4822, 0.4465)
CIFAR_STD: Triple = (0.2470, 0.2435, 0.2616)
OURS = {"resnet8": 64, "resnet20": 64, "resnet20x2": 128, "resnet20x4": 256} | {
    f"resnet{depth}_pad": 64 for depth in (20, 32, 44, 56)
}
"""Our own encoders and their features."""
SMALL_STEM = "wisp.encoders.stock.small_stem"


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """How an encoder is built and fed. `factory(**kwargs)` gives [B,3,H,W] (normalised) -> [B,D]."""

    name: str
    factory: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    features: int
    stride: int
    """Total down-sampling: images smaller than this leave no pixel in the last map."""
    image_size: int
    mean: Triple
    std: Triple
    any_size: bool = False
    """Whether `build` gives a transformer that resamples its position embedding for views of other sizes. The card's
    call never does: weights and, at `image_size`, outputs are the same."""

    @property
    def is_timm(self) -> bool:
        """Whether plain timm rebuilds this encoder."""
        return self.factory.startswith("timm.")

    @property
    def has_small_stem(self) -> bool:
        """Whether it is a timm network whose stem was changed for small images."""
        return self.factory == SMALL_STEM

    def build(self) -> nn.Module:
        """A fresh encoder with random weights from torch's global generator."""
        return call(self.factory, self.kwargs | ({"dynamic_img_size": True} if self.any_size else {}))

    def stays_plain(self) -> bool:
        """Whether at `image_size` the network that resamples its positions computes what the card's call does."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network, plain = self.build().eval(), call(self.factory, self.kwargs).eval()
            plain.load_state_dict(network.state_dict(), strict=True)
            image = torch.rand(1, 3, self.image_size, self.image_size)
            return torch.equal(network(image), plain(image))

    def takes(self, side: int) -> str | None:
        """None where `build` gives a network that takes images of `side` pixels, else what it says of them."""
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                self.build().to("meta").eval()(torch.empty(1, 3, side, side, device="meta"))
        except Exception as error:  # whatever a network's own code raises
            return first_line(error)
        return None


def call(factory: str, kwargs: dict[str, Any]) -> nn.Module:
    """Calls `module.function(**kwargs)`; the form in which a card names an encoder.

    Raises:
        WispError: the factory is neither timm's nor wisp's own.
    """
    if factory not in {"timm.create_model", SMALL_STEM, *(f"wisp.encoders.cifar_resnet.{name}" for name in OURS)}:
        raise WispError(f"unknown encoder factory {factory!r}; a card names timm.create_model or a wisp encoder")
    module, _, function = factory.rpartition(".")
    build: Callable[..., nn.Module] = getattr(importlib.import_module(module), function)
    return build(**kwargs)


def names() -> list[str]:
    """Every encoder name: ours first, then timm's."""
    import timm

    return [*OURS, *timm.list_models()]


def offers(name: str) -> bool:
    """Whether a name is one of `names()`, or a timm model's with one of its sets of weights ("resnet50.a1_in1k")."""
    import timm

    return name in names() or timm.models.is_model_pretrained(name)


def like(name: str) -> list[str]:
    """What somebody may have meant by `name`: sets of weights of its architecture, where there is one, else names."""
    import timm

    architecture = name.partition(".")[0]
    return timm.list_pretrained(f"{architecture}.*") if architecture in timm.list_models() else names()


def spec(name: str, image_size: int | None = None, stem: str = "stock") -> EncoderSpec:
    """Describes the encoder `name`, at its own resolution unless `image_size` is given.

    Args:
        name: one of `names()`.
        image_size: side of the square images, in pixels.
        stem: `stock` leaves the network as it is, `small` is `small_stem`.

    Raises:
        WispError: unknown name, a stem that the encoder does not offer, or an image size that it does not take.
    """
    return _spec(name, image_size, stem)


@cache
def _spec(name: str, image_size: int | None, stem: str) -> EncoderSpec:
    if name in OURS:
        if stem == "small":
            raise WispError(f"--stem small has nothing to do: the stem of {name} is small already; leave it out")
        size = image_size or 32
        return EncoderSpec(
            name=name,
            factory=f"wisp.encoders.cifar_resnet.{name}",
            features=OURS[name],
            stride=4,
            image_size=size,
            mean=CIFAR_MEAN,
            std=CIFAR_STD,
        )
    import timm

    known = timm.list_models()
    if name not in known:
        raise WispError(f"unknown model {name!r}; nearest: {', '.join(nearest(name, [*OURS, *known]))}")
    kwargs: dict[str, Any] = {"model_name": name, "num_classes": 0}
    build = small_stem if stem == "small" else timm.create_model
    with torch.random.fork_rng(devices=[]):
        with one_line(f"{name} cannot be built", "choose another --model"):
            encoder = build(**kwargs)
        pretrained: Any = encoder.pretrained_cfg
        own = int(pretrained["input_size"][-1])
        size = image_size or own
        remedy = f"use its own {own} (some networks take a multiple of it), or another --model"
        with one_line(f"{name} does not take --image-size {size}", remedy):
            if size != own and getattr(encoder, "patch_embed", None) is not None:
                kwargs["img_size"] = size
                encoder = build(**kwargs)
            features = _features(encoder, size if "img_size" in kwargs else max(size, 32))
    return EncoderSpec(
        name=name,
        factory=SMALL_STEM if stem == "small" else "timm.create_model",
        kwargs=kwargs,
        features=features,
        stride=_stride(encoder) // _stem_gain(stem, encoder),
        image_size=size,
        mean=tuple(pretrained["mean"]),
        std=tuple(pretrained["std"]),
    )


def pretrained(name: str, remedy: str) -> tuple[nn.Module, EncoderSpec]:
    """A timm encoder with the weights that timm offers for it, downloaded unless they are on this machine.

    Args:
        name: of the model, or of the model and one of its sets of weights ("resnet50.a1_in1k").
        remedy: what else the user may do.

    Raises:
        WispError: there are none, or they cannot be had.
    """
    import timm

    with one_line(f"timm's weights of {name} cannot be loaded", remedy), muted("huggingface_hub", "timm"):
        encoder: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
    return encoder, _fed(spec(name.partition(".")[0]), encoder.pretrained_cfg)


def names_classes(encoder: nn.Module) -> bool:
    """Whether what timm offers for an encoder was trained to name ImageNet's classes; CLIP's layer names none."""
    from timm.data import infer_imagenet_subset

    return infer_imagenet_subset(encoder.pretrained_cfg) is not None


def pretrained_classifier(name: str, remedy: str) -> dict[str, Tensor] | None:
    """Weight [C,D] and bias [C] of what names classes on top of `pretrained(name, remedy)`; None where nothing does.

    Raises:
        WispError: as `pretrained`.
    """
    import timm

    with one_line(f"timm's weights of {name} cannot be loaded", remedy), muted("huggingface_hub", "timm"):
        layer: Any = timm.create_model(name, pretrained=True).get_classifier()
    return dict(layer.state_dict()) if isinstance(layer, nn.Linear) and layer.bias is not None else None


def spec_of_weights(name: str) -> EncoderSpec:
    """As `spec`, and for one of timm's sets of weights ("resnet50.a1_in1k") with its resolution and normalisation.

    Raises:
        WispError: unknown name or weights.
    """
    import timm

    architecture, _, tag = name.partition(".")
    found = spec(architecture)
    if not tag:
        return found
    if not timm.models.is_model_pretrained(name):
        close = nearest(name, [architecture, *timm.list_pretrained(f"{architecture}.*")])
        raise WispError(f"unknown model {name!r}; nearest: {', '.join(close)}")
    told: Any = timm.get_pretrained_cfg(name)
    own = spec(architecture, int(told.input_size[-1]))
    return _fed(own, told.to_dict())


def _fed(own: EncoderSpec, told: Any) -> EncoderSpec:
    """With the resolution and normalisation of timm's settings."""
    return replace(own, image_size=int(told["input_size"][-1]), mean=tuple(told["mean"]), std=tuple(told["std"]))


def synchronised(network: nn.Module) -> nn.Module:
    """`network` with SyncBatchNorm in the place of every BatchNorm, timm's fused kinds included."""
    from timm.layers import convert_sync_batchnorm

    converted: nn.Module = convert_sync_batchnorm(network)
    return converted


def small_stem(**kwargs: Any) -> nn.Module:
    """`timm.create_model(**kwargs)` for small images: the stem convolution keeps the resolution, a stem pooling goes.

    The weights have the stock names and shapes, but not the stock meaning, so that a card names this factory.

    Raises:
        WispError: the network reads its image through more than one convolution, or not with stride 2.
    """
    import timm

    encoder: nn.Module = timm.create_model(**kwargs)
    stems = [m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3 and m.groups == 1]
    if len(stems) != 1 or stems[0].stride != (2, 2):
        raise WispError(f"--stem small needs one stem convolution of stride 2; {kwargs['model_name']} has another stem")
    stems[0].stride = (1, 1)
    if isinstance(getattr(encoder, "maxpool", None), nn.MaxPool2d):
        encoder.maxpool = nn.Identity()
    return encoder


def _features(encoder: nn.Module, size: int) -> int:
    """D, measured: `num_features` leaves out a head convolution behind the pooling (MobileNetV3)."""
    encoder.eval()
    with torch.no_grad():
        return int(encoder(torch.zeros(1, 3, size, size)).shape[1])


def _stem_gain(stem: str, encoder: nn.Module) -> int:
    """By how much the small stem lowers the total stride."""
    if stem == "stock":
        return 1
    return 4 if isinstance(getattr(encoder, "maxpool", None), nn.Identity) else 2


def _stride(encoder: nn.Module) -> int:
    info = getattr(encoder, "feature_info", None)
    reductions = [int(stage["reduction"]) for stage in info] if isinstance(info, list) and info else [1]
    return max(reductions)
