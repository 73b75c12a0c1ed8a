"""RKD against relations of pairs and triplets, written again in loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from small_methods import fixed_batch, small_method
from wisp.data.plans import PLANS
from wisp.errors import WispError
from wisp.methods import kd, rkd
from wisp.methods.rkd import RKD

Rows = list[list[float]]


def small(**changes: object) -> RKD:
    method = small_method("rkd", **changes).double()
    assert isinstance(method, RKD)
    return method


def smooth_l1(a: float, b: float) -> float:
    return 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def relative_distances(rows: Rows) -> list[float]:
    """Of all pairs, divided by the mean over the images that differ."""
    n = len(rows)
    found = [math.dist(a, b) for a, b in itertools.product(rows, repeat=2)]
    return [distance / (sum(found) / (n * (n - 1))) for distance in found]


def cosine(vertex: list[float], one: list[float], other: list[float]) -> float:
    """Of the angle at `vertex`; 0 where a side has no length."""
    a = [x - v for x, v in zip(one, vertex, strict=True)]
    b = [x - v for x, v in zip(other, vertex, strict=True)]
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def distance_gap(student: Rows, teacher: Rows) -> float:
    pairs = list(zip(relative_distances(student), relative_distances(teacher), strict=True))
    return sum(smooth_l1(a, b) for a, b in pairs) / len(pairs)


def angle_gap(student: Rows, teacher: Rows) -> float:
    places = list(itertools.product(range(len(student)), repeat=3))
    gaps = (smooth_l1(cosine(*(student[i] for i in p)), cosine(*(teacher[i] for i in p))) for p in places)
    return sum(gaps) / len(places)


def cross_entropy(logits: Rows, labels: list[int]) -> float:
    shares = [math.exp(row[k]) / sum(math.exp(value) for value in row) for row, k in zip(logits, labels, strict=True)]
    return -sum(math.log(share) for share in shares) / len(shares)


@pytest.mark.parametrize("plan", ["pad_crop", "multicrop_small"])
def test_the_loss_is_parks(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "pad_crop", PLANS[plan])
    method = small()
    batch = fixed_batch(method, 5, dtype=torch.float64)
    assert batch.labels is not None
    found = {"cross_entropy": 0.0, "distance": 0.0, "angle": 0.0}
    with torch.no_grad():
        terms = method(batch, 0.5)
        for view in batch.views:
            features = method.encoder(view)
            student, teacher = features.tolist(), method.teacher.looks([view])[0].tolist()
            share = 1 / len(batch.views)
            found["cross_entropy"] += share * cross_entropy(method.classifier(features).tolist(), batch.labels.tolist())
            found["distance"] += 25 * share * distance_gap(student, teacher)
            found["angle"] += 50 * share * angle_gap(student, teacher)
    assert list(terms) == list(found)
    for name, value in found.items():
        assert value > 1e-2, name
        assert float(terms[name]) == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize(("one", "other"), [("distance", "angle"), ("angle", "distance")])
def test_a_weight_scales_its_term_and_0_leaves_it_out(one: str, other: str) -> None:
    batch = fixed_batch(small(), 5, dtype=torch.float64)
    plain = small()(batch, 0.5)
    alone = small(**{f"{one}_weight": 2.0, f"{other}_weight": 0.0})(batch, 0.5)
    assert list(alone) == ["cross_entropy", one]
    usual = getattr(rkd.Config(), f"{one}_weight")
    assert alone[one].item() / 2 == pytest.approx(plain[one].item() / usual, rel=1e-9)


@pytest.mark.parametrize("term", ["distance", "angle"])
def test_gradient_reaches_the_student_alone(term: str) -> None:
    method = small()
    method(fixed_batch(method, 5, dtype=torch.float64), 0.5)[term].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())
    assert all(p.grad is None for p in (*method.classifier.parameters(), *method.teacher.parameters()))


def test_the_teacher_needs_no_classifier() -> None:
    method = small()
    method.teacher.classifier = None
    assert len(method(fixed_batch(method, 5, dtype=torch.float64), 0.5)) == 3
    assert not hasattr(rkd.Config(), "teacher_classifier")


def test_the_settings_are_repdistillers() -> None:
    config = rkd.Config()
    assert (config.distance_weight, config.angle_weight) == (25.0, 50.0)
    assert rkd.SETTINGS == kd.SETTINGS


def test_settings_that_cannot_be() -> None:
    for name in ("distance_weight", "angle_weight"):
        for value in (-1.0, float("nan")):
            with pytest.raises(WispError, match=f"^{name} is"):
                rkd.Config(**{name: value})
    with pytest.raises(WispError, match=r"are 0, .* use the method supervised$"):
        rkd.Config(distance_weight=0.0, angle_weight=0.0)
