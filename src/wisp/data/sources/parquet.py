"""Parquet files in the Hugging Face layout: a column `image` (struct of `bytes` and `path`) and perhaps `label`."""

from __future__ import annotations

import bisect
import json
import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image
from torch import Tensor

from wisp.data.sources.decode import open_bytes, to_rgb
from wisp.data.sources.source import CorruptImage, printable
from wisp.errors import WispError

_IMAGE = ("image", "img")  # the data sets `cifar10` and `cifar100` on the hub say `img`
_LABEL = ("label", "fine_label")
_RESIDENT = 4 << 30  # encoded bytes that may stay in memory
_GROUP = 256 << 20  # largest row group that may be read for the sake of one image


class ParquetSource:
    """Rows of one or more parquet files, in file order.

    Up to 4 GiB of encoded images are read once and shared with forked workers; they are decoded straight from arrow's
    buffers. Larger data sets are read one row group at a time. A pickled source (a spawned worker) carries no images.

    Raises:
        WispError: not a parquet file, no `image` column, no rows, or row groups too large to be read at random.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [str(file) for file in files]
        self._opened: dict[str, Any] = {}
        self._blocks: list[tuple[str, int]] = []  # (file, row group)
        self._starts: list[int] = []  # first row of each block
        self._paths: list[Any] = []
        labels: list[Any] = []
        total = largest = rows = 0
        for file in self.files:
            parquet = self._parquet(file)
            self._image, label = _columns(file, parquet.schema_arrow)
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).total_byte_size
                total, largest = total + size, max(largest, size)
                self._blocks.append((file, group))
                self._starts.append(rows)
                rows += parquet.metadata.row_group(group).num_rows
            struct = pa.types.is_struct(parquet.schema_arrow.field(self._image).type)
            wanted = [f"{self._image}.path"] * struct + [label] * (label is not None)
            small = parquet.read(columns=wanted, use_threads=False)
            count = parquet.metadata.num_rows
            self._paths.append(_field(small.column(self._image), "path") if struct else pa.nulls(count))
            labels.append(small.column(label).combine_chunks() if label else pa.nulls(count))
        if not rows:
            raise WispError(f'"{self.files[0]}" has no rows')
        self._rows = rows
        self._file_starts = [0]
        for part in labels:
            self._file_starts.append(self._file_starts[-1] + len(part))
        named = {_class_names(self._parquet(file).schema_arrow, label) for file in self.files}
        if len(named) > 1:  # label 0 of one would be counted as label 0 of the other
            raise WispError(f'"{self.files[0]}" and its neighbours name different classes: give one data set at a time')
        self._labels, self.classes, self.missing_labels = _labels(labels, named.pop())
        self._resident = total <= _RESIDENT
        if not self._resident and largest > _GROUP:
            raise WispError(
                f'"{self.files[0]}" is too large for memory, and its row groups ({largest >> 20} MiB) for reading one '
                "image: write it again with row_group_size=100"
            )
        self._held: dict[int, Any] = {}
        self._lock = threading.Lock()  # arrow's readers serve one thread at a time
        if self._resident:  # before workers are forked, so that they share it
            for block in range(len(self._blocks)):
                self._bytes_of(block)

    def __len__(self) -> int:
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": {}, "_opened": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._lock = threading.Lock()

    def open(self, index: int) -> Image.Image:
        """As `Source.open`."""
        block = bisect.bisect_right(self._starts, index) - 1
        data = self._bytes_of(block)[index - self._starts[block]].as_py()
        if data is None:
            raise CorruptImage(self.name(index), "the row holds no image bytes")
        return open_bytes(data, partial(self.name, index))

    def read(self, index: int) -> Tensor:
        """As `Source.read`: uint8 [3,H,W]."""
        return to_rgb(self.open(index), partial(self.name, index))

    def label(self, index: int) -> int | None:
        """The row's label, or None unless every row has one."""
        return self._labels[index] if self._labels is not None else None

    def name(self, index: int) -> str:
        """File, row and, where the row tells it, the original path."""
        part = bisect.bisect_right(self._file_starts, index) - 1
        row = index - self._file_starts[part]
        path = self._paths[part][row].as_py()
        return printable(f"{os.path.basename(self.files[part])} row {row}" + (f" ({path})" if path else ""))

    def places(self) -> set[str]:
        """As `Source.places`."""
        return {os.path.realpath(file) for file in self.files}

    def _parquet(self, file: str) -> Any:
        if file not in self._opened:
            try:
                self._opened[file] = pq.ParquetFile(file, memory_map=True)  # no file position: safe to share by fork
            except (pa.ArrowException, OSError) as problem:
                raise WispError(f'cannot read "{file}" as parquet: {" ".join(str(problem).split())}') from problem
        return self._opened[file]

    def _bytes_of(self, block: int) -> Any:
        """The encoded images of one row group, an arrow array."""
        held = self._held.get(block)
        if held is not None:
            return held
        file, group = self._blocks[block]
        with self._lock:
            parquet = self._parquet(file)
            struct = pa.types.is_struct(parquet.schema_arrow.field(self._image).type)
            column = f"{self._image}.bytes" if struct else self._image
            table = parquet.read_row_group(group, columns=[column], use_threads=False)  # arrow's threads die in a fork
            held = table.column(self._image)
            held = _field(held, "bytes") if struct else held.combine_chunks()
            if not self._resident:
                self._held = {}  # random access gains nothing from more than the last row group
            self._held[block] = held
        return held


def _field(column: Any, name: str) -> Any:
    return pc.struct_field(column, name).combine_chunks()


def _columns(file: str, schema: Any) -> tuple[str, str | None]:
    """Names of the image and the label column."""
    image = next((name for name in _IMAGE if name in schema.names), None)
    if image is None:
        raise WispError(
            f'"{file}" has no column `image` (it has {", ".join(schema.names)}): '
            "write the encoded images as a struct of `bytes` and `path`, as Hugging Face datasets does"
        )
    kind = schema.field(image).type
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else None
    plain = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not plain and (fields is None or not {"bytes", "path"} <= fields):
        raise WispError(
            f'column `{image}` of "{file}" is {kind}: it must hold encoded images (bytes, or struct bytes+path)'
        )
    single = [name for name in _LABEL if name in schema.names and not pa.types.is_nested(schema.field(name).type)]
    return image, single[0] if single else None  # a list or struct is no class: several tags, or boxes


def _labels(parts: list[Any], named: tuple[str, ...]) -> tuple[list[int] | None, tuple[str, ...] | None, int]:
    """Labels of all rows, the classes (from the files or made up), and how many rows alone lack a label.

    The first two are None unless every row has a label that can be a class.
    """
    values = [value for part in parts for value in part.to_pylist()]
    known = {value for value in values if value is not None and value != -1}
    words = all(isinstance(value, str) for value in known)
    if not known or not (words or all(isinstance(value, int) and value >= 0 for value in known)):
        return None, None, 0  # nothing, or measurements: nothing that a class probe could use
    missing = sum(value is None or value == -1 for value in values)
    if missing:
        return None, None, missing
    if words:
        names = tuple(sorted(known))
        number = {name: k for k, name in enumerate(names)}
        return [number[value] for value in values], names, 0
    names = named if len(named) > max(known) else tuple(str(k) for k in range(max(known) + 1))
    return values, names, 0


def _class_names(schema: Any, column: str | None) -> tuple[str, ...]:
    """Class names from the schema's `huggingface` metadata, or nothing."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
        return tuple(str(name) for name in feature["names"])
    except (KeyError, TypeError, ValueError):
        return ()
