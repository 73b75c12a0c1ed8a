"""Opens the teacher that a run names: a timm name, a run folder or exported encoder of wisp, or a checkpoint file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wisp import methods
from wisp.cost.count import count_forward
from wisp.cost.road import road, total
from wisp.encoders import stock
from wisp.encoders.heads import read_mlp
from wisp.encoders.public import CIFAR_RESNET, read_public
from wisp.encoders.stock import EncoderSpec
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.errors import WispError, nearest, one_line, suggestion
from wisp.export.card import CARD, read_card
from wisp.export.classifier import read_classifier
from wisp.export.head import read_head
from wisp.export.program import Program
from wisp.export.stock import load_encoder
from wisp.files import nearest_paths
from wisp.methods.parts.taught import Frozen, TaughtOnline, Tutored
from wisp.train.folder import exported

UNKNOWN = Bill(flops=None, certainty="unknown", note="its training is not recorded")


def _headless() -> None:
    """What offers an encoder alone."""


@dataclass(frozen=True)
class _Opened:
    """What was found: an encoder, what reads its head, how its images are prepared, its name and its bill.

    Where it was trained to name classes, also what reads the classifier's tensors and, if they are known, these names.
    """

    encoder: nn.Module
    head: Callable[[], nn.Module | None]
    features: int
    own: Sight
    origin: str
    bill: Bill
    classifier: Callable[[], tuple[Mapping[str, Tensor], Sequence[str] | None] | None] = _headless


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
    first = next(part for part in head.modules() if isinstance(part, nn.Linear))
    if first.in_features != found.features:
        raise WispError(
            f"the head of the teacher {found.origin} takes {first.in_features} numbers and its encoder gives "
            f"{found.features}; use --method.teacher-head none"
        )
    return head


def _classifier(found: _Opened, config: Tutored, classes: Sequence[str]) -> nn.Linear | None:
    """The teacher's own, where it knows these classes; None where it is to be probed, or nobody asks.

    A checkpoint file does not name its classes: its classifier serves where it is asked for.

    Raises:
        WispError: its own is asked for, and it has none or one of other classes.
    """
    asked = config.teacher_classifier
    if asked == "probed" or not config.asks_classes:
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
    if names is None and asked is None:  # as many classes may be other ones
        return None
    classifier = nn.Linear(found.features, known)
    with one_line(
        f"the classifier of the teacher {found.origin} does not fit", "use --method.teacher-classifier probed"
    ):
        classifier.load_state_dict(dict(tensors))
    return classifier


def _opened(teacher: str, config: TaughtOnline, beside: EncoderSpec | None) -> _Opened:
    """What `teacher` names; `beside` is the student where it learns along with it."""
    path = Path(teacher).expanduser()
    if not path.exists():  # as the hub spells the names of timm's weights
        path = Path(teacher := teacher.removeprefix("timm/")).expanduser()
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
    if teacher.partition(".")[0] not in stock.names() and (path.suffix or len(path.parts) > 1):
        choices = [*nearest_paths(teacher), *(stock.names() if len(path.parts) == 1 else ())]
        raise WispError(
            f"the teacher {teacher} does not exist; name a timm model, a run folder, or a checkpoint file"
            f"{suggestion(teacher, choices)}"
        )
    return _named(teacher, beside)


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
    except (KeyError, TypeError, ValueError) as error:
        raise WispError(f"{folder / CARD} lacks {error}; export the teacher again") from error
    name = f"{model} by {method}"
    bill = _bill(cost, name, _labelled(method))
    on_top = partial(read_classifier, folder)
    return _Opened(load_encoder(path), partial(read_head, folder), features, own, name, bill, on_top)


def _labelled(method: str) -> bool:
    """Whether an encoder of a method of wisp learnt from labels; a probed one is as it was before."""
    kinds = vars(methods.load(method)).values() if method in methods.names() else ()
    return any(getattr(kind, "needs_labels", False) and getattr(kind, "taught", "no") != "adopted" for kind in kinds)


def _bill(cost: dict[str, Any], name: str, labels: bool) -> Bill:
    """The teacher's own training with all that lay before it: where it had a teacher, that one's too."""
    parts = road(cost, of=name)
    if not parts:
        return replace(UNKNOWN, labels=labels)
    before, whole, note = cost.get("teacher"), total(parts), f"{name}, trained by wisp"
    if before is not None:
        note += f", and its own teacher {before['origin']}"
        labels = labels or before.get("labels")
    flops = None if whole.certainty == "unknown" else whole.flops
    return Bill(flops=flops, certainty=whole.certainty, note=note, labels=labels, parts=tuple(map(asdict, parts)))


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
    mean, std = (spec.mean, spec.std) if tagged else found.normalisation or (spec.mean, spec.std)
    own = Sight(image_size=spec.image_size, mean=mean, std=std, assumed=not tagged and found.normalisation is None)
    bill = _estimated(encoder, found.format, own)

    def classifier() -> tuple[Mapping[str, Tensor], None] | None:
        return None if found.classifier is None else (found.classifier, None)

    return _Opened(encoder, head, spec.features, own, f"{model} ({path.name})", bill, classifier)


def _estimated(encoder: nn.Module, form: str, own: Sight) -> Bill:
    """What the trainer that writes such files takes when nobody tells it otherwise; other formats do not say."""
    if form != CIFAR_RESNET:
        return UNKNOWN
    epochs, images = 200, 50_000
    forward = count_forward(encoder, own.image_size)
    note = f"{epochs} epochs of {images:,} images, its trainer's defaults; a backward pass counts as two forward"
    return Bill(flops=3 * forward * epochs * images, certainty="estimated", note=note, labels=True)


def _named(name: str, beside: EncoderSpec | None) -> _Opened:
    """A timm name with its pre-trained weights; for an online teacher an architecture with fresh ones."""
    architecture = name.partition(".")[0]
    if architecture not in stock.names():
        raise WispError(
            f"unknown teacher {name!r}: no file, no folder, and no model; nearest: "
            f"{', '.join(nearest(architecture, stock.names()))}"
        )
    if beside is not None:
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
    return _Opened(encoder, _headless, spec.features, own, name, UNKNOWN)


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
