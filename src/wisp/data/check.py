"""Look through a data set before training on it: what is there, what cannot be read, what is there twice."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from wisp.data.sources import EXTENSIONS, CorruptImage, Source, most_corrupt, official, open_source, shown
from wisp.data.sources.decode import to_rgb
from wisp.data.sources.folder import FolderSource, scan
from wisp.data.sources.source import printable
from wisp.errors import WispError
from wisp.files import at_home

_TIGHT = 64  # pixels; below, threads cost more than they give
_NEWS = 64  # images between two calls of `progress`
_LISTED = 20  # classes that are shown one by one


@dataclass(frozen=True)
class Finding:
    """What one image turned out to be: its size and mode as stored and a digest of its pixels, or why it is bad."""

    index: int
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    digest: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The result of `check`.

    Attributes:
        data: what was checked.
        images: how many there are.
        looked_at: how many of them somebody tried to decode.
        per_class: images of each class, or None without labels.
        missing_labels: as in `Source`: so many images have no label although others have one.
        unclassed: why a folder has no classes, where little is missing for some.
        sizes: (width, height) of every image decoded, upright or not as stored.
        modes: stored pixel modes (PIL's names), most frequent first.
        bad: (name, reason) of every image that cannot be read.
        duplicates: (name, name of an earlier image with the very same pixels).
        ignored: files that are no images, by extension; only for folders.
        part: folder in `data` that a training takes, where it leaves others to the evaluation.
        empty: folders beside those of the classes that hold no image.
    """

    data: str
    images: int
    looked_at: int
    per_class: dict[str, int] | None
    missing_labels: int
    unclassed: str | None
    sizes: tuple[tuple[int, int], ...]
    modes: dict[str, int]
    bad: tuple[tuple[str, str], ...]
    duplicates: tuple[tuple[str, str], ...]
    ignored: dict[str, int]
    part: str | None = None
    empty: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a training on these images would run: few enough of them are bad."""
        return bool(self.sizes) and len(self.bad) <= most_corrupt(self.images)

    def lines(self) -> list[str]:
        """The report as plain text."""
        looked = "all looked at" if self.looked_at == self.images else f"{self.looked_at:,} of them looked at"
        out = [f"{self.data}: {self.images:,} images, {looked}", *_class_lines(self)]
        if self.part:
            out.insert(1, f"part     {self.part}; the rest of {self.data} is for evaluations")
        if self.empty:
            out.append(f"empty    {shown(self.empty)}")
        if self.sizes:
            out += [f"width    {_range([w for w, _ in self.sizes])}", f"height   {_range([h for _, h in self.sizes])}"]
            out.append("modes    " + ", ".join(f"{mode} {n:,}" for mode, n in self.modes.items()))
        if self.ignored:
            out.append("ignored  " + ", ".join(f"{n:,} {kind}" for kind, n in self.ignored.items()))
        if self.duplicates:
            has = "image has" if len(self.duplicates) == 1 else "images have"
            out.append(f"twice    {len(self.duplicates):,} {has} the pixels of another one:")
            out += [f"    {name} = {other}" for name, other in self.duplicates[:3]]
        out.append(
            f"bad      {len(self.bad):,}" + (f" image{'s' * (len(self.bad) > 1)} cannot be read:" if self.bad else "")
        )
        out += [f"    {name}: {reason}" for name, reason in self.bad]
        if not self.sizes:
            out.append("None can be read: this is nothing to train on.")
        elif not self.usable:
            out.append(
                f"Too many are bad: a training replaces up to {most_corrupt(self.images)}. Repair or remove them."
            )
        elif self.bad:
            out.append("A training replaces each bad image by the next good one, an evaluation leaves it out.")
        return out


def check(
    data: str,
    *,
    sample: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Decode the images of a data set and report on them.

    Args:
        data: as in `open_source`.
        sample: decode only so many, evenly spaced; all by default.
        progress: told (images decoded, images to decode) now and then.

    Raises:
        WispError: `data` is not a data set, or the sample is empty.
    """
    source = open_source(data)
    if sample is not None and sample < 1:
        raise WispError(f"the sample must have at least one image, not {sample}")
    count = len(source)
    wanted = range(count) if sample is None or sample >= count else [k * count // sample for k in range(sample)]
    findings = []
    for finding in _look_at(source, wanted):
        findings.append(finding)
        if progress and len(findings) % _NEWS == 0:
            progress(len(findings), len(wanted))
    good = [finding for finding in findings if not finding.reason]
    first: dict[bytes, int] = {}
    twins = [(f.index, first[f.digest]) for f in good if first.setdefault(f.digest, f.index) != f.index]
    return CheckReport(
        data=data,
        images=count,
        looked_at=len(findings),
        per_class=_per_class(source),
        missing_labels=source.missing_labels,
        unclassed=source.unclassed if isinstance(source, FolderSource) else None,
        sizes=tuple(finding.size for finding in good),
        modes=dict(Counter(finding.mode for finding in good).most_common()),
        bad=tuple((source.name(finding.index), finding.reason) for finding in findings if finding.reason),
        duplicates=tuple((source.name(index), source.name(other)) for index, other in twins),
        ignored=_ignored(source),
        part=None if official(data) else _part(source, at_home(data)),
        empty=() if official(data) else _empty(source),
    )


def _look_at(source: Source, wanted: Sequence[int]) -> Iterator[Finding]:
    """Findings in order; photos are decoded by as many threads as torch uses."""
    here = _finding(source, wanted[0])
    threads = torch.get_num_threads() if max(here.size) > _TIGHT else 1
    yield here
    if threads == 1:
        yield from (_finding(source, index) for index in wanted[1:])
        return
    with ThreadPoolExecutor(threads) as pool:  # a stretch at a time, for a pool would queue up all of them
        for start in range(1, len(wanted), 16 * threads):
            yield from pool.map(partial(_finding, source), wanted[start : start + 16 * threads])


def _finding(source: Source, index: int) -> Finding:
    try:
        image = source.open(index)
        size, mode = image.size, image.mode
        pixels = to_rgb(image, partial(source.name, index)).permute(1, 2, 0).contiguous().numpy()
    except CorruptImage as problem:
        return Finding(index, reason=problem.reason)
    digest = hashlib.blake2b(pixels.data, digest_size=16, salt=f"{size[0]}x{size[1]}".encode()[:16]).digest()
    return Finding(index, size, mode, digest)


def _per_class(source: Source) -> dict[str, int] | None:
    if source.classes is None:
        return None
    counts = Counter(source.label(index) for index in range(len(source)))
    return {name: counts[k] for k, name in enumerate(source.classes)}


def _class_lines(report: CheckReport) -> list[str]:
    missing, per_class = report.missing_labels, report.per_class
    if missing:
        return [
            f"classes  none: {missing:,} image{'s' * (missing > 1)} without a label, and the probes need all of them"
        ]
    if per_class is None:
        need = "only evaluations and methods for a task need labels, of two classes or more"
        return [f"classes  none: {need}", *([f"         the folder {report.unclassed}"] if report.unclassed else [])]
    line = f"classes  {len(per_class):,}, images in each: {_range(list(per_class.values()))}"
    if len(per_class) > _LISTED:
        return [line]
    uneven = len(set(per_class.values())) > 1
    return [line, "         " + ", ".join(name + f" {n:,}" * uneven for name, n in per_class.items())]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}, median {round(statistics.median(values)):,}"


def _part(source: Source, root: Path) -> str | None:
    if not isinstance(source, FolderSource) or source.root == root:
        return None
    return printable(source.root.relative_to(root).as_posix())


def _empty(source: Source) -> tuple[str, ...]:
    if not isinstance(source, FolderSource) or not source.classes:
        return ()
    used = {file.partition("/")[0] for file in source.files}
    folders = {place.name for place in source.root.iterdir() if place.is_dir() and not place.name.startswith(".")}
    return tuple(printable(name) for name in sorted(folders - used))


def _ignored(source: Source) -> dict[str, int]:
    if not isinstance(source, FolderSource):
        return {}
    others = [Path(name).suffix.lower() or "without extension" for name in scan(source.root, ("",))]
    return dict(Counter(kind for kind in others if kind not in EXTENSIONS).most_common())
