"""Small data sets of every kind, written into the test's own folder."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image


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
