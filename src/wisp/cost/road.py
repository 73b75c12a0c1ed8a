"""The whole road to a network, part by part: its teacher, a probe, generated images, its own training.

Source: Farhat and Chen 2023, section 4 and Figure 3: the price of a distillation holds the fine-tuning of the teacher
and the generation of images, but not the training of teacher and generator, which are had off the shelf; a network that
is pre-trained and then probed pays for its own pre-training. There is this reading, and one that counts everything of
which the cost is known: nobody tells what a generator's training took.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

Kind = Literal["teacher", "pre-training", "probe", "looks", "generation", "training"]
Certainty = Literal["known", "estimated", "unknown"]
OFF_THE_SHELF: Kind = "teacher"
"""What the paper's reading leaves out."""


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
    parts = [] if teacher is None else _before(teacher, given)
    ahead = {
        "probe": _ahead(cost, "probe", f"linear probe of {origin}", here),
        "looks": _ahead(cost, "looks", f"look at all images by {origin}", here),
    }
    parts += [part for part in ahead.values() if part is not None]
    if isinstance(extra := cost.get("extra"), Mapping):
        parts.append(_generated(extra))
    rest = whole - sum(part.flops or 0 for part in ahead.values() if part is not None)
    name = "linear probe" if given else "training" if teacher is None else "distillation"
    if teacher is not None and teacher.get("classifier") == "probed" and ahead["probe"] is None:
        name += ", and the teacher's probe, which was not timed"
    parts.append(
        Part(
            kind="probe" if given else "training",
            what=name if of is None else f"{name} of {of}",
            flops=rest,
            seconds=_amount(cost.get("seconds")),
            machine=here,
        )
    )
    return tuple(parts)


def off_the_shelf(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Without what others have trained, as the paper counts."""
    return tuple(part for part in parts if part.kind != OFF_THE_SHELF)


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


def as_teachers(parts: Sequence[Part]) -> tuple[dict[str, Any], ...]:
    """The road of a run that goes on to teach, as plain values for its student's receipt.

    A run that only probed a network stays what it was: the probe of a teacher, which no shelf has.
    """
    *before, own = parts
    kept: Kind = "probe" if own.kind == "probe" else OFF_THE_SHELF
    return tuple(
        asdict(part) | {"kind": kind} for part, kind in (*((part, OFF_THE_SHELF) for part in before), (own, kept))
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


def _before(teacher: Mapping[str, Any], given: bool) -> list[Part]:
    """What the teacher cost before this run; where the run hands it out, its last training was a pre-training."""
    origin, recorded = teacher.get("origin"), teacher.get("parts")
    parts = [_read(each) for each in recorded if isinstance(each, Mapping)] if isinstance(recorded, Sequence) else []
    if not parts:
        if _amount(teacher.get("flops")) == 0:  # it learns beside the student, in the same steps
            return []
        parts = [_read({**teacher, "kind": OFF_THE_SHELF, "what": f"training of {origin}"})]
    if given:
        last = parts.pop()
        what = f"pre-{last.what}" if last.what.startswith("training of ") else last.what
        parts.append(replace(last, kind="pre-training", what=what))
    return parts


def _read(part: Mapping[str, Any]) -> Part:
    """A part as `as_teachers` wrote it; what is damaged is unknown."""
    flops, kind, word = _whole(part.get("flops")), part.get("kind"), part.get("certainty")
    return Part(
        kind=next((known for known in get_args(Kind) if known == kind), OFF_THE_SHELF),
        what=str(part.get("what")),
        flops=flops,
        seconds=_amount(part.get("seconds")),
        certainty="unknown" if flops is None else "known" if word == "known" else "estimated",
        machine=_text(part.get("machine")),
    )


def _ahead(cost: Mapping[str, Any], kind: Literal["probe", "looks"], what: str, machine: str | None) -> Part | None:
    """What the run did before its first step, where its receipt says so."""
    found = cost.get(kind)
    if not isinstance(found, Mapping):
        return None
    return _read({**found, "kind": kind, "what": what, "machine": machine, "certainty": "known"})


def _generated(extra: Mapping[str, Any]) -> Part:
    """Images that a pipeline made; its own training is off the shelf, and nobody knows it."""
    images, pipeline = _whole(extra.get("images")), extra.get("pipeline")
    what = f"generation of {'' if images is None else f'{images:,} '}images{f' by {pipeline}' if pipeline else ''}"
    return _read({**extra, "kind": "generation", "what": what, "certainty": "known"})


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
