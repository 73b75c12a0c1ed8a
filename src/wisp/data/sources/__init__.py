"""Data sets: what a user has, behind one small interface.

`open_source` takes whatever follows `--data`: a folder of images at any depth, class folders, parquet files, tar
shards, the name of a torchvision data set, or `digits`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from wisp.data.sources.decode import EXTENSIONS
from wisp.data.sources.folder import FolderSource, scan
from wisp.data.sources.named import NAMES, canonical, open_named
from wisp.data.sources.official_splits import has_official_split, open_official
from wisp.data.sources.parquet import ParquetSource
from wisp.data.sources.shards import ShardSource, expand
from wisp.data.sources.source import CorruptImage, Source, Subset, labels_of, most_corrupt, shown, split_source
from wisp.data.sources.splits import Split, archives_of, images_of
from wisp.errors import WispError, suggestion
from wisp.files import at_home, nearest_paths

__all__ = [
    "EXTENSIONS",
    "NAMES",
    "CorruptImage",
    "Source",
    "Subset",
    "labels_of",
    "most_corrupt",
    "official",
    "open_source",
    "shown",
    "split_source",
]


def open_source(data: str, split: Split = "train") -> Source:
    """Open the images that `data` stands for.

    Args:
        data: a name of `NAMES` (any case; it wins over a folder of that name, which is `./name`), a folder, a
            `.parquet` file, a `.tar` file, or a pattern (`shard-{000..012}.tar`, `*.parquet`) of such files.
        split: which part of a folder that has both, by the names of folders (`train/`, `val/`) or of its parquet or
            tar files (`train-00000-of-00004.parquet`), or by the lists of CUB-200-2011 and MIT-67; any other path is
            one whole, whatever the split.

    Raises:
        WispError: nothing there, nothing readable in there, images that belong to no split beside those that do, or a
            name that is not known.
    """
    known = canonical(data)
    if known is not None:
        return open_named(known, split)
    path = at_home(data)
    if path.is_dir():
        return open_official(path, split) or _folder(path, split)
    if path.is_file():
        return _files([path], data)
    if any(letter in data for letter in "{*?["):
        found = [file for file in expand(str(path)) if file.is_file()]
        if not found:
            raise WispError(f'no file matches "{data}"')
        return _files(found, data)
    choices = [*nearest_paths(data), *(NAMES if len(path.parts) == 1 else ())]
    raise WispError(f'no such folder or data set "{data}"{suggestion(data, choices)}')


def official(data: str) -> bool:
    """Whether `data` has a test split of its makers': a name, or a folder with their lists."""
    return canonical(data) is not None or has_official_split(at_home(data))


def _files(files: list[Path], data: str) -> Source:
    kinds: dict[str, Callable[[list[Path]], Source]] = {".parquet": ParquetSource, ".tar": ShardSource}
    kind = {file.suffix.lower() for file in files}
    opener = kinds.get(kind.pop()) if len(kind) == 1 else None
    if opener is None:
        raise WispError(
            f'"{data}" is a file, not a folder of images: give its folder, a .parquet or .tar file, or a name'
        )
    return opener(files)


def _folder(root: Path, split: Split) -> Source:
    found = scan(root, (*EXTENSIONS, ".parquet", ".tar"))
    for suffix in (EXTENSIONS, ".parquet", ".tar"):  # images first: a folder of photos may well hold an archive too
        files = [file for file in found if file.lower().endswith(suffix)]
        if not files:
            continue
        if suffix is EXTENSIONS:
            return FolderSource(*images_of(root, files, split))
        return _files([root / file for file in archives_of(root, files, split)], str(root))
    if any(root.iterdir()):
        raise WispError(f'no image in the folder "{root}": looked for {" ".join(EXTENSIONS)}, .parquet and .tar')
    raise WispError(f'the folder "{root}" is empty: put images into it, or give another folder')
