"""Places in the information plane: against the definitions in loops, and what mutual information always keeps to."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from wisp.errors import WispError
from wisp.evaluate.information import by_chance, ceiling, entropy, mutual_information, place, quantised


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def by_hand(a: list[int], b: list[int]) -> tuple[float, float]:
    """H(a) and I(a;b) in bits, term by term."""
    n = len(a)
    known = -sum(count / n * math.log2(count / n) for count in Counter(a).values())
    shared = 0.0
    for (x, y), count in Counter(zip(a, b, strict=True)).items():
        shared += count / n * math.log2((count / n) / ((a.count(x) / n) * (b.count(y) / n)))
    return known, shared


def cells_by_hand(features: Tensor) -> list[tuple[int, ...]]:
    """Low, middle or high along each component; the components from the covariance, by deflated power iteration."""
    rows = [[v / math.sqrt(sum(w * w for w in row)) for v in row] for row in features.double().tolist()]
    n, d = len(rows), len(rows[0])
    mean = [sum(row[j] for row in rows) / n for j in range(d)]
    rows = [[row[j] - mean[j] for j in range(d)] for row in rows]
    covariance = torch.tensor([[sum(row[i] * row[j] for row in rows) / n for j in range(d)] for i in range(d)])
    covariance = covariance.double()
    codes: list[list[int]] = [[] for _ in rows]
    width = 0.0
    for _ in range(4):
        axis = torch.ones(d, dtype=torch.float64)
        for _ in range(4000):
            axis = covariance @ axis
            axis /= axis.norm()
        variance = float(axis @ covariance @ axis)
        width = width or math.sqrt(variance)
        for code, row in zip(codes, rows, strict=True):
            score = sum(a * b for a, b in zip(axis.tolist(), row, strict=True))
            code.append(-1 if score < -width / 2 else 1 if score > width / 2 else 0)
        covariance -= variance * torch.outer(axis, axis)
    return [tuple(code) for code in codes]


def clusters(generator: torch.Generator, images: int = 300, features: int = 6) -> tuple[Tensor, Tensor]:
    """Features [N,D] that tell something of their labels, int64 [N]."""
    labels = torch.randint(3, (images,), generator=generator)
    centres = torch.randn(3, features, generator=generator)
    scales = torch.linspace(1.5, 0.3, features)
    return centres[labels] + scales * torch.randn(images, features, generator=generator), labels


def same_partition(a: list[tuple[int, ...]], b: list[int]) -> bool:
    pairs = set(zip(a, b, strict=True))
    return len(pairs) == len(set(a)) == len(set(b))


def test_a_place_is_the_definition_in_loops(generator: torch.Generator) -> None:
    features, labels = clusters(generator)
    codes = cells_by_hand(features)
    numbers = [sorted(set(codes)).index(code) for code in codes]
    assert len(set(codes)) > 30
    signless = quantised(features).tolist()
    # the sign of a component swaps low and high: the partition is the same up to that
    assert same_partition(codes, signless)
    known, shared = by_hand(numbers, labels.tolist())
    found = place(features, labels)
    assert found.image == pytest.approx(known, abs=1e-9)
    assert found.label == pytest.approx(shared, abs=1e-9)


def test_chance_is_the_mean_over_all_orders() -> None:
    cells, labels = [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 2]
    orders = list(itertools.permutations(labels))
    mean = sum(by_hand(cells, list(order))[1] for order in orders) / len(orders)
    assert by_chance(torch.tensor(cells), torch.tensor(labels)) == pytest.approx(mean, abs=1e-9)


def test_the_order_of_images_and_the_names_of_cells_are_nothing(generator: torch.Generator) -> None:
    features, labels = clusters(generator)
    order = torch.randperm(len(labels), generator=generator)
    names = torch.randperm(81, generator=generator)
    found, other = place(features, labels), place(features[order], labels[order])
    assert (other.image, other.label, other.chance) == pytest.approx((found.image, found.label, found.chance), abs=1e-9)
    cells = quantised(features)
    assert entropy(names[cells]) == pytest.approx(found.image, abs=1e-9)
    assert mutual_information(names[cells], labels) == pytest.approx(found.label, abs=1e-9)
    assert mutual_information(labels, cells) == pytest.approx(found.label, abs=1e-9)


def test_scale_and_rotation_of_the_features_are_nothing(generator: torch.Generator) -> None:
    features, labels = clusters(generator)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))
    found, other = place(features, labels), place(7 * features.double() @ rotation, labels)
    assert (other.image, other.label) == pytest.approx((found.image, found.label), abs=1e-9)


def test_neither_side_knows_more_than_there_is(generator: torch.Generator) -> None:
    for images in (5, 40, 1000):
        features, labels = clusters(generator, images)
        found = place(features, labels)
        assert found.label is not None
        assert 0 <= found.label <= min(found.image, entropy(labels)) + 1e-9
        assert found.image <= ceiling(images) + 1e-9 <= math.log2(images) + 1e-8


def test_what_says_the_label_says_all_of_it(generator: torch.Generator) -> None:
    labels = torch.randint(4, (400,), generator=generator)
    assert mutual_information(labels, labels) == pytest.approx(entropy(labels))
    corners = torch.nn.functional.one_hot(labels, 4).float()
    found = place(corners, labels)
    assert found.label == pytest.approx(entropy(labels), abs=1e-9)
    assert found.image == pytest.approx(entropy(labels), abs=1e-9), "and nothing else"


def test_unrelated_labels_are_told_apart_by_chance_and_the_bias_formula(generator: torch.Generator) -> None:
    features, _ = clusters(generator, 4000)
    labels = torch.randint(3, (4000,), generator=generator)
    found = place(features, labels)
    assert found.label is not None
    assert found.chance is not None
    cells = len(quantised(features).unique())
    miller = (cells - 1) * 2 / (2 * 4000 * math.log(2))
    assert found.chance == pytest.approx(miller, rel=0.1)
    assert found.label == pytest.approx(found.chance, abs=3 * miller / math.sqrt((cells - 1) * 2 / 2))
    assert found.label < 0.05 * entropy(labels)


def test_a_component_in_which_nothing_happens_adds_nothing(generator: torch.Generator) -> None:
    line = torch.linspace(-1, 1, 200)[:, None] * torch.tensor([[0.0, 1.0, 0.0]]) + torch.tensor([[3.0, 0.0, 0.0]])
    noise = 1e-3 * torch.randn(200, 3, generator=generator)
    assert len(quantised(line).unique()) == 3
    assert torch.equal(quantised(line + noise) == quantised(line)[0], quantised(line) == quantised(line)[0])
    assert len(quantised(line + noise).unique()) == 3


def test_collapsed_features_know_nothing() -> None:
    features = torch.ones(50, 8) * 0.3 + 1e-8 * torch.arange(50)[:, None]
    found = place(features, torch.arange(50) % 2)
    assert (found.image, found.label, found.chance) == pytest.approx((0, 0, 0), abs=1e-12)


@pytest.mark.parametrize(("images", "saturated"), [(20, True), (2000, False)])
def test_too_few_images_are_said(images: int, saturated: bool, generator: torch.Generator) -> None:
    assert place(torch.randn(images, 32, generator=generator), None).saturated is saturated


def test_without_labels_there_is_no_label_information(generator: torch.Generator) -> None:
    found = place(clusters(generator)[0], None)
    assert (found.label, found.chance) == (None, None)


def test_features_that_are_not_finite_have_no_place() -> None:
    with pytest.raises(WispError, match="non-finite features"):
        quantised(torch.tensor([[1.0, math.nan], [0.0, 1.0]]))
