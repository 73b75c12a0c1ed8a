"""Checkpoint files of others to an encoder's tensors, by the names that public code gives them.

Source: the released code of MoCo, MoCo v3, SwAV and DINO, solo-learn, and the CIFAR ResNets of akamaster. A file that
may run code when it is read is refused.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from wisp.encoders.cifar_stem import give_cifar_stem, has_cifar_stem
from wisp.encoders.heads import RELU
from wisp.encoders.stock import Triple
from wisp.encoders.weights import in_short, mismatches, with_counts
from wisp.errors import WispError, first_line

Normalisation = tuple[Triple, Triple]
"""Mean and standard deviation of the channels."""
IMAGENET: Normalisation = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_RESNET = "CIFAR ResNet"
"""The format of akamaster's trainer, which takes 200 epochs."""
SOLO = "solo-learn"
SOLO_CLASSIFIER = "classifier.weight"
"""What its files always hold: the classifier that it trains beside the encoder to watch it."""
SWAV: Normalisation = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
"""The released code's standard deviation of red, in training and in evaluation."""

_CLASSIFIERS = ("fc.", "head.fc.", "head.", "head_dist.", "classifier.", "linear.")
"""How encoders call their last layer; MoCo puts its head there."""


class Found(NamedTuple):
    """What a file holds.

    Attributes:
        encoder: loads strictly.
        classifier: weight [C,D] and bias [C] of what was trained with the encoder to name classes; None without one.
        head: of the projection head, by index in it ("0.weight"), as `wisp.encoders.heads.read_mlp` takes it; None
            where the file has none.
        activation: makes what stands between the head's layers.
        format: the one that fitted.
        normalisation: of the released code; None where the format does not tell, so that it is the encoder's own.
        padding: of the 3x3 stem that the encoder was given, for the file has it; None where it kept its own.
    """

    encoder: dict[str, Tensor]
    classifier: dict[str, Tensor] | None
    head: dict[str, Tensor] | None
    activation: Callable[[], nn.Module]
    format: str
    normalisation: Normalisation | None
    padding: int | None


@dataclass(frozen=True, kw_only=True)
class _Format:
    """Where a format keeps what.

    Attributes:
        name: for messages.
        places: entries of the file that may hold the tensors; "" is the file itself.
        encoder: what the names of the encoder's tensors may begin with.
        heads: what those of the head may begin with.
        beside: what those of other parts begin with, where the encoder's have no beginning of their own.
        activation: of the head.
        normalisation: of the released code.
    """

    name: str
    places: tuple[str, ...]
    encoder: tuple[str, ...] = ("",)
    heads: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    activation: Callable[[], nn.Module] = RELU
    normalisation: Normalisation | None = None


FORMATS = (
    _Format(
        name="DINO",
        places=("teacher", "student"),
        encoder=("backbone.",),
        heads=("head.mlp.",),
        activation=nn.GELU,
        normalisation=IMAGENET,
    ),
    _Format(
        name="MoCo v1/v2",
        places=("state_dict",),
        encoder=("encoder_q.",),
        heads=tuple(f"encoder_q.{name}" for name in _CLASSIFIERS),
        normalisation=IMAGENET,
    ),
    _Format(
        name="MoCo v3",
        places=("state_dict",),
        encoder=("base_encoder.",),
        heads=tuple(f"base_encoder.{name}" for name in _CLASSIFIERS),
        normalisation=IMAGENET,
    ),
    _Format(
        name=SOLO,
        places=("state_dict", "model", ""),
        encoder=("backbone.", "encoder."),
        heads=("projector.",),
    ),
    _Format(
        name="SwAV",
        places=("state_dict", ""),
        heads=("projection_head.",),
        beside=("projection_head.", "prototypes."),
        normalisation=SWAV,
    ),
    _Format(name=CIFAR_RESNET, places=("state_dict",), beside=("linear.",), normalisation=IMAGENET),
    _Format(name="plain timm or torchvision", places=("state_dict", "model", "")),
)
"""The first whose names occur in a file is the file's. `module.`, which DataParallel adds, is taken off before."""

LABEL_FREE = ("DINO", "MoCo v1/v2", "MoCo v3", "SwAV")
"""Formats whose released code trains without labels; that of solo-learn and plain files may hold anything."""


def read_public(path: Path, encoder: nn.Module) -> Found:
    """The tensors of `encoder`, freshly built, and of its projection head, from a checkpoint file.

    `encoder` loads nothing; where the file holds a ResNet for images of 32 pixels, it gets the stem of those. Every
    tensor of the encoder must be there with its shape, and no other; only BatchNorm's count of batches may be absent,
    as in old files. What belongs to the training alone (slow copies, queues, prototypes) is left in the file. Of DINO
    it is the teacher where the file has one, of MoCo the query encoder.

    Raises:
        WispError: there is no such file, it is damaged or holds more than tensors and plain values, its format is
            unknown, or its tensors do not fit (named).
    """
    content = _content(path)
    form, tensors = _identified(content, path)
    prefix = next(start for start in form.encoder if any(name.startswith(start) for name in tensors))
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    padding = None
    if has_cifar_stem(own, encoder):
        padding = 2 if form.name == SOLO and SOLO_CLASSIFIER in tensors else 1  # others have its prefixes too
        give_cifar_stem(encoder, padding)
    expected = encoder.state_dict()
    aside = tuple(name for name in own if name.startswith(_CLASSIFIERS + form.beside) and name not in expected)
    own = {name: tensor for name, tensor in own.items() if name not in aside}
    whole = with_counts(own, expected)
    if wrong := mismatches(expected, whole):
        known = form is not FORMATS[-1] or any(name in expected for name in own)
        raise _misfit(path, form, wrong, content) if known else _unknown(path, tensors)
    head = _head(tensors, form, {f"{prefix}{name}" for name in own})
    classifier = _classifier({name: tensors[f"{prefix}{name}"] for name in aside}, form)
    return Found(whole, classifier, head, form.activation, form.name, form.normalisation, padding)


def _classifier(aside: Mapping[str, Tensor], form: _Format) -> dict[str, Tensor] | None:
    """That of a network trained with labels; in MoCo's files a head has its name, others have more than one."""
    found = {name.rpartition(".")[2]: tensor for name, tensor in aside.items()}
    plain = form.name in (CIFAR_RESNET, FORMATS[-1].name) and len(aside) == 2 and {*found} == {"weight", "bias"}
    return found if plain and found["weight"].ndim == 2 else None


def _content(path: Path) -> Mapping[str, Any]:
    """What a file holds, on the CPU."""
    if not path.is_file():
        raise WispError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; name a checkpoint file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
            return tensors
        # DINO keeps its command line; a Namespace is a bag of names.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch have no common class of error
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise WispError(f"{path} holds a {type(content).__name__} and no weights by name; save a state_dict")
    return content


def _unreadable(path: Path, error: Exception) -> WispError:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is None:
        reason = first_line(error).partition(". ")[0]
        return WispError(f"{path} is no whole checkpoint ({reason}); download or save it again")
    return WispError(
        f"{path} holds more than weights ({refused[1]}), and reading that may run code; if you trust it, save its "
        "state_dict alone, and name that file"
    )


def _identified(content: Mapping[str, Any], path: Path) -> tuple[_Format, dict[str, Tensor]]:
    """The format of a file, and its tensors."""
    for form in FORMATS:
        for place in form.places:
            tensors = _tensors(content.get(place) if place else content)
            if any(name.startswith(form.beside or form.encoder) for name in tensors):
                return form, tensors
    raise _unknown(path, content)


def _tensors(content: Any) -> dict[str, Tensor]:
    """Tensors by name, without what a parallel wrapper puts before all of them."""
    found = {}
    if isinstance(content, Mapping):
        found = {str(name): tensor.detach() for name, tensor in content.items() if isinstance(tensor, Tensor)}
    wrapped = all(name.startswith("module.") for name in found)
    return {name.removeprefix("module.") if wrapped else name: tensor for name, tensor in found.items()}


def _head(tensors: Mapping[str, Tensor], form: _Format, taken: set[str]) -> dict[str, Tensor] | None:
    """The head's tensors by index in it; a head of one layer has none."""
    for start in form.heads:
        part = {name[len(start) :]: t for name, t in tensors.items() if name.startswith(start) and name not in taken}
        if part:
            return {f"0.{name}" if name in ("weight", "bias") else name: tensor for name, tensor in part.items()}
    return None


def _misfit(path: Path, form: _Format, wrong: list[str], content: Mapping[str, Any]) -> WispError:
    said = content.get("arch") or getattr(content.get("args"), "arch", None)
    remedy = f"; the file says that it is {said}" if isinstance(said, str) else "; name the architecture that it holds"
    if form is FORMATS[-1]:
        remedy += " (of torchvision only ResNets have timm's names)"
    return WispError(f"{path}, read as {form.name}, does not fit its encoder: {in_short(wrong)}{remedy}")


def _unknown(path: Path, names: Mapping[str, Any]) -> WispError:
    first = ", ".join([*map(str, names)][:3]) or "nothing"
    formats = ", ".join(form.name for form in FORMATS)
    return WispError(
        f"{path} ({first}, ...) has none of the encoder's names and no format that wisp reads ({formats}; of "
        "torchvision only ResNets have timm's names); name the architecture that it holds"
    )
