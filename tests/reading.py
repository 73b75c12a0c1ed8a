"""What a data source holds, in plain values."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wisp.data.sources import Source


def array(image: Image.Image) -> Tensor:
    """A picture as uint8 [C,H,W]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def names(source: Source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def labels(source: Source) -> list[int | None]:
    return [source.label(i) for i in range(len(source))]
