"""The benchmark of SEED's loss times two ways to the same gradient."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import seed_loss
from wisp.losses.relation import queue_distillation


@pytest.mark.parametrize("mean", seed_loss.EMBEDDINGS.values())
def test_both_ways_lead_to_one_gradient(mean: float) -> None:
    given = seed_loss.rows(mean, 512)
    ours, theirs = (seed_loss.slope(loss, given, "fp32") for loss in (queue_distillation, seed_loss.whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


def test_its_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(seed_loss, "confine", lambda threads: None)
    monkeypatch.setattr(seed_loss, "keep_freed_memory", lambda: True)
    seed_loss.main(["--repeats", "1", "--warmup", "0", "--images", "1024"])
    found = [json.loads(each) for each in capsys.readouterr().out.splitlines()]
    assert [(row["precision"], row["embeddings"]) for row in found] == [
        ("fp32", "spread"),
        ("fp32", "close"),
        ("bf16", "spread"),
        ("bf16", "close"),
    ]
    assert all(row["blocks_over_whole"] > 0 and row["queue"] == 512 for row in found)
