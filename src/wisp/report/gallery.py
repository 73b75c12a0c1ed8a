"""Held-out images with their features: nearest neighbours, a flat map, and the file that keeps them with the run."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wisp.errors import WispError
from wisp.files import write_bytes

MOST = 600
"""Images kept with a run: more make neither the map clearer nor the page faster."""
SIDE = 96
"""Largest side of a kept image, in pixels."""
SCHEMA = 1


@dataclass(frozen=True)
class Gallery:
    """M held-out images as plain data.

    Attributes:
        images: uint8 [M,3,S,S], RGB.
        features: float [M,D], the exported encoder's. Only their directions matter.
        names: M file names, for hovering.
        labels: int [M], or None when the data has none.
        classes: class names by label, or None.
        held_out: whether training did not see them.
    """

    images: NDArray[np.uint8]
    features: NDArray[np.floating[Any]]
    names: Sequence[str]
    labels: NDArray[np.integer[Any]] | None = None
    classes: Sequence[str] | None = None
    held_out: bool = True

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.images.ndim != 4 or self.images.shape[1] != 3 or self.images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [M,3,S,S], not {self.images.dtype} {list(self.images.shape)}")
        if self.features.ndim != 2 or {len(self.images), len(self.features)} != {count}:
            raise ValueError(f"{count} names need as many images and rows of features")
        if self.labels is not None and self.labels.shape != (count,):
            raise ValueError(f"{count} names need as many labels, not {list(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.names)

    def label(self, index: int) -> str | None:
        """The class name of one image, or None without labels."""
        if self.labels is None:
            return None
        value = int(self.labels[index])
        return str(self.classes[value]) if self.classes is not None and 0 <= value < len(self.classes) else str(value)

    def subset(self, indices: Sequence[int] | NDArray[np.intp]) -> Gallery:
        """The gallery of these images only."""
        rows = np.asarray(indices, dtype=np.intp)
        labels = None if self.labels is None else self.labels[rows]
        names = [self.names[i] for i in rows]
        return replace(self, images=self.images[rows], features=self.features[rows], names=names, labels=labels)


@dataclass(frozen=True)
class Neighbours:
    """The k nearest other images of every image, nearest first: indices int [M,k], cosine similarity [M,k]."""

    indices: NDArray[np.intp]
    similarity: NDArray[np.float64]


def directions(features: NDArray[np.floating[Any]]) -> NDArray[np.float64] | None:
    """Unit rows [M,D], or None when the features say nothing: fewer than two rows, not finite, or all alike."""
    if len(features) < 2 or not np.isfinite(features).all():
        return None
    rows = features.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return None if float(rows.std(axis=0).max()) < 1e-6 else rows


def neighbours(features: NDArray[np.floating[Any]], k: int = 6) -> Neighbours | None:
    """Nearest by cosine, never the image itself, ties to the lowest index; None where `directions` is."""
    rows = directions(features)
    if rows is None:
        return None
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(rows) - 1)]
    return Neighbours(order, np.take_along_axis(similarity, order, axis=1))


def agreement(found: Neighbours, labels: NDArray[np.integer[Any]]) -> float:
    """The share of neighbours, over all images, that carry the label of the image they are nearest to."""
    return float((labels[found.indices] == labels[:, None]).mean())


def queries(labels: NDArray[np.integer[Any]] | None, count: int, most: int = 12) -> list[int]:
    """Images to ask about, drawn at random with a fixed seed; none is chosen for its looks.

    Classes take turns, in whole rounds where all of them fit.
    """
    shuffled = np.random.default_rng(0).permutation(count)
    if labels is None:
        return [int(i) for i in shuffled[:most]]
    met: dict[int, int] = {}
    turns = []
    for index in shuffled:
        label = int(labels[index])
        met[label] = met.get(label, -1) + 1
        turns.append((met[label], label, int(index)))
    if len(met) <= most:
        most -= most % len(met)
    return [index for _, _, index in sorted(turns)[:most]]


def plane(features: NDArray[np.floating[Any]]) -> NDArray[np.float64] | None:
    """t-SNE of the unit features, [M,2] in 0..1, the same on every call; None where `directions` is or below 8 images.

    t-SNE and not PCA: two principal components of a decorrelated embedding show a blob, by design of the loss.
    """
    rows = directions(features)
    if rows is None or len(rows) < 8:
        return None
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # a parallel sum depends on the number of threads, and t-SNE amplifies the difference
        if min(rows.shape) > 50:
            rows = PCA(50, svd_solver="full").fit_transform(rows)
        places = TSNE(2, init="pca", perplexity=min(30.0, (len(rows) - 1) / 4), random_state=0).fit_transform(rows)
    places = places.astype(np.float64) - places.min(axis=0)
    return np.asarray(places / max(float(places.max()), 1e-12))


def cells(places: NDArray[np.float64], fill: float = 0.5) -> NDArray[np.intp]:
    """Moves each place [M,2] in 0..1 to a cell of a square grid of its own, so that no picture hides another.

    Args:
        places: float [M,2].
        fill: share of the grid's cells that are used.

    Returns:
        (column, row) of every image, int [M,2], counted from the first column and row in use.
    """
    side = int(np.ceil(np.sqrt(len(places) / fill)))
    centres = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2) + 0.5) / side
    spread = np.stack([np.argsort(np.argsort(axis, kind="stable")) for axis in places.T], axis=1) / max(len(places), 1)
    wanted = 0.5 * places + 0.5 * spread  # half way to equal spacing: dense clusters get room, islands stay islands
    free = np.ones(len(centres), dtype=bool)
    taken = np.zeros(len(places), dtype=np.intp)
    for index in np.argsort(((wanted - wanted.mean(axis=0)) ** 2).sum(axis=1), kind="stable"):
        distance = np.where(free, ((centres - wanted[index]) ** 2).sum(axis=1), np.inf)
        taken[index] = int(distance.argmin())
        free[taken[index]] = False
    grid = np.stack([taken % side, taken // side], axis=1)
    return np.asarray(grid - grid.min(axis=0))


def encode(image: NDArray[np.uint8], side: int) -> bytes:
    """An image uint8 [3,H,W], at most `side` pixels wide, as PNG or JPEG, whichever is smaller."""
    grey = bool((image == image[:1]).all())
    picture = Image.fromarray(image[0] if grey else np.ascontiguousarray(image.transpose(1, 2, 0)))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    png, jpeg = io.BytesIO(), io.BytesIO()
    picture.save(png, "PNG", optimize=True)
    picture.save(jpeg, "JPEG", quality=84, optimize=True)
    return min(png.getvalue(), jpeg.getvalue(), key=len)


def save_gallery(gallery: Gallery, path: Path) -> Path:
    """Writes a small `gallery.npz` (at most `MOST` images of `SIDE` pixels); equal galleries give equal bytes.

    Raises:
        WispError: the file cannot be written; an older one stays.
    """
    kept = gallery
    if len(gallery) > MOST:
        kept = gallery.subset(np.linspace(0, len(gallery) - 1, MOST).round().astype(np.intp))
    encoded = [encode(image, SIDE) for image in kept.images]
    classes = None if kept.classes is None else list(kept.classes)
    text = {"schema": SCHEMA, "names": list(kept.names), "classes": classes, "held_out": kept.held_out}
    arrays: dict[str, Any] = {
        "text": np.frombuffer(json.dumps(text).encode("ascii"), dtype=np.uint8),
        "pixels": np.frombuffer(b"".join(encoded), dtype=np.uint8),
        "lengths": np.array([len(data) for data in encoded], dtype=np.int64),
        "features": kept.features.astype(np.float32),
    }
    if kept.labels is not None:
        arrays["labels"] = kept.labels.astype(np.int64)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())
    return path


def load_gallery(path: Path) -> Gallery:
    """Reads what `save_gallery` wrote.

    Raises:
        WispError: the file is missing, damaged, or of another schema.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            text = json.loads(stored["text"].tobytes())
            ends = np.cumsum(stored["lengths"])
            pixels = stored["pixels"].tobytes()
            pictures = [
                np.asarray(Image.open(io.BytesIO(pixels[end - length : end])).convert("RGB")).transpose(2, 0, 1)
                for end, length in zip(ends.tolist(), stored["lengths"].tolist(), strict=True)
            ]
            if text["schema"] != SCHEMA:
                raise WispError(f"{path} has gallery schema {text['schema']}, this wisp reads {SCHEMA}; update wisp")
            return Gallery(
                images=np.stack(pictures),
                features=stored["features"],
                names=tuple(text["names"]),
                labels=stored["labels"] if "labels" in stored.files else None,
                classes=None if text["classes"] is None else tuple(text["classes"]),
                held_out=bool(text["held_out"]),
            )
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise WispError(
            f"{path} cannot be read as a gallery ({error}); delete it for a report without pictures"
        ) from error
