"""BINGO against the formula of its paper and the released code, written again in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.methods.bingo import SETTINGS, Bingo, Config
from wisp.methods.parts.cutmix import box, cutmix

T, BATCH, START = 0.3, 8, 0.5


def small(**changes: object) -> Bingo:
    method = small_method("bingo", batch_size=BATCH, **({"temperature": T, "bag_start": START, "queue": 16} | changes))
    assert isinstance(method, Bingo)
    return method.double()


def info_nce(queries: Matrix, keys: Matrix, queue: Matrix) -> float:
    found = []
    for q, k in zip(queries, keys, strict=True):
        positive = dot(q, k) / T
        found.append(minus_log_share(positive, [positive, *(dot(q, n) / T for n in queue)]))
    return float(np.mean(found))


def pasted(seen: torch.Tensor, image: torch.Tensor, other: torch.Tensor) -> float:
    """The share of the pixels that are the other image's; each is of one or the other, in a rectangle."""
    rows, columns = [], []
    for i in range(seen.shape[-2]):
        for j in range(seen.shape[-1]):
            if torch.equal(seen[..., i, j], image[..., i, j]):
                continue
            assert torch.equal(seen[..., i, j], other[..., i, j])
            rows.append(i)
            columns.append(j)
    if not rows:
        return 0.0
    assert len(rows) == (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1)
    return len(rows) / (seen.shape[-2] * seen.shape[-1])


def test_the_loss_is_the_papers_before_and_after_the_bags_begin() -> None:
    method = small()
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    seen: list[torch.Tensor] = []
    method.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    queue, shares = np.zeros((0, 16)), []
    for step in range(6):
        progress = step / 6
        batch = fixed_batch(method, BATCH, seed=step, dtype=torch.float64)
        (view, key_view), (bag_view, bag_key_view) = batch.views, batch.companions
        seen.clear()
        terms = method(batch, progress)
        mixed = next(x for x in seen if not torch.equal(x, view) and not torch.equal(x, bag_view))
        share = pasted(mixed, view, bag_view)
        k, bag_k = (unit(method.teacher([each])[0].numpy()) for each in (key_view, bag_key_view))
        q, bag_q, mixed_q = (unit(embed(method.network, each)) for each in (view, bag_view, mixed))
        own, other = (1.0, 0.0) if progress < START else (0.5, 0.5)
        wanted = {
            "image": (own * info_nce(q, k, queue) + other * info_nce(q, bag_k, queue)) / 3,
            "bag": (other * info_nce(bag_q, k, queue) + own * info_nce(bag_q, bag_k, queue)) / 3,
            "mixed": ((1 - share) * info_nce(mixed_q, k, queue) + share * info_nce(mixed_q, bag_k, queue)) / 3,
        }
        assert {name: term.item() for name, term in terms.items()} == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        shares.append(share)
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        method.after_step(progress)
        queue = np.concatenate([queue, k])[-16:]
    assert len(set(shares)) > 3, "every step draws its own box"


def test_the_box_is_the_released_codes() -> None:
    """Its rule with numpy's numbers gives the same shares and places, in the mean over many draws."""
    numbers, side, count = np.random.default_rng(0), 32, 4000

    def released() -> tuple[int, int, int, int]:
        cut = int(side * math.sqrt(1 - numbers.beta(2, 2)))
        ends = []
        for centre in numbers.integers(side, size=2):
            ends += [max(0, int(centre) - cut // 2), min(side, int(centre) + cut // 2)]
        return ends[0], ends[1], ends[2], ends[3]

    def area(top: int, bottom: int, left: int, right: int) -> float:
        return (bottom - top) * (right - left) / side**2

    mine = [
        (down.start, down.stop, across.start, across.stop)
        for down, across in (box(side, side, n / count) for n in range(count))
    ]
    theirs = [released() for _ in range(count)]
    assert np.mean(mine, axis=0) == pytest.approx(np.mean(theirs, axis=0), abs=0.6)
    quantiles = [0.1, 0.25, 0.5, 0.75, 0.9]
    shares = [np.quantile([area(*each) for each in found], quantiles) for found in (mine, theirs)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert len(set(mine)) == pytest.approx(len(set(theirs)), rel=0.05)


def test_a_mixed_image_is_one_image_outside_of_the_box_and_the_other_inside() -> None:
    images, others = torch.rand(2, 3, 3, 20, 12).unbind()
    for progress in (0.0, 0.1, 0.2, 0.3):
        before = images.clone()
        mixed, left = cutmix(images, others, progress)
        assert torch.equal(images, before)
        assert left == pytest.approx(1 - pasted(mixed, images, others))
        assert torch.equal(mixed, cutmix(images, others, progress)[0]), "a function of the step"


def test_an_empty_queue_leaves_nothing_to_tell_apart() -> None:
    method = small()
    assert total(method(fixed_batch(method, BATCH, dtype=torch.float64), 0.9)).item() == pytest.approx(0, abs=1e-12)


def test_settings_are_refused_in_one_line() -> None:
    with pytest.raises(
        WispError, match=r"a bag of 64 needs as many other images, and there are 64 in all; .*--method.bag 63"
    ):
        small(bag=64)
    assert small(bag=63).neighbours == 63
    with pytest.raises(WispError, match="out is 7, and the head of the teacher small gives 16"):
        small(out=7)
    with pytest.raises(WispError, match="bag is 0"):
        Config(bag=0)
    with pytest.raises(WispError, match=r"bag_start is 1\.2"):
        Config(bag_start=1.2)


def test_the_settings_are_the_papers() -> None:
    config = Config()
    assert (config.temperature, config.bag, config.hidden) == (0.2, 5, 2048)
    assert config.bag_start == 11 / 200
    large = SETTINGS["large"]
    assert (large.lr, large.epochs, large.batch_size, large.warmup_epochs) == (0.03, 200, 256, 0)
