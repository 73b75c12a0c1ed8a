"""The whole road to a network, part by part: its teacher, a probe, generated images, its own training.

Source: Farhat and Chen 2023, section 4 and Figure 3: the price of a distillation holds the fine-tuning of the teacher
and the generation of images, but not the training of teacher and generator, which are had off the shelf; a network that
is pre-trained and then probed pays for its own pre-training. There is this reading, and one that counts everything of
which the cost is known: nobody tells what a generator's training took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

Kind = Literal["teacher", "pre-training", "probe", "looks", "generation", "training"]
Certainty = Literal["known", "estimated", "unknown"]
TEACHER: Kind = "teacher"
_TRAININGS: tuple[Kind, ...] = (TEACHER, "pre-training", "training")
"""Kinds that make an encoder; what follows the last of them made no more than a classifier for it."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that was paid for.

    Attributes:
        kind: `teacher` is all that lies before a teacher's use, `pre-training` that of the network itself, `probe` a
            linear classifier, `looks` what a teacher made of all images once, `generation` of images, and `training`.
        what: in words.
        flops: None where nobody knows.
        seconds: likewise.
        certainty: of the FLOPs.
        machine: on which the time was taken; None where nobody knows.
    """

    kind: Kind
    what: str
    flops: int | None
    seconds: float | None = None
    certainty: Certainty = "known"
    machine: str | None = None


@dataclass(frozen=True, kw_only=True)
class Total:
    """Parts added up.

    Attributes:
        flops: of the parts of which they are known: the least that was paid.
        seconds: likewise.
        certainty: of the FLOPs: that of the least certain part.
        timed: whether the time of every part is known.
        machines: every one that took time; None among them is one that nobody knows. Of several, the sum is the time
            of no machine.
    """

    flops: int
    seconds: float
    certainty: Certainty
    timed: bool
    machines: tuple[str | None, ...]


def road(cost: Mapping[str, Any], *, machine: str | None = None, of: str | None = None) -> tuple[Part, ...]:
    """The parts of a receipt's or a card's `cost`, in their order; empty where nothing was recorded.

    Args:
        cost: also of a receipt that was written before it named parts.
        machine: of the run, where its cost does not name one.
        of: name of the network, where it is not the one that is looked at.
    """
    if (whole := _whole(cost.get("total_flops"))) is None:
        return ()
    here = _text(cost.get("machine")) or machine
    teacher = found if isinstance(found := cost.get("teacher"), Mapping) else None
    origin = "" if teacher is None else str(teacher.get("origin"))
    given = bool(teacher and teacher.get("handed_out"))
    parts = [*before(cost)]
    ahead = {
        "probe": _ahead(cost, "probe", f"linear probe of {origin}", here),
        "looks": _ahead(cost, "looks", f"look at all images by {origin}", here),
    }
    parts += [part for part in ahead.values() if part is not None]
    extra = found if isinstance(found := cost.get("extra"), Mapping) else None
    if extra is not None and _recorded(extra):
        parts.append(_generated(extra))
    rest = whole - sum(part.flops or 0 for part in ahead.values() if part is not None)
    name = "linear probe" if given else "training" if teacher is None else "distillation"
    if of is not None:
        name += f" of {of}"
    if extra is not None and not _recorded(extra):
        name += f", with {_images(extra)}extra images"
    if teacher is not None and teacher.get("classifier") == "probed" and ahead["probe"] is None:
        name += ", and the teacher's probe, which was not timed"
    parts.append(
        Part(
            kind="probe" if given else "training",
            what=name,
            flops=rest,
            seconds=_amount(cost.get("seconds")),
            machine=here,
        )
    )
    return tuple(parts)


def with_labels(labels: bool | None) -> str:
    """What follows a teacher's name: whether it learnt from labels, so that no student of it is label-free."""
    return ", with labels" if labels else ", nobody knows whether with labels" if labels is None else ""


def before(cost: Mapping[str, Any]) -> tuple[Part, ...]:
    """What the teacher of a run cost before the run: the first parts of its road; empty where it had none.

    Of a teacher everything up to its last training is a teacher's. A network that is handed out was trained for this
    run: that training is its pre-training, and what was paid for it stays what it was. A probe of the finished network
    stays a probe in both: no shelf has it.
    """
    teacher = cost.get("teacher")
    if not isinstance(teacher, Mapping):
        return ()
    recorded = teacher.get("parts")
    parts = [_read(each) for each in recorded if isinstance(each, Mapping)] if isinstance(recorded, Sequence) else []
    if not parts:
        if _amount(teacher.get("flops")) == 0:  # it learns beside the student, in the same steps
            return ()
        parts = [_read({**teacher, "kind": TEACHER, "what": f"training of {teacher.get('origin')}"})]
    last = max((place for place, part in enumerate(parts) if part.kind in _TRAININGS), default=-1)
    if not teacher.get("handed_out"):
        return tuple(replace(part, kind=TEACHER) if place <= last else part for place, part in enumerate(parts))
    if last >= 0:
        trained = parts[last]
        what = f"pre-{trained.what}" if trained.what.startswith("training of ") else trained.what
        parts[last] = replace(trained, kind="pre-training", what=what)
    return tuple(parts)


def off_the_shelf(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Without what others have trained, as the paper counts."""
    return tuple(part for part in parts if part.kind != TEACHER)


def total(parts: Sequence[Part]) -> Total:
    """All of them together."""
    certainties = {"unknown" if part.flops is None else part.certainty for part in parts}
    return Total(
        flops=sum(part.flops or 0 for part in parts),
        seconds=sum(part.seconds or 0.0 for part in parts),
        certainty=next((word for word in reversed(get_args(Certainty)) if word in certainties), "known"),
        timed=all(part.seconds is not None for part in parts),
        machines=tuple(dict.fromkeys(part.machine for part in parts if part.seconds is not None)),
    )


def machine_name(hardware: Mapping[str, Any], processes: int = 1) -> str | None:
    """The machine in a few words: its name, and the threads of a CPU; None where there is none.

    Args:
        hardware: as a receipt has it.
        processes: that train together, a device each.
    """
    threads = hardware.get("threads") if hardware.get("device") == "cpu" else None
    words = [
        hardware.get("name") or hardware.get("device"),
        f"{threads} thread{'s' * (threads != 1)}" if threads else 0,
    ]
    name = ", ".join(str(word) for word in words if word)
    return (f"{processes} x {name}" if processes > 1 else name) or None


def _read(part: Mapping[str, Any]) -> Part:
    """A part of a teacher's own road, of the kind that it had there; what is damaged is unknown."""
    flops, kind, word = _whole(part.get("flops")), part.get("kind"), part.get("certainty")
    return Part(
        kind=next((known for known in get_args(Kind) if known == kind), TEACHER),
        what=str(part.get("what")),
        flops=flops,
        seconds=_amount(part.get("seconds")),
        certainty="unknown" if flops is None else "known" if word == "known" else "estimated",
        machine=_text(part.get("machine")),
    )


def _ahead(cost: Mapping[str, Any], kind: Literal["probe", "looks"], what: str, machine: str | None) -> Part | None:
    """What the run did before its first step, where its receipt says so; `machine` where that does not say which."""
    found = cost.get(kind)
    if not isinstance(found, Mapping):
        return None
    return _read({"machine": machine, **found, "kind": kind, "what": what, "certainty": "known"})


def _recorded(extra: Mapping[str, Any]) -> bool:
    """Whether a manifest told how extra images were made; without one they are images as others are."""
    return bool(extra.keys() - {"images"})


def _generated(extra: Mapping[str, Any]) -> Part:
    """Images that a pipeline made; its own training is off the shelf, and nobody knows it."""
    pipeline = extra.get("pipeline")
    what = f"generation of {_images(extra)}images{f' by {pipeline}' if pipeline else ''}"
    return _read({**extra, "kind": "generation", "what": what, "certainty": "known"})


def _images(extra: Mapping[str, Any]) -> str:
    """How many, and a space; nothing where nobody counted."""
    images = _whole(extra.get("images"))
    return "" if images is None else f"{images:,} "


def _amount(value: object) -> float | None:
    """A finite number that is not negative, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def _whole(value: object) -> int | None:
    """The same as a whole number."""
    amount = _amount(value)
    return None if amount is None else value if isinstance(value, int) else round(amount)


def _text(value: object) -> str | None:
    return str(value) if value else None
