"""The masked twin computes what the sliced step computes, at the price of a full-width host."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from benchmarks import step
from wisp.cost.count import count_step
from wisp.data.loader import Batch
from wisp.methods.method import Method

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


def test_masked_and_sliced_widths_train_alike() -> None:
    """Three steps of SlimCLR with its queue: the same terms, and the same weights after them."""
    sliced, masked = (m.double() for m in step.slimclr_and_masked(16, **SMALL))
    views = doubled(step.random_views(16))
    assert sliced(views, step.PROGRESS).keys() == {"contrast", "narrow", "distill"}
    ours, theirs = step.step(sliced, views), step.step(masked, views)
    for _ in range(3):
        one, other = (m(views, step.PROGRESS) for m in (copy.deepcopy(sliced), copy.deepcopy(masked)))
        for name, term in one.items():
            assert term.item() == pytest.approx(other[name].item(), rel=1e-9), name
        assert ours().item() == pytest.approx(theirs().item(), rel=1e-9)
    named = dict(masked.named_parameters())
    shared = [(name, p) for name, p in sliced.named_parameters() if not name.startswith("narrow.")]
    assert {name for name in named if not name.startswith("narrow.")} == {name for name, _ in shared}
    for name, parameter in shared:
        torch.testing.assert_close(parameter, named[name], rtol=1e-7, atol=1e-10, msg=name)
    widths = list(zip(sliced.narrow.narrow, masked.narrow.narrow, strict=True))
    assert len(widths) == 3
    for narrow, wide in widths:
        assert narrow.norms.keys() == wide.norms.keys()
        for key, norm in narrow.norms.items():
            assert len(norm) < len(wide.norms[key])
            torch.testing.assert_close(norm, wide.norms[key][: len(norm)], rtol=1e-7, atol=1e-10, msg=key)


def test_masks_leave_every_pass_at_the_price_of_the_full_width() -> None:
    """A pass without a gradient, and four with one: at full width four and a half of them, sliced by the square."""
    sliced, masked = (count_step(m, 16, step.PX).flops for m in step.slimclr_and_masked(16, model="resnet20"))
    assert sliced / masked == pytest.approx((1 + 3 * (1 + 0.75**2 + 0.5**2 + 0.25**2)) / 13, abs=0.05)


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
    made = step.method

    def small(name: str, batch: int, **given: object) -> Method:
        # SEED's E is its teacher's, and methods of a task have no hidden width.
        options = {"model": "resnet8"} if name in ("au", "kd") else SMALL | ({"out": None} if name == "seed" else {})
        return made(name, batch, **(given | options))

    monkeypatch.setattr(step, "method", small)
    monkeypatch.setattr(step, "TEACHER", "resnet8")
    monkeypatch.setattr(step, "confine", lambda threads: None)
    monkeypatch.setattr(step, "keep_freed_memory", lambda: True)
    step.main(["--repeats", "1", "--warmup", "0", "--batch", "4"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row.get("k") for row in rows] == [2, 4, *[None] * 7]
    assert all(row["sliced_over_masked"] > 0 for row in rows[:2])
    assert [row["limit"] for row in rows] == [0.70, 0.57, 1.10, 1.10, 0.60, 0.60, 0.60, 1.05, 1.05]
    assert [row["batch"] for row in rows if "xd_over_barlow" in row] == [4, 8]
    slim = [row for row in rows if "widths_over_masked" in row]
    assert [(row["model"], row["widths"], row["batch"]) for row in slim] == [
        (model, "1/0.75/0.5/0.25", 4) for model in step.SLIMMED
    ]
    assert rows[-2]["seed_over_parts"] > 0
    assert rows[-1]["au_over_kd"] > 0
    assert rows[-1]["seconds"].keys() == {"au", "kd"}
    assert {row["precision"] for row in rows} == {"fp32"}


def test_one_methods_rows_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(step, "SLIMMED", ("resnet8",))
    monkeypatch.setattr(step, "confine", lambda threads: None)
    monkeypatch.setattr(step, "keep_freed_memory", lambda: True)
    step.main(["--repeats", "1", "--warmup", "0", "--batch", "4", "--only", "slimclr", "--precision", "bf16"])
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["precision"] == "bf16"
    assert row["model"] == "resnet8"
    assert row["widths_over_masked"] > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_of_the_forward_pass(precision: str) -> None:
    trained, seen = step.method("barlow_twins", 8, **SMALL), []
    trained.register_forward_hook(lambda *_: seen.append(("forward", torch.is_autocast_enabled("cpu"))))
    next(trained.parameters()).register_hook(lambda _: seen.append(("backward", torch.is_autocast_enabled("cpu"))))
    step.step(trained, step.random_views(8), precision)()
    assert seen == [("forward", precision == "bf16"), ("backward", False)]
