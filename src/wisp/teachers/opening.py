"""Opens the teacher that a run names: a timm name, a run folder or exported encoder of wisp, or a checkpoint file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from wisp import methods
from wisp.encoders import cifar_stem, stock
from wisp.encoders.heads import read_mlp
from wisp.encoders.public import read_public
from wisp.encoders.stock import EncoderSpec
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.errors import WispError, nearest, one_line, suggestion
from wisp.export.card import CARD, read_card
from wisp.export.classifier import read_classifier
from wisp.export.head import read_head
from wisp.export.program import Program
from wisp.export.stock import load_encoder
from wisp.files import at_home, nearest_paths
from wisp.methods.parts.taught import Frozen, TaughtOnline, Tutored
from wisp.teachers import bills
from wisp.train.folder import exported


def _headless() -> None:
    """What offers an encoder alone."""


@dataclass(frozen=True)
class _Opened:
    """What was found: an encoder, what reads its head, how its images are prepared, its name and its bill.

    Where it was trained to name classes, also what reads the classifier's tensors and these names.
    """

    encoder: nn.Module
    head: Callable[[], nn.Module | None]
    features: int
    own: Sight
    origin: str
    bill: Bill
    classifier: Callable[[], tuple[Mapping[str, Tensor], Sequence[str] | None] | None] = _headless
    nameless: bool = False
    """Whether nobody says which classes they are, so that it serves only where it is asked for."""


def open_teacher(
    method: str,
    config: TaughtOnline,
    student: EncoderSpec,
    kind: Literal["frozen", "online"],
    seed: int,
    classes: Sequence[str] | None = None,
) -> Teacher:
    """The teacher of a run, on the CPU.

    Args:
        method: its name, for messages.
        config: of the method; a `Frozen` where the teacher is frozen.
        student: whose views it will be given.
        kind: an online teacher may begin without weights; then its name is one of an architecture. It sees the
            student's images at their resolution, and has no head.
        seed: of the fresh weights of an online teacher.
        classes: of the training images, for a `Tutored` config; its teacher gets its own classifier of these, if it
            has one and none is to be probed.

    Raises:
        WispError: there is none, it cannot be had, or it does not fit.
    """
    if config.teacher is None:
        raise WispError(
            f"{method} needs a teacher; --teacher takes a timm name, a run folder of wisp, or a checkpoint file"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = _opened(config.teacher, config, student if kind == "online" else None)
    head, size, remedy = None, student.image_size, "use another --image-size, or another teacher"
    if isinstance(config, Frozen) and kind == "frozen":
        size, remedy = config.teacher_size or found.own.image_size, "use another --method.teacher-size"
    elif kind == "frozen":
        size = found.own.image_size
    if kind == "frozen":
        head = _head(found, getattr(config, "teacher_head", "none"))  # some tasks have no use for one
    elif isinstance(found.encoder, Program):
        raise WispError(f"the teacher {found.origin} is a program, which cannot learn; name one with stock weights")
    own = replace(found.own, image_size=size)
    with one_line(f"the teacher {found.origin} does not take {size} px", remedy):
        width = _width(found.encoder, head, size)
    return Teacher(
        found.encoder,
        head,
        _classifier(found, config, classes or ()) if isinstance(config, Tutored) else None,
        features=found.features,
        width=width,
        own=own,
        student=Sight(image_size=student.image_size, mean=student.mean, std=student.std),
        origin=found.origin,
        bill=found.bill,
    )


def _head(found: _Opened, asked: Literal["pretrained", "none"]) -> nn.Module | None:
    if asked == "none":
        return None
    head = found.head()
    if head is None:
        raise WispError(f"the teacher {found.origin} comes without a projection head; use --method.teacher-head none")
    first = next((part for part in head.modules() if isinstance(part, nn.Linear)), None)
    if first is None:
        raise WispError(f"the head of the teacher {found.origin} has no matrix; use --method.teacher-head none")
    if first.in_features != found.features:
        raise WispError(
            f"the head of the teacher {found.origin} takes {first.in_features} numbers and its encoder gives "
            f"{found.features}; use --method.teacher-head none"
        )
    return head


def _classifier(found: _Opened, config: Tutored, classes: Sequence[str]) -> nn.Linear | None:
    """The teacher's own, where it knows these classes; None where it is to be probed, or nobody asks.

    Neither a checkpoint file nor timm names its classes: such a classifier serves where it is asked for.

    Raises:
        WispError: its own is asked for, and it has none or one of other classes.
    """
    asked = config.teacher_classifier
    if asked == "probed" or not config.asks_classes or (asked is None and found.nameless):
        return None
    if (read := found.classifier()) is None:
        if asked is None:
            return None
        raise WispError(
            f"the teacher {found.origin} comes without a classifier; use --method.teacher-classifier probed"
        )
    tensors, names = read
    known = len(tensors["bias"])
    if known != len(classes) or (names is not None and list(names) != list(classes)):
        if asked is None:
            return None
        has = "has other classes" if known == len(classes) else f"knows {known} classes, not {len(classes)}"
        raise WispError(f"the teacher {found.origin} {has}; use --method.teacher-classifier probed")
    classifier = nn.Linear(found.features, known)
    with one_line(
        f"the classifier of the teacher {found.origin} does not fit", "use --method.teacher-classifier probed"
    ):
        classifier.load_state_dict(dict(tensors))
    return classifier


def _opened(teacher: str, config: TaughtOnline, beside: EncoderSpec | None) -> _Opened:
    """What `teacher` names; `beside` is the student where it learns along with it."""
    path = at_home(teacher)
    if not path.exists():  # as the hub spells the names of timm's weights
        path = at_home(teacher := teacher.removeprefix("timm/"))
    if stock.offers(teacher):  # as of data sets, a name wins over a folder or file of that name
        if config.teacher_model is not None:
            there = f"; the file is ./{teacher}" if path.is_file() else ""
            raise WispError(f"teacher_model is for checkpoint files, and {teacher} is the name of a model{there}")
        return _named(teacher, beside)
    if path.is_dir() or (path.is_file() and (path.parent / CARD).is_file()):
        if config.teacher_model is not None:
            raise WispError(f"teacher_model is for checkpoint files, and the card of {path.name} names its own")
        return _ours(exported(path))
    if path.is_file():
        return _public(path, config.teacher_model)
    if path.suffix or len(path.parts) > 1:
        choices = [*nearest_paths(teacher), *(stock.like(teacher) if len(path.parts) == 1 else ())]
        raise WispError(
            f"the teacher {teacher} does not exist; name a timm model, a run folder, or a checkpoint file"
            f"{suggestion(teacher, choices)}"
        )
    raise WispError(
        f"unknown teacher {teacher!r}: no file, no folder, and no model; nearest: "
        f"{', '.join(nearest(teacher, stock.names()))}"
    )


def _ours(path: Path) -> _Opened:
    """What wisp exported; its card knows what it cost."""
    folder = path if path.is_dir() else path.parent
    card = read_card(folder)
    if card["kind"] != "encoder":
        raise WispError(f"{folder} holds a classifier; name the folder of its encoder, {folder.parent}")
    try:
        seen, cost, model = card["preprocessing"], card["cost"] or {}, str(card["model"])
        own = Sight(image_size=int(seen["image_size"]), mean=tuple(seen["mean"]), std=tuple(seen["std"]))
        method, features = str((card["method"] or {}).get("name", "wisp")), int(card["features"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WispError(f"{folder / CARD} lacks {error}; export the teacher again") from error
    name = f"{model} by {methods.titled(method)}"
    bill = bills.of_run(cost, name, method)
    on_top = partial(read_classifier, folder)
    return _Opened(load_encoder(path), partial(read_head, folder), features, own, name, bill, on_top)


def _public(path: Path, model: str | None) -> _Opened:
    """A checkpoint file of a public format."""
    if model is None:
        raise WispError(f"{path.name} does not say its architecture; name it with --method.teacher-model")
    spec = stock.spec_of_weights(model)
    encoder = spec.build()
    found = read_public(path, encoder)
    encoder.load_state_dict(found.encoder)
    tensors, activation = found.head, found.activation

    def head() -> nn.Module | None:
        if tensors is None:
            return None
        with one_line(f"the head in {path.name} cannot be read", "use --method.teacher-head none"):
            return read_mlp(tensors, activation)

    tagged = "." in model  # and then asked for; else the format may tell, and nobody knows where it does not
    told, usual, side, origin = found.normalisation, (spec.mean, spec.std), spec.image_size, f"{model} ({path.name})"
    if found.padding is not None:  # no released code but solo-learn's has such a stem
        told, usual, side = None, (stock.CIFAR_MEAN, stock.CIFAR_STD), cifar_stem.SIDE
        origin = f"{model} with a 3x3 stem, padding {found.padding} ({path.name})"
    mean, std = (spec.mean, spec.std) if tagged else told or usual
    own = Sight(image_size=side, mean=mean, std=std, assumed=not tagged and told is None)
    bill = bills.of_file(encoder, found, own.image_size)

    def classifier() -> tuple[Mapping[str, Tensor], None] | None:
        return None if found.classifier is None else (found.classifier, None)

    return _Opened(encoder, head, spec.features, own, origin, bill, classifier, nameless=True)


def _named(name: str, beside: EncoderSpec | None) -> _Opened:
    """A timm name with its pre-trained weights; for an online teacher an architecture with fresh ones."""
    architecture, _, tag = name.partition(".")
    if beside is not None:
        if tag:
            raise WispError(
                f"a teacher that learns along begins with fresh weights, and {tag} are trained ones; name "
                f"{architecture}, or a file of weights with --method.teacher-model"
            )
        spec = _beside(architecture, beside)
        own = Sight(image_size=beside.image_size, mean=beside.mean, std=beside.std)
        free = Bill(flops=0, certainty="known", note="learns beside the student, from fresh weights", labels=False)
        origin = f"{name} with a small stem" if spec.has_small_stem else name
        return _Opened(spec.build(), _headless, spec.features, own, origin, free)
    spec = stock.spec(architecture)
    remedy = "name a run of wisp, or a checkpoint file with --method.teacher-model"
    if Path(name).exists():
        remedy = f"the {'folder' if Path(name).is_dir() else 'file'} of this name is ./{name}"
    if not spec.is_timm:
        raise WispError(f"nobody offers weights of {name}; {remedy}")
    encoder, spec = stock.pretrained(name, remedy)
    own = Sight(image_size=spec.image_size, mean=spec.mean, std=spec.std)
    labelled = stock.names_classes(encoder)
    bill = bills.unknown(labelled or None)  # others may have seen captions

    def classifier() -> tuple[Mapping[str, Tensor], None] | None:
        tensors = stock.pretrained_classifier(name, remedy) if labelled else None
        return None if tensors is None else (tensors, None)

    return _Opened(encoder, _headless, spec.features, own, name, bill, classifier, nameless=True)


def _beside(architecture: str, student: EncoderSpec) -> EncoderSpec:
    """What learns beside the student, on images of its size; --stem small is for both, where this one offers it."""
    if student.has_small_stem:
        with suppress(WispError):
            return stock.spec(architecture, student.image_size, "small")
    return stock.spec(architecture, student.image_size)


def _width(encoder: nn.Module, head: nn.Module | None, side: int) -> int:
    """E of what the teacher gives, found out on one image."""
    encoder.eval()
    with torch.inference_mode():
        features = encoder(torch.zeros(1, 3, side, side))
        if head is None:
            return int(features.shape[1])
        return int(head.eval()(features).shape[1])
