"""An encoder and its linear classifier as one stock network, as timm builds it with `num_classes`, and apart again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from wisp.encoders.stock import EncoderSpec, call
from wisp.encoders.weights import mismatches
from wisp.errors import WispError
from wisp.export.card import CARD, file_name, read_card
from wisp.export.stock import read_weights, standalone

CLASSIFIER = "classifier"
"""Folder of a classifier, in that of its encoder."""


def with_classifier(spec: EncoderSpec, encoder: nn.Module, classifier: nn.Linear) -> tuple[EncoderSpec, nn.Module]:
    """The network of both, [B,3,H,W] -> [B,C], on the CPU in float32 and eval mode; neither is changed.

    Args:
        spec: of the encoder.
        encoder: [B,3,H,W] -> [B,D].
        classifier: [B,D] -> [B,C].

    Returns:
        The stock network with C classes and their tensors, and its spec. Where there is none that computes the same
        (a narrow encoder, or a network with more than one classifier) both stand one after another, as `encoder` and
        `classifier`; no call rebuilds that.
    """
    classes = classifier.out_features
    stock = replace(spec, kwargs={**spec.kwargs, "num_classes": classes}, features=classes)
    parts = standalone(nn.Sequential(OrderedDict(encoder=encoder, classifier=classifier)))
    with torch.random.fork_rng(devices=[]):
        network = call(stock.factory, stock.kwargs).eval()
    name = classifier_of(network)
    own, on_top = (part.state_dict() for part in parts.children())
    tensors = own | {f"{name}.{key}": tensor for key, tensor in on_top.items()}
    if name is None or mismatches(network.state_dict(), tensors):
        return stock, parts
    network.load_state_dict(tensors)
    images = torch.rand(2, 3, spec.image_size, spec.image_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(network(images), parts(images))
    return stock, network if same else parts


def read_classifier(folder: Path) -> tuple[dict[str, Tensor], list[str]] | None:
    """Weight [C,D] and bias [C] of the classifier beside an exported encoder, and its classes; None without one.

    Raises:
        WispError: it is damaged.
    """
    place = folder / CLASSIFIER
    if not (place / CARD).is_file():
        return None
    content = read_card(place)
    tensors = read_weights(place / file_name(content, "safetensors"))
    try:
        build, classes = content["build"], list(content["classes"])
        name = CLASSIFIER if build is None else classifier_of(call(build["factory"], build["kwargs"]))
        return {key: tensors[f"{name}.{key}"] for key in ("weight", "bias")}, classes
    except (KeyError, TypeError) as error:
        raise WispError(f"{place} is no whole classifier ({error}); export it again") from error


def classifier_of(network: nn.Module) -> str | None:
    """What the linear classifier of a stock network is called; None where it has several or another kind of one."""
    name = getattr(network, "pretrained_cfg", {"classifier": "fc"})["classifier"]
    if not isinstance(name, str) or not isinstance(network.get_submodule(name), nn.Linear):
        return None
    return name
