"""Which images a run is trained on, in which an evaluation looks for neighbours, and which it asks about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wisp.data.sources import CorruptImage, Source, Subset, labels_of, most_corrupt, official, open_source, split_source
from wisp.data.sources.folder import FolderSource
from wisp.data.sources.named import canonical
from wisp.data.sources.source import printable, shown
from wisp.errors import WispError
from wisp.run import Run


def sources(run: Run[Any]) -> tuple[Source, Source | None, Source | None]:
    """Training images, and the labelled images (neighbours, questions) for evaluation where there are any.

    Where every image is the only one of its class, folders are no classes: nobody could be asked about them, and a
    training needs no questions. A --val that cannot serve is refused, for somebody asked for it.

    Raises:
        WispError: unreadable data, or a --val without labels, with other classes, or with the training images.
    """
    whole = open_source(run.data, "train")
    train = _part(whole, run.subset)
    if run.val is not None:
        test = open_source(run.val, "test")
        _refuse_unreadable(test, run.val)
        if test.classes is None:
            raise WispError(f"--val {run.val} {unlabelled(test)}")
        if whole.classes is None or (whole.classes != test.classes and _all_alone(whole)):
            if _all_alone(test):
                raise WispError(
                    f"--val {run.val} has no class with two images, one to look in and one to ask about; add images"
                )
            return train, *split_source(test, 0.5)
        _refuse_own_questions(whole, test)
        if whole.classes != test.classes:
            raise WispError(other_classes(whole.classes, test.classes))
        return train, train, test
    if whole.classes is None or _all_alone(whole):
        return train, None, None
    if official(run.data):
        return train, train, open_source(run.data, "test")
    rest, test = split_source(whole)  # whatever the seed and the subset: an evaluation later must find the same split
    train = _part(rest, run.subset)
    return train, train, test


def other_classes(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """What to say where they differ: which classes only one of --data and --val has."""
    alone = {"--data": sorted({*ours} - {*theirs}), "--val": sorted({*theirs} - {*ours})}
    told = [f"only {option} has {shown([*map(printable, names)])}" for option, names in alone.items() if names]
    found = " and ".join(told) or "theirs are in another order"
    return f"--val has other classes than --data: {found}; both need the same"


def _all_alone(source: Source) -> bool:
    """Whether every image of a labelled source is the only one of its class."""
    labels = labels_of(source)
    return len(set(labels)) == len(labels)


def unlabelled(source: Source) -> str:
    """What is wrong with images that should have labels, and the remedy; goes on after the option's name."""
    if source.missing_labels:
        return f"has no label for {source.missing_labels:,} of its images; leave these out"
    if isinstance(source, FolderSource) and source.unclassed is not None:
        return source.unclassed
    return "has no labels; use class folders or a parquet with a label column"


def _refuse_unreadable(test: Source, val: str) -> None:
    """Raises WispError where no image can be read: a training would only find out at its end."""
    bad: list[str] = []
    for index in range(min(len(test), most_corrupt(len(test)) + 1)):
        try:
            test.open(index)
            return
        except CorruptImage as problem:
            bad.append(str(problem))
    raise WispError(f"--val {val} has images that cannot be read ({shown(bad)}): `wisp check` names all; remove them")


def _refuse_own_questions(train: Source, test: Source) -> None:
    """Raises WispError where a question would be its own nearest neighbour, by whatever path it was named."""
    if train.places() & test.places():
        raise WispError("--val holds the training images; leave it out and a tenth of them is held out")


def _part(source: Source, count: int | None) -> Source:
    """So many images, evenly spaced: the first ones of a class folder would be of one class."""
    if count is None or count >= len(source):
        return source
    return Subset(source, [place * len(source) // count for place in range(count)])


def labelled(data: str, val: str | None) -> tuple[Source, Source]:
    """Labelled images for an evaluation alone: (neighbours, questions).

    Raises:
        WispError: no labels, the same images in `val`, or other classes.
    """
    train = open_source(data, "train")
    if train.classes is None:
        raise WispError(f"--data {data} {unlabelled(train)}")
    if val is None and not official(data):
        return split_source(train)
    test = open_source(val or data, "test")
    _refuse_own_questions(train, test)
    if test.classes is None:
        raise WispError(f"--val {val} {unlabelled(test)}")
    if tuple(train.classes) != tuple(test.classes):
        raise WispError(other_classes(train.classes, test.classes))
    return train, test


def data_name(data: str) -> str:
    """A data set's name without a machine's path: its last part, and the one before where that is but a split."""
    if canonical(data) is not None:
        return data
    path = Path(data)
    split = path.name.partition(".")[0].partition("-")[0].lower() in ("train", "test", "val", "validation")
    return f"{path.parent.name}/{path.name}" if split and path.parent != Path.home() else path.name
