"""The masked twin computes what the sliced step computes, at the price of a full-width host."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from benchmarks import step
from wisp.cost.count import count_step
from wisp.data.loader import Batch

SMALL = {"model": "resnet8", "hidden": 16, "out": 24}


def doubled(batch: Batch) -> Batch:
    return batch._replace(views=tuple(view.double() for view in batch.views))


@pytest.mark.parametrize(("width", "option"), [(1.5, {}), (2, {"pairs": "own"}), (2, {"both_orders": True}), (4, {})])
def test_masks_and_slices_train_alike(width: float, option: dict[str, object]) -> None:
    """Two steps with LARS: the same losses, and the same weights after them."""
    sliced, masked = (m.double() for m in step.sliced_and_masked(width, 8, **SMALL, **option))
    views = doubled(step.random_views(8))
    ours, theirs = step.step(sliced, views), step.step(masked, views)
    for _ in range(2):
        assert ours().item() == pytest.approx(theirs().item(), rel=1e-9)
    named = dict(masked.named_parameters())
    assert named.keys() == dict(sliced.named_parameters()).keys()
    for name, parameter in sliced.named_parameters():
        torch.testing.assert_close(parameter, named[name], rtol=1e-7, atol=1e-10, msg=name)


def test_masked_weights_keep_their_memory_format() -> None:
    _, masked = step.sliced_and_masked(2, 8, **SMALL)
    weight = masked.pair.gather()["0.layer1.0.conv1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert (weight.abs().sum((1, 2, 3)) == 0).sum() == 16


@pytest.mark.parametrize("k", [2, 4])
def test_slicing_saves_the_flops_of_the_slim_passes(k: int) -> None:
    """(4 K^2 + 4) / (8 K^2) of the encoder: two of four passes run at the target's width; stem and head dilute it."""
    sliced, masked = (count_step(m, 4, step.PX).branches for m in step.sliced_and_masked(k, 4, hidden=32, out=32))
    assert masked["host"] == 2 * sliced["host"], "a masked pass costs as much as the host's"
    assert masked["frozen host"] == 2 * sliced["frozen host"]
    ratio = (sum(sliced.values()) - sliced["loss"]) / (sum(masked.values()) - masked["loss"])
    assert ratio == pytest.approx((4 * k**2 + 4) / (8 * k**2), abs=0.05)


def test_every_line_has_its_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(step, "method", partial(step.method, **SMALL))
    monkeypatch.setattr(step, "confine", lambda threads: None)
    step.main(["--repeats", "1", "--warmup", "0", "--batch", "4"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("k") for row in rows] == [2, 4, None, None]
    assert all(row["sliced_over_masked"] > 0 for row in rows[:2])
    assert [row["limit"] for row in rows] == [0.70, 0.57, 1.10, 1.10]
    assert [row["batch"] for row in rows if "xd_over_barlow" in row] == [4, 8]
    assert {row["precision"] for row in rows} == {"fp32"}
