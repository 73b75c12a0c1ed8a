"""Tar shards in the webdataset layout: `KEY.jpg` with an optional `KEY.cls` or `KEY.json` beside it."""

from __future__ import annotations

import glob
import json
import os
import re
import tarfile
from array import array
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from wisp.data.sources.decode import EXTENSIONS, open_bytes, to_rgb
from wisp.data.sources.source import CorruptImage, printable
from wisp.errors import WispError


class ShardSource:
    """Images inside uncompressed tar files, in the order of the files and of their members.

    The headers are scanned once; an image is then one positioned read, so sampling is random over all shards and
    forked workers share nothing but the index. Labels count only when every image has one.

    Raises:
        WispError: a compressed, damaged or empty shard.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [str(file) for file in files]
        self._shard, self._offset, self._size = array("l"), array("q"), array("q")
        self._names: list[str] = []
        labels: list[int | None] = []
        for shard, file in enumerate(self.files):
            found = _index(file)
            self._shard.extend([shard] * len(found))
            self._offset.extend(offset for _, offset, _, _ in found)
            self._size.extend(size for _, _, size, _ in found)
            self._names.extend(name for name, _, _, _ in found)
            labels.extend(label for _, _, _, label in found)
        if not self._names:
            raise WispError(f'no image in "{self.files[0]}": looked for members ending in {" ".join(EXTENSIONS)}')
        known = [label for label in labels if label is not None]
        self.missing_labels = len(labels) - len(known) if known else 0
        self._labels = array("l", known) if len(known) == len(labels) else None
        self.classes = tuple(str(k) for k in range(max(known) + 1)) if self._labels else None
        self._opened: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._names)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def __del__(self) -> None:
        for handle in self.__dict__.get("_opened", {}).values():
            os.close(handle)

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        shard = self._shard[index]
        try:
            if shard not in self._opened:
                self._opened[shard] = os.open(self.files[shard], os.O_RDONLY)
            # a positioned read: forked workers share the handle without disturbing one another
            data = os.pread(self._opened[shard], self._size[index], self._offset[index])
        except OSError as problem:
            raise CorruptImage(self.name(index), (problem.strerror or "cannot be read").lower()) from problem
        return open_bytes(data, partial(self.name, index))

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        return to_rgb(self.open(index), partial(self.name, index))

    def label(self, index: int) -> int | None:
        """The number in `KEY.cls` or the field `label` in `KEY.json`, or None unless every image has one."""
        return self._labels[index] if self._labels else None

    def name(self, index: int) -> str:
        """Shard and member."""
        return printable(f"{os.path.basename(self.files[self._shard[index]])}:{self._names[index]}")

    def places(self) -> set[str]:
        """As `Source.places`."""
        return {os.path.realpath(file) for file in self.files}


def _index(file: str) -> list[tuple[str, int, int, int | None]]:
    """(member, offset, size, label) of every image in one tar file."""
    images: list[tuple[str, str, int, int]] = []
    labels: dict[str, int] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                folder, _, base = member.name.rpartition("/")
                if not member.isfile() or base.startswith("."):
                    continue
                stem, _, extension = base.partition(".")  # webdataset: the key ends at the first dot
                key = f"{folder}/{stem}"
                if member.name.lower().endswith(EXTENSIONS):
                    images.append((key, member.name, member.offset_data, member.size))
                elif extension in ("cls", "json"):
                    stored = tar.extractfile(member)
                    label = _label(extension, stored.read() if stored else b"")
                    if label is not None:
                        labels[key] = label
    except (tarfile.TarError, OSError) as problem:
        hint = "; only uncompressed tar files can be read at random" if _compressed(file) else ""
        raise WispError(f'cannot read "{file}" as a tar shard: {problem}{hint}') from problem
    return [(name, offset, size, labels.get(key)) for key, name, offset, size in images]


def _label(extension: str, text: bytes) -> int | None:
    try:
        found = int(text) if extension == "cls" else json.loads(text)["label"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found >= 0 else None


def _compressed(file: str) -> bool:
    try:
        with Path(file).open("rb") as stream:
            head = stream.read(4)
    except OSError:
        return False
    return head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd"))


def expand(pattern: str) -> list[Path]:
    """Files named by a pattern with braces (`{000..012}`, `{a,b}`) and wildcards; sorted within a wildcard."""
    brace = re.search(r"\{([^{}]*)\}", pattern)
    if brace is None:
        return [Path(hit) for hit in sorted(glob.glob(pattern))]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", brace[1])
    if span:
        first, last = int(span[1]), int(span[2])
        choices = [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
    else:
        choices = brace[1].split(",")
    head, tail = pattern[: brace.start()], pattern[brace.end() :]
    return [path for choice in choices for path in expand(head + choice + tail)]
