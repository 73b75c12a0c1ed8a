"""What a training keeps for a diagnosis."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from small_methods import SIZE, begun, fixed_batch, total
from wisp import methods
from wisp.interference.record import COPIES, ENTRIES, SAMPLES, Recorder, folded, read_record, recorded_encoder
from wisp.methods.method import Method


def recorder(method: Method, folder: Path, steps: int = 10, epochs: int = 2) -> Recorder:
    return Recorder(method, folder, steps=steps, epochs=epochs, image_size=SIZE, features=64)


def trained(name: str, folder: Path, **changes: object) -> Method:
    """A method after one backward pass, of which gradients and weights are kept."""
    method = begun(name, **changes)
    keeping = recorder(method, folder)
    keeping.weights(0, 0)
    total(method(fixed_batch(method), 0.6)).backward()
    keeping.gradients(3)
    keeping.weights(10, 2)
    return method


def by_hand(encoder: nn.Module, width: float) -> tuple[list[float], float]:
    """Mean norms of all, rest and prefix over filters and matrices, and the prefix's share, entry by entry."""
    sums, count, entries, inside = [0.0, 0.0, 0.0], 0, 0, 0
    for parameter in encoder.parameters():
        if parameter.ndim < 2:
            continue
        assert parameter.grad is not None
        limits = [max(1, round(width * side)) for side in parameter.shape[:2]]
        if parameter.shape[1] == 3:
            limits[1] = 3  # the channels of an image stay
        squares = [0.0, 0.0]
        for o in range(parameter.shape[0]):
            for i in range(parameter.shape[1]):
                part = o < limits[0] and i < limits[1]
                squares[part] += float(parameter.grad[o, i].double().square().sum())
                inside += part * parameter[o, i].numel()
        entries += parameter.numel()
        count += 1
        for place, square in enumerate((sum(squares), *squares)):
            sums[place] += square**0.5
    return [each / count for each in sums], inside / entries


@pytest.mark.parametrize(
    ("name", "width", "changes"),
    [
        ("slimclr", 0.5, {"widths": (1.0, 0.5), "splits": 1}),
        ("slimmable", 0.25, {"widths": (1.0, 0.5, 0.25)}),
        ("moco_v2", 0.25, {"splits": 1}),
    ],
)
def test_norms_are_those_of_the_smallest_network_and_the_rest(
    name: str, width: float, changes: dict[str, object], tmp_path: Path
) -> None:
    method = trained(name, tmp_path, **changes)
    record = read_record(tmp_path)
    assert record is not None
    assert record.gradient_steps == [3]
    norms, share = by_hand(recorded_encoder(method), width)
    assert record.norms[0].tolist() == pytest.approx(norms, rel=1e-4)
    assert record.share == pytest.approx(share)


def test_the_entries_of_a_slim_network_move_with_its_selection(tmp_path: Path) -> None:
    method = trained("sacl_xd", tmp_path / "before")
    host = method.pair.host
    with torch.no_grad():  # other filters are the largest now
        for parameter in host.parameters():
            parameter.mul_(torch.rand(len(parameter)).view(-1, *[1] * (parameter.ndim - 1)))
    keeping = recorder(method, tmp_path / "after")
    keeping.weights(0, 0)
    method.before_epoch(1)
    keeping.gradients(0)
    before, after = (read_record(tmp_path / when) for when in ("before", "after"))
    assert before is not None
    assert after is not None
    assert after.norms[0, 0].item() == before.norms[0, 0].item()
    assert after.norms[0, 2].item() != before.norms[0, 2].item()


CASES = [*((name, {}) for name in methods.names() if name != "probe"), ("sacl_xd", {"width": 1.0})]
"""A probe's encoder learns nothing: `--record` is refused."""


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_every_method_can_be_recorded(name: str, changes: dict[str, object], tmp_path: Path) -> None:
    method = trained(name, tmp_path, **changes)
    record = read_record(tmp_path)
    assert record is not None
    whole, rest, part = record.norms[0].tolist()
    assert 0 < part < whole
    assert rest == pytest.approx((whole**2 - part**2) ** 0.5, rel=0.2)  # equal for one layer, these are means
    assert 0 < record.share < 1
    assert record.directions[0].abs().sum() > 0
    encoder = dict(recorded_encoder(method).named_parameters())
    assert all(torch.equal(encoder[key], value) for key, value in record.weights[-1].items())
    others = {name: each for name, each in method.encoders().items() if each is not recorded_encoder(method)}
    assert set(record.others) == set(others)
    for name, each in others.items():
        assert set(record.others[name]) == set(record.weight_steps)
        kept = record.others[name][record.weight_steps[-1]]
        now = dict(each.named_parameters())
        assert set(kept) == set(now)
        assert all(torch.equal(now[key], value) for key, value in kept.items())
    pair = method.sharing()
    if pair is not None:
        assert recorded_encoder(method) in set(pair[0].modules()), (
            "the encoder is a part of the network that is trained"
        )


def test_a_long_gradient_is_folded_without_changing_angles() -> None:
    generator = torch.Generator().manual_seed(3)
    a, noise = torch.randn(2, 5 * ENTRIES, generator=generator)
    b = a + 0.5 * noise
    exact = torch.cosine_similarity(a, b, dim=0).item()
    assert folded(a).shape == (ENTRIES,)
    assert torch.cosine_similarity(folded(a), folded(b), dim=0).item() == pytest.approx(exact, abs=5 / ENTRIES**0.5)
    assert torch.allclose(folded(a + b), folded(a) + folded(b), atol=1e-4)
    short = torch.randn(7, 9, generator=generator)
    assert torch.equal(folded(short), short.flatten())


@pytest.mark.parametrize(("steps", "epochs"), [(10, 2), (780, 10), (100_000, 1000), (201, 51)])
def test_a_record_has_a_bounded_number_of_files(steps: int, epochs: int, tmp_path: Path) -> None:
    keeping = recorder(begun("supervised"), tmp_path, steps, epochs)
    due = [step for step in range(steps) if keeping.due(step)]
    assert min(steps, SAMPLES // 2) <= len(due) <= SAMPLES
    for epoch in range(epochs + 1):
        keeping.weights(epoch, epoch)
    kept = sorted(tmp_path.glob("weights-*"))
    assert min(epochs, COPIES // 2) <= len(kept) <= COPIES + 2
    assert kept[-1].name == f"weights-{epochs:08}.safetensors"


def test_there_is_no_record_where_nothing_was_kept(tmp_path: Path) -> None:
    assert read_record(tmp_path / "nowhere") is None
