"""Data sets: what a user has, behind one small interface.

`open_source` takes whatever follows `--data`: a folder of images at any depth, class folders, parquet files, tar
shards, the name of a torchvision data set, or `digits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from wisp.data.sources.decode import EXTENSIONS
from wisp.data.sources.folder import FolderSource, scan
from wisp.data.sources.named import NAMES, canonical, open_named
from wisp.data.sources.parquet import ParquetSource
from wisp.data.sources.shards import ShardSource, expand
from wisp.data.sources.source import CorruptImage, Source, Subset, labels_of, most_corrupt, shown, split_source
from wisp.errors import WispError, nearest

__all__ = [
    "EXTENSIONS",
    "NAMES",
    "CorruptImage",
    "Source",
    "Subset",
    "labels_of",
    "most_corrupt",
    "open_source",
    "shown",
    "split_source",
]

_SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "val", "valid", "validation", "eval"),
}


def open_source(data: str, split: str = "train", subset: int | None = None) -> Source:
    """Open the images that `data` stands for.

    Args:
        data: a name of `NAMES` (any case; it wins over a folder of that name, which is `./name`), a folder, a
            `.parquet` file, a `.tar` file, or a pattern (`shard-{000..012}.tar`, `*.parquet`) of such files.
        split: `train` or `test`. A folder whose sub-folders or files are *named* by split (`train/`,
            `train-00000-of-00004.parquet`) gives only that part; any other path is one whole, whatever the split.
        subset: only the first so many images.

    Raises:
        WispError: nothing there, nothing readable in there, or a name that is not known.
    """
    source = _open(data, split)
    if subset is None:
        return source
    if subset < 1:
        raise WispError(f"the subset must have at least one image, not {subset}")
    return Subset(source, range(min(subset, len(source))))


def _open(data: str, split: str) -> Source:
    known = canonical(data)
    if known is not None:
        return open_named(known, split)
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path, split)
    if path.is_file():
        return _files([path], data)
    if any(letter in data for letter in "{*?["):
        found = [file for file in expand(str(path)) if file.is_file()]
        if not found:
            raise WispError(f'no file matches "{data}"')
        return _files(found, data)
    known_here = {name.lower(): name for name in NAMES}
    if path.parent.is_dir():
        here = Path(data).parent
        known_here |= {str(here / file.name).lower(): str(here / file.name) for file in path.parent.iterdir()}
    close = [known_here[name] for name in nearest(data.lower(), known_here)]
    raise WispError(f'no such folder or data set "{data}"; nearest: {", ".join(close)}')


def _files(files: list[Path], data: str) -> Source:
    kinds: dict[str, Callable[[list[Path]], Source]] = {".parquet": ParquetSource, ".tar": ShardSource}
    kind = {file.suffix.lower() for file in files}
    opener = kinds.get(kind.pop()) if len(kind) == 1 else None
    if opener is None:
        raise WispError(
            f'"{data}" is a file, not a folder of images: give its folder, a .parquet or .tar file, or a name'
        )
    return opener(files)


def _folder(root: Path, split: str) -> Source:
    found = scan(root, (*EXTENSIONS, ".parquet", ".tar"))
    for suffix in (EXTENSIONS, ".parquet", ".tar"):  # images first: a folder of photos may well hold an archive too
        files = [file for file in found if file.lower().endswith(suffix)]
        if not files:
            continue
        chosen = of_split(files, split)
        if suffix is not EXTENSIONS:
            return _files([root / file for file in chosen], str(root))
        top = {file.partition("/")[0] for file in chosen}
        if len(chosen) < len(files) and len(top) == 1:  # train/CLASS/x.jpg: the classes lie below train/
            inner = top.pop()
            return FolderSource(root / inner, [file.removeprefix(inner + "/") for file in chosen])
        return FolderSource(root, chosen)
    if any(root.iterdir()):
        raise WispError(f'no image in the folder "{root}": looked for {" ".join(EXTENSIONS)}, .parquet and .tar')
    raise WispError(f'the folder "{root}" is empty: put images into it, or give another folder')


def of_split(files: Iterable[str], split: str) -> list[str]:
    """The files whose top folder or file name begins with the name of the split, when a data set is laid out like that.

    It is when some names say `train` and others `test` or `val`; otherwise all files are kept.
    """
    groups: dict[str | None, list[str]] = {}
    for file in files:
        groups.setdefault(_split_of(file), []).append(file)
    if "train" not in groups or "test" not in groups or split not in _SPLITS:
        return [file for group in groups.values() for file in group]
    return groups[split]


def _split_of(file: str) -> str | None:
    """`train`, `test` or None, from the first word of any part of a relative path."""
    for part in file.split("/"):
        word = part.replace(".", "-").replace("_", "-").partition("-")[0].lower()
        for split, words in _SPLITS.items():
            if word in words:
                return split
    return None
