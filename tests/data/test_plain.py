from __future__ import annotations

import pytest
import torch

from wisp.data.plain import plain_batches
from wisp.data.sources import Source
from wisp.errors import WispError

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def evaluated(source: Source, indices: list[int], size: int, **changes: object) -> torch.Tensor:
    options = {"image_size": size, "mean": MEAN, "std": STD, "batch_size": 3, "left_out": set()} | changes
    batches = list(plain_batches(source, indices, **options))
    assert max(len(batch) for batch in batches) <= 3
    return torch.cat(batches) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def test_evaluation_leaves_small_images_as_they_are(small):
    indices = [4, 0, 19, 7]
    pixels = evaluated(small, indices, 32) * 255
    assert (pixels - torch.stack([small.read(index) for index in indices])).abs().max() < 0.01


@pytest.mark.parametrize("threads", [1, 3])
def test_evaluation_of_large_images_is_torchvisions(mixed, threads):
    from torchvision.transforms import v2

    reference = v2.Compose([v2.Resize(80, antialias=True), v2.CenterCrop(70)])
    indices = [3, 17, 0, 9, 12]
    torch.set_num_threads(threads)
    pixels = evaluated(mixed, indices, 70)
    expected = torch.stack([reference(mixed.read(index)) for index in indices])
    assert (pixels * 255 - expected).abs().max() < 0.01


def test_evaluation_shows_all_of_a_small_image_at_another_size(small):
    whole = small.read(2)[None]
    expected = torch.nn.functional.interpolate(whole, (24, 24), mode="bilinear", antialias=True)[0]
    assert (evaluated(small, [2], 24)[0] * 255 - expected).abs().max() < 0.01


def test_a_corrupt_image_has_no_row(small):
    good = evaluated(small, [0, 2, 4, 5, 7, 9], 32)
    small.bad = (2, 9)
    unreadable: dict[int, str] = {}
    left_out: set[int] = set()
    pixels = evaluated(small, [0, 2, 4, 5, 7, 9], 32, unreadable=unreadable, left_out=left_out)
    assert torch.equal(pixels, good[[0, 2, 3, 4]])
    assert (unreadable, left_out) == ({2: "pic 2: broken", 9: "pic 9: broken"}, {1, 5})


def test_evaluation_stops_when_too_much_is_corrupt(small):
    small.bad = tuple(range(11))
    with pytest.raises(WispError, match=r"images cannot be read \(pic 0: broken"):
        evaluated(small, list(range(20)), 32)
    with pytest.raises(WispError, match=r"images cannot be read \(pic 0: broken, pic 1: broken\)"):
        evaluated(small, [0, 1, 0], 32)
    small.bad = tuple(range(10))
    assert len(evaluated(small, list(range(20)), 32)) == 10
