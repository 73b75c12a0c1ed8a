"""An encoder and its linear classifier as one stock network, as timm builds it with `num_classes`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import torch
from torch import nn

from wisp.encoders.stock import EncoderSpec, call
from wisp.encoders.weights import mismatches
from wisp.export.stock import standalone


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


def classifier_of(network: nn.Module) -> str | None:
    """What the linear classifier of a stock network is called; None where it has several or another kind of one."""
    name = getattr(network, "pretrained_cfg", {"classifier": "fc"})["classifier"]
    if not isinstance(name, str) or not isinstance(network.get_submodule(name), nn.Linear):
        return None
    return name
