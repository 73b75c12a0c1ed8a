"""Augmented passes: random crops and flips of every image, each in its own row, whatever the batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from small_runs import write_classes
from wisp.data.plain import plain_batches
from wisp.data.sources import Source, open_source
from wisp.data.views import View
from wisp.evaluate.augmented import cropped_and_flipped


class Pixels(nn.Module):
    """[B,3,H,W] -> [B,3*H*W]: what the encoder was shown."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """24 pictures of 18 px; the third, a/04.png, is torn."""
    root = write_classes(tmp_path / "data")
    (root / "a" / "04.png").write_bytes(b"")
    return open_source(str(root))


def seen(source: Source, indices: list[int], *, passes: int = 2, batch_size: int = 4, size: int = 16) -> list[Tensor]:
    plain = torch.full((len(indices), 3 * size * size), -1.0)
    found = cropped_and_flipped(
        Pixels(),
        source,
        indices,
        plain,
        passes=passes,
        image_size=size,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        batch_size=batch_size,
        device=torch.device("cpu"),
    )
    return [extra.view(len(indices), 3, size, size) for extra in found]


class Drawn:
    """64 pictures that a function of their number draws."""

    classes = ("x",)

    def __init__(self, picture: Callable[[int], Image.Image]) -> None:
        self.open = picture

    def __len__(self) -> int:
        return 64

    def name(self, index: int) -> str:
        return str(index)


def test_every_row_is_of_its_own_image() -> None:
    """Each picture has one colour of its own, and a size of its own."""
    drawn = Drawn(lambda k: Image.new("RGB", (18 + k, 20), (4 * k, 0, 255 - 4 * k)))
    indices = [0, 63, 5, 9, 13, 17, 21]
    colours = torch.tensor([[4 * k, 0, 255 - 4 * k] for k in indices]) / 255
    for extra in seen(drawn, indices, passes=3):
        assert torch.allclose(extra, colours[:, :, None, None].expand_as(extra), atol=1e-6)


def test_passes_differ_and_calls_do_not(source: Source) -> None:
    indices = list(range(2)) + list(range(3, 24))
    first, again = seen(source, indices), seen(source, indices)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(*first, strict=True))


def test_half_are_flipped() -> None:
    """A ramp from dark to light tells which."""
    ramps = Drawn(lambda k: Image.linear_gradient("L").rotate(90).convert("RGB"))
    shown = seen(ramps, list(range(64)), passes=1)[0]
    flipped = int((shown[..., 0].mean((1, 2)) > shown[..., -1].mean((1, 2))).sum())
    assert 20 <= flipped <= 44


def test_an_unreadable_image_keeps_its_plain_features(source: Source) -> None:
    for batch_size in (1, 4):  # alone in its batch, and among others
        for extra in seen(source, [0, 1, 2, 3, 4], batch_size=batch_size):
            assert bool((extra[2] == -1).all())
            assert bool((extra[[0, 1, 3, 4]] >= 0).all())


def test_large_images_are_cut_by_threads(source: Source) -> None:
    assert seen(source, [0, 1, 3], size=80)[1].shape == (3, 3, 80, 80)


def test_without_chance_it_is_the_plain_image(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wisp.evaluate.augmented._VIEW", View(crop_scale=(1, 1), crop_ratio=(1, 1)))
    indices = [0, 1, 3, 5, 8, 23]
    told = {"image_size": 16, "mean": (0, 0, 0), "std": (1, 1, 1), "batch_size": 4, "left_out": set[int]()}
    plain = torch.cat(list(plain_batches(source, indices, **told)))
    for extra in seen(source, indices):
        assert torch.allclose(extra, plain, atol=1e-6)
