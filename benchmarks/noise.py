"""Images of noise, where a benchmark or a test has no real ones at hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


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
