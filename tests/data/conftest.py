"""Small data sets of every kind, written into the test's own folder."""

from __future__ import annotations

import io
import json
import tarfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from wisp.data.loader import Batch, Loader
from wisp.data.plans import PLANS
from wisp.data.sources import CorruptImage, Source
from wisp.data.sources.decode import to_rgb
from wisp.data.views import ViewPlan

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are slower with more, and a forked process could not use them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _picture(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def _encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """`picture(seed, width, height)`: a smooth colour picture, another one for every seed."""
    return _picture


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """`encoded(image, kind, **options)`: the file that PIL would write."""
    return _encoded


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write pictures (or given bytes) under relative paths; returns the root."""

    def write(files: Sequence[str] | dict[str, bytes], name: str = "images", size: tuple[int, int] = (20, 16)) -> Path:
        contents = files if isinstance(files, dict) else {f: _encoded(_picture(k, *size)) for k, f in enumerate(files)}
        root = tmp_path / name
        for file, content in contents.items():
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_bytes(content)
        return root

    return write


@pytest.fixture
def write_parquet(tmp_path: Path) -> Callable[..., Path]:
    """Write a parquet file in the Hugging Face layout."""

    def write(
        images: Sequence[bytes | None],
        labels: Sequence[object] | None = None,
        *,
        names: Sequence[str] | None = None,
        file: str = "train.parquet",
        column: str = "image",
    ) -> Path:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {column: pa.array([{"bytes": data, "path": f"pic{k}.png"} for k, data in enumerate(images)], kind)}
        if labels is not None:
            columns["label"] = pa.array(labels)
        table = pa.table(columns)
        if names is not None:
            features = {"label": {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, row_group_size=4)
        return path

    return write


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[..., Path]:
    """Write a tar file from member names and contents."""

    def write(members: dict[str, bytes], file: str = "shard.tar", mode: str = "w") -> Path:
        path = tmp_path / file
        with tarfile.open(path, mode) as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    return write


class Pictures:
    """Colour pictures in memory; the indices in `bad` are corrupt."""

    def __init__(self, images: list[Image.Image], bad: tuple[int, ...] = ()) -> None:
        self.images, self.bad = images, bad
        self.classes = ("even", "odd")
        self.reads = 0

    def __len__(self) -> int:
        return len(self.images)

    def open(self, index: int) -> Image.Image:
        self.reads += 1
        if index in self.bad:
            raise CorruptImage(self.name(index), "broken")
        return self.images[index]

    def read(self, index: int) -> torch.Tensor:
        return to_rgb(self.open(index), lambda: self.name(index))

    def label(self, index: int) -> int:
        return index % 2

    def name(self, index: int) -> str:
        return f"pic {index}"


@pytest.fixture
def pictures() -> type[Pictures]:
    """`pictures(images, bad)`: a source that needs no files."""
    return Pictures


@pytest.fixture
def small() -> Pictures:
    """20 pictures of 32 x 32: kept in memory."""
    return Pictures([_picture(k, 32, 32) for k in range(20)])


@pytest.fixture
def mixed() -> Pictures:
    """20 pictures of many sizes: cut by workers."""
    return Pictures([_picture(k, 70 + 5 * k, 120 - 3 * k) for k in range(20)])


@pytest.fixture
def loader() -> Iterator[Callable[..., Loader]]:
    """`loader(source, plan, **settings)` with batches of 8 and views of 24 pixels; workers end with the test."""
    made = weakref.WeakSet[Loader]()

    def make(source: Source, plan: ViewPlan = PLANS["sacl_xd_imagenet"], **changes: object) -> Loader:
        settings = {"image_size": 24, "mean": MEAN, "std": STD, "batch_size": 8, "seed": 5} | changes
        one = Loader(source, plan, **settings)
        made.add(one)
        return one

    yield make
    for each in made:
        each.close()


@pytest.fixture
def same() -> Callable[[Batch, Batch], bool]:
    """Whether two batches show the same images, bit by bit."""

    def compare(one: Batch, other: Batch) -> bool:
        views = zip(one.views, other.views, strict=True)
        return torch.equal(one.index, other.index) and all(torch.equal(a, b) for a, b in views)

    return compare
