"""Images of noise, where a benchmark or a test has no real ones at hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor


def noise_parquet(path: Path, count: int, *, side: int = 32, classes: int = 10) -> Path:
    """Writes `count` square JPEG images in the Hugging Face layout, `image{bytes,path}` and `label`; returns `path`."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(count):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, "jpeg")
        rows.append({"image": {"bytes": file.getvalue(), "path": f"{index}.jpg"}, "label": index % classes})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


class Noise:
    """A source of labelled square images in memory."""

    def __init__(self, count: int, *, side: int = 32, classes: int = 10) -> None:
        generator = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
        self.classes: tuple[str, ...] | None = tuple(map(str, range(classes)))
        self.missing_labels = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)

    def open(self, index: int) -> Image.Image:
        """One image."""
        return Image.fromarray(self.pixels[index].permute(1, 2, 0).contiguous().numpy())

    def read(self, index: int) -> Tensor:
        """One image, uint8 [3,S,S]."""
        return self.pixels[index]

    def label(self, index: int) -> int | None:
        """Its class: they take turns."""
        return index % len(self.classes or ())

    def name(self, index: int) -> str:
        """Its number."""
        return str(index)

    def places(self) -> set[str]:
        """No file."""
        return set()
