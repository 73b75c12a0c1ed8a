"""An encoder that is its teacher: of its architecture, and fed as it was."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import torch
from torch import nn

from wisp.encoders import stock
from wisp.encoders.cifar_stem import has_cifar_stem
from wisp.encoders.stock import EncoderSpec
from wisp.encoders.teacher import Teacher
from wisp.encoders.weights import in_short, mismatches
from wisp.errors import WispError


def adopted(teacher: Teacher, model: str, image_size: int | None, stem: str) -> EncoderSpec:
    """The spec of an encoder that takes a teacher's weights: with its normalisation, at its resolution.

    Args:
        teacher: on the CPU.
        model: name of the encoder.
        image_size: another resolution, where the user names one.
        stem: of the encoder.

    Raises:
        WispError: the teacher is another network than this encoder.
    """
    spec = stock.spec(model, image_size, stem)
    if image_size is None:
        with suppress(WispError):  # another network may not take it
            spec = stock.spec(model, teacher.own.image_size, stem)
    with torch.random.fork_rng(devices=[]):
        network = spec.build().eval()
    tensors = teacher.encoder.state_dict()
    if has_cifar_stem(tensors, network):
        raise WispError(
            f"the teacher {teacher.origin} has a stem that no {model} of timm's has, and cannot be an encoder itself; "
            "distil from it instead"
        )
    if wrong := mismatches(network.state_dict(), tensors):
        raise WispError(
            f"the teacher {teacher.origin} is no {model} ({in_short(wrong)}); name its architecture with --model"
            + ("" if image_size is None else ", and leave out --image-size")
        )
    network.load_state_dict(tensors)
    if not _alike(network, teacher.encoder, spec.image_size):
        raise WispError(
            f"the teacher {teacher.origin} has the weights of {model} and computes something else; use the --stem that "
            "it was trained with"
        )
    return replace(spec, mean=teacher.own.mean, std=teacher.own.std)


def _alike(one: nn.Module, other: nn.Module, side: int) -> bool:
    """Whether two networks in evaluation mode give the same features of two images."""
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return torch.allclose(one(images), other(images), rtol=1e-4, atol=1e-5)
