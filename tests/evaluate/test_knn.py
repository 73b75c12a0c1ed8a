"""kNN against the formula written out in float64, in bounded memory, with a k that the data can bear."""

import math

import pytest
import torch

import wisp.evaluate.knn as module
from wisp.evaluate.features import Features
from wisp.evaluate.knn import accuracy, knn, neighbours


def _overlapping(train: int = 120, test: int = 80, classes: int = 5) -> Features:
    """Clusters that overlap so much that votes, weights and k matter."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(classes, 6, generator=generator)
    labels = torch.randint(classes, (train + test,), generator=generator)
    x = centres[labels] + 1.5 * torch.randn(train + test, 6, generator=generator)
    return Features(x[:train], labels[:train], x[train:], labels[train:])


def _reference(features: Features, k: int, temperature: float) -> float:
    """InstDisc section 3.4, one image at a time."""
    train = [row.tolist() for row in features.train.double()]
    right = 0
    for row, label in zip(features.test.double().tolist(), features.test_labels.tolist(), strict=True):
        similar = []
        for other, its in zip(train, features.train_labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(row, other, strict=True))
            similar.append((dot / math.hypot(*row) / math.hypot(*other), its))
        votes = [0.0] * features.classes
        for cosine, its in sorted(similar, reverse=True)[:k]:
            votes[its] += math.exp(cosine / temperature)
        right += votes.index(max(votes)) == label
    return 100 * right / len(features.test)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_the_formula(temperature: float) -> None:
    features = _overlapping()
    found = knn(features, ks=(1, 5, 20, 60), temperature=temperature)
    expected = {k: _reference(features, k, temperature) for k in (1, 5, 20, 60)}
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(set(expected.values())) > 1  # else k would not matter here, and the test prove little


def test_weights_matter() -> None:
    features = _overlapping()
    assert knn(features, ks=(60,), temperature=0.07) != knn(features, ks=(60,), temperature=100.0)


@pytest.mark.parametrize("elements", [1, 333, 120 * 7])
def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    whole = knn(_overlapping(), ks=(5, 20))
    monkeypatch.setattr(module, "_ELEMENTS", elements)
    assert knn(_overlapping(), ks=(5, 20)) == whole


def test_the_scale_of_features_does_not_matter() -> None:
    features = _overlapping()
    scales = torch.linspace(0.01, 100, len(features.train))[:, None]
    scaled = Features(features.train * scales, features.train_labels, features.test * 7, features.test_labels)
    assert knn(scaled) == knn(features)


def test_k_is_at_most_half_of_the_images() -> None:
    assert neighbours((20, 200), 400) == ((20, 200), None)
    kept, note = neighbours((20, 200), 399)
    assert kept == (20,)
    assert note == "kNN: k = 20 instead of 20, 200: k is at most half of the 399 training images"
    assert neighbours((20, 200), 30)[0] == (15,)
    assert neighbours((20,), 1)[0] == (1,)
    assert list(knn(_overlapping(train=100))) == [20]


def test_two_classes_are_classes_and_not_a_threshold() -> None:
    assert accuracy(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]), 2) == 75
    assert accuracy(torch.tensor([0, 0]), torch.tensor([0, 0]), 1) == 100


def test_an_accuracy_is_the_exact_quotient() -> None:
    """9.333333333333334, where a share in float32 gave 9.333333373069763."""
    predicted = torch.tensor([0] * 14 + [1] * 136)
    assert accuracy(predicted, torch.zeros(150, dtype=torch.int64), 10) == 100 * 14 / 150
