"""SRRL against cross-entropy and two mean squared differences, written again in loops."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from small_methods import CLASSES, SIZE, fixed_batch, small_method, small_teacher, total
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.methods import srrl
from wisp.methods.srrl import SRRL
from wisp.teachers.probe import TeacherProbe

Rows = list[list[float]]


def small(**changes: object) -> SRRL:
    method = small_method("srrl", **changes).double()
    assert isinstance(method, SRRL)
    return method


def affine(rows: Rows, layer: nn.Module) -> Rows:
    assert isinstance(layer, nn.Linear)
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    return [
        [sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)]
        for row in rows
    ]


def rectified(rows: Rows) -> Rows:
    return [[max(0.0, value) for value in row] for row in rows]


def gap(one: Rows, other: Rows) -> float:
    """Mean over all numbers."""
    squares = [(a - b) ** 2 for r, s in zip(one, other, strict=True) for a, b in zip(r, s, strict=True)]
    return sum(squares) / len(squares)


def cross_entropy(logits: Rows, labels: list[int]) -> float:
    shares = [math.exp(row[k]) / sum(math.exp(value) for value in row) for row, k in zip(logits, labels, strict=True)]
    return -sum(math.log(share) for share in shares) / len(shares)


@pytest.mark.parametrize(("plan", "features", "logits"), [("pad_crop", 1.0, 1.0), ("multicrop_small", 0.5, 3.0)])
def test_the_loss_is_farhats(plan: str, features: float, logits: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "pad_crop", PLANS[plan])
    method = small(feature_weight=features, logit_weight=logits)
    teacher = method.teacher.classifier
    assert teacher is not None
    batch = fixed_batch(method, 6, dtype=torch.float64)
    assert batch.labels is not None
    found = {"cross_entropy": 0.0, "features": 0.0, "logits": 0.0}
    with torch.no_grad():
        terms = method(batch, 0.5)
        for view in batch.views:
            student: Rows = method.encoder(view).tolist()
            theirs: Rows = method.teacher.looks([view])[0].tolist()
            first, _, second, _ = method.connector
            ours = rectified(affine(rectified(affine(student, first)), second))
            share = 1 / len(batch.views)
            own = affine(student, method.classifier)
            found["cross_entropy"] += share * cross_entropy(own, batch.labels.tolist())
            found["features"] += features * share * gap(ours, theirs)
            found["logits"] += logits * share * gap(affine(ours, teacher), affine(theirs, teacher))
    assert list(terms) == list(found)
    for name, value in found.items():
        assert value > 1e-4, name
        assert float(terms[name]) == pytest.approx(value, rel=1e-9), name


def test_the_connector_is_half_way_wide_and_ends_in_a_relu() -> None:
    first, one, second, two = srrl.connector(10, 25)
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    assert (first.in_features, first.out_features, second.out_features) == (10, 17, 25)
    assert first.bias is not None
    assert second.bias is not None
    assert isinstance(one, nn.ReLU)
    assert isinstance(two, nn.ReLU)


def test_a_student_with_the_teachers_features_agrees() -> None:
    """Where the connector gives what the teacher sees, only the labels are left."""
    method = small()
    batch = fixed_batch(method, 6, dtype=torch.float64)
    shown = iter(method.teacher.looks(batch.views))
    method.connector.register_forward_hook(lambda *_: next(shown))
    terms = method(batch, 0.5)
    assert float(terms["features"]) == 0
    assert float(terms["logits"]) == 0


@pytest.mark.parametrize("term", ["features", "logits"])
@pytest.mark.parametrize("probed", [False, True])
def test_gradient_passes_through_the_teachers_classifier_and_leaves_it_alone(term: str, probed: bool) -> None:
    method = small()
    if probed:
        layer = nn.Linear(method.teacher.features, CLASSES)
        method.teacher.classifier = TeacherProbe(layer).double().requires_grad_(False).eval()
    before = copy.deepcopy(method.teacher)
    batch = fixed_batch(method, 6, dtype=torch.float64)
    method(batch, 0.5)[term].backward()
    for part in (method.encoder, method.connector):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())
    assert all(p.grad is None for p in (*method.classifier.parameters(), *method.teacher.parameters()))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, weight_decay=0.1)
    optimizer.zero_grad()
    total(method(batch, 0.5)).backward()
    optimizer.step()
    kept, now = [*before.parameters(), *before.buffers()], [*method.teacher.parameters(), *method.teacher.buffers()]
    assert all(torch.equal(one, other) for one, other in zip(kept, now, strict=True))


def test_the_students_own_classifier_is_what_is_kept() -> None:
    method = small()
    assert method.classifiers() == {"1x": method.classifier}
    assert method.encoders() == {"1x": method.encoder}
    assert method.classifier.in_features == stock.spec("resnet8", SIZE).features
    assert small_teacher(stock.spec("resnet8", SIZE)).features != method.classifier.in_features


def test_the_settings_are_the_codes() -> None:
    config, large = srrl.Config(), srrl.SETTINGS["large"]
    assert (config.feature_weight, config.logit_weight) == (1.0, 1.0)
    found = (large.optimizer, large.lr, large.batch_size, large.weight_decay, large.epochs, large.warmup_epochs)
    assert found == ("sgd", 0.2, 512, 1e-4, 100, 0)
    small = srrl.SETTINGS["small"]
    assert (small.optimizer, small.lr, small.batch_size, small.weight_decay) == ("adamw", 1e-3, 64, 0.01)
    assert small.lr_scale == "none"


def test_settings_that_cannot_be() -> None:
    for name in ("feature_weight", "logit_weight"):
        for value in (0.0, -1.0, float("nan")):
            with pytest.raises(WispError, match=f"^{name} is"):
                srrl.Config(**{name: value})
