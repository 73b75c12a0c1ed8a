"""Health against the formulas written out in float64, and warnings when they are due."""

import math

import pytest
import torch

import wisp.evaluate.health as module
from wisp.errors import WispError
from wisp.evaluate.health import alignment, effective_rank, health, uniformity


def _normal(images: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(images, size, generator=torch.Generator().manual_seed(seed))


def _unit(x: torch.Tensor) -> list[list[float]]:
    return [[value / math.hypot(*row) for value in row] for row in x.double().tolist()]


def test_std_equals_the_formula() -> None:
    x = _normal(50, 6) + 1
    columns = list(zip(*_unit(x), strict=True))
    stds = []
    for column in columns:
        mean = sum(column) / 50
        stds.append(math.sqrt(sum((value - mean) ** 2 for value in column) / 50))
    assert health(x).std == pytest.approx(math.sqrt(6) * sum(stds) / 6, rel=1e-12)


def test_std_is_one_on_the_sphere() -> None:
    assert health(_normal(5000, 64)).std == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (7, 7)])
def test_effective_rank_equals_the_formula(shape: tuple[int, int]) -> None:
    x = _normal(*shape).double() * torch.logspace(0, -2, shape[1], dtype=torch.float64)
    p = torch.linalg.svdvals(x)
    p = (p / p.sum()).tolist()
    assert effective_rank(x) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-9)


def test_effective_rank_of_known_matrices() -> None:
    assert effective_rank(torch.eye(9)) == pytest.approx(9)
    assert effective_rank(torch.eye(9)[:4]) == pytest.approx(4)
    assert effective_rank(torch.ones(20, 5)) == pytest.approx(1)
    assert effective_rank(torch.zeros(20, 5)) == 1
    # rank two in a thousand dimensions: rounding must not add up to more
    assert effective_rank(_normal(500, 2) @ _normal(2, 1000, seed=1)) < 2.01


def test_health_takes_the_rank_of_centred_unit_features() -> None:
    x = _normal(60, 8) + 2
    unit = torch.tensor(_unit(x), dtype=torch.float64)
    assert health(x).effective_rank == pytest.approx(effective_rank(unit - unit.mean(dim=0)), rel=1e-9)
    # a mean direction far away from the origin changes nothing about what tells images apart
    assert health(_normal(500, 8) * 0.01 + 10).effective_rank > 6


def test_alignment_and_uniformity_equal_the_formulas() -> None:
    a, b = _normal(30, 5), _normal(30, 5, seed=1)
    ua, ub = _unit(a), _unit(b)
    squares = [sum((p - q) ** 2 for p, q in zip(x, y, strict=True)) for x, y in zip(ua, ub, strict=True)]
    found = health(a, b)
    assert found.alignment == pytest.approx(sum(squares) / 30, rel=1e-12)

    def reference(unit: list[list[float]]) -> float:
        pairs = [
            math.exp(-2 * sum((p - q) ** 2 for p, q in zip(x, y, strict=True)))
            for i, x in enumerate(unit)
            for y in unit[i + 1 :]
        ]
        return math.log(sum(pairs) / len(pairs))

    assert found.uniformity == pytest.approx((reference(ua) + reference(ub)) / 2, rel=1e-9)
    assert health(a).uniformity == pytest.approx(reference(ua), rel=1e-9)
    assert health(a).alignment is None


def test_uniformity_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.nn.functional.normalize(_normal(100, 7).double(), dim=1)
    whole = uniformity(x)
    monkeypatch.setattr(module, "_ROWS", 9)
    assert uniformity(x) == pytest.approx(whole, rel=1e-12)


def test_best_and_worst_values() -> None:
    x = torch.nn.functional.normalize(_normal(20, 4).double(), dim=1)
    assert alignment(x, x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert uniformity(x[:1].expand(20, -1)) == pytest.approx(0, abs=1e-12)
    assert health(_normal(2000, 256)).uniformity == pytest.approx(-4, abs=0.05)


def test_a_healthy_embedding_has_no_warning() -> None:
    assert health(_normal(500, 64)).warning is None
    assert health(_normal(500, 64).relu() + 0.5).warning is None  # pooled ReLU features share a mean
    assert health(_normal(8, 512)).warning is None  # few images span few dimensions
    assert health(torch.eye(2)).warning is None


def test_complete_collapse_is_named() -> None:
    found = health(torch.ones(100, 64) + 1e-4 * _normal(100, 64))
    assert found.std < 0.001
    assert found.warning is not None
    assert found.warning.startswith("the embedding has collapsed")
    assert "lower --lr" in found.warning
    assert health(torch.zeros(100, 64)).warning == health(torch.ones(100, 64)).warning


def test_dimensional_collapse_is_named() -> None:
    found = health(_normal(300, 2) @ _normal(2, 64, seed=1))
    assert found.std > 0.5
    assert found.effective_rank < 2.1
    assert found.warning is not None
    assert found.warning.startswith("the embedding is flat: it uses about 2.0 of 64 dimensions")


def test_features_that_are_not_finite_are_named() -> None:
    x = _normal(10, 4)
    x[3, 2] = math.nan
    found = health(x, _normal(10, 4))
    assert math.isnan(found.std)
    assert found.warning is not None
    assert "non-finite" in found.warning


def test_bad_input_is_refused() -> None:
    with pytest.raises(WispError, match="two images or more"):
        health(torch.ones(1, 4))
    with pytest.raises(WispError, match="different shape"):
        health(torch.ones(3, 4), torch.ones(4, 4))
