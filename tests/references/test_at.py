"""AT against attention maps of every stage, taken by name and written again in loops."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from small_methods import CLASSES, SIZE, fixed_batch, small_method, small_teacher
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.errors import WispError
from wisp.methods import at, kd
from wisp.methods.at import AT
from wisp.methods.method import Surroundings

Image = list[list[list[float]]]


def small(**changes: object) -> AT:
    method = small_method("at", **changes).double()
    assert isinstance(method, AT)
    return method


def stages(encoder: nn.Module, x: Tensor, *, training: bool) -> list[Tensor]:
    """The outputs of the residual stages, by name; of a copy."""
    encoder, found = copy.deepcopy(encoder).train(training), []
    for name in ("layer1", "layer2", "layer3"):
        encoder.get_submodule(name).register_forward_hook(lambda *call: found.append(call[2].detach()))
    with torch.no_grad():
        encoder(x)
    return found


def attention(image: Image) -> list[float]:
    """Mean over the channels of the squares at every place, as a vector of length 1."""
    height, width = len(image[0]), len(image[0][0])
    found = [sum(channel[y][x] ** 2 for channel in image) / len(image) for y in range(height) for x in range(width)]
    length = math.sqrt(sum(value**2 for value in found))
    return [value / length for value in found]


def gap(student: Tensor, teacher: Tensor) -> float:
    """Mean over images and places, at the smaller side; the averaging is torch's on both sides."""
    side = min(student.shape[-1], teacher.shape[-1])
    pairs = zip(*(adaptive_avg_pool2d(each, side).tolist() for each in (student, teacher)), strict=True)
    squares = [(a - b) ** 2 for s, t in pairs for a, b in zip(attention(s), attention(t), strict=True)]
    return sum(squares) / len(squares)


def cross_entropy(logits: list[list[float]], labels: list[int]) -> float:
    shares = [math.exp(row[k]) / sum(math.exp(value) for value in row) for row, k in zip(logits, labels, strict=True)]
    return -sum(math.log(share) for share in shares) / len(shares)


@pytest.mark.parametrize(("plan", "weight"), [("pad_crop", 1000.0), ("multicrop_small", 10.0)])
def test_the_loss_is_zagoruykos(plan: str, weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "pad_crop", PLANS[plan])
    method = small() if weight == 1000 else small(attention_weight=weight)
    batch = fixed_batch(method, 4, dtype=torch.float64)
    assert batch.labels is not None
    terms = method(batch, 0.5)
    shown: list[Tensor] = []
    method.teacher.encoder.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0].clone()))
    found = {"cross_entropy": 0.0, "attention": 0.0}
    for view in batch.views:
        method.teacher.looks([view])
        ours = stages(method.encoder, view, training=True)
        theirs = stages(method.teacher.encoder, shown[-1], training=False)
        share = 1 / len(batch.views)
        found["attention"] += weight * share * sum(gap(s, t) for s, t in zip(ours, theirs, strict=True))
        with torch.no_grad():
            logits = method.classifier(copy.deepcopy(method.encoder)(view)).tolist()
        found["cross_entropy"] += share * cross_entropy(logits, batch.labels.tolist())
    assert list(terms) == list(found)
    for name, value in found.items():
        assert value > 1e-2, name
        assert float(terms[name].detach()) == pytest.approx(value, rel=1e-9), name


def test_gradient_reaches_the_student_up_to_its_last_map_alone() -> None:
    method = small()
    method(fixed_batch(method, 4, dtype=torch.float64), 0.5)["attention"].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())
    assert all(p.grad is None for p in (*method.classifier.parameters(), *method.teacher.parameters()))


def test_nobody_watches_after_a_step() -> None:
    method = small()
    method(fixed_batch(method, 4, dtype=torch.float64), 0.5)
    parts = [*method.encoder.modules(), *method.teacher.modules()]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in parts)


def test_the_teacher_needs_no_classifier() -> None:
    method = small()
    method.teacher.classifier = None
    assert len(method(fixed_batch(method, 4, dtype=torch.float64), 0.5)) == 2
    assert not hasattr(at.Config(), "teacher_classifier")


def built(student: nn.Module, features: int, teacher: Teacher, size: int = SIZE) -> AT:
    surroundings = Surroundings(
        features=features,
        image_size=size,
        images=64,
        batch_size=4,
        plan=PLANS["supervised"],
        classes=CLASSES,
        teacher=teacher,
    )
    return AT(at.Config(), student, surroundings)


def test_a_residual_student_of_a_transformer() -> None:
    """Tokens after every quarter of the blocks are maps, all of one side."""
    spec, wide = stock.spec("resnet8", 32), stock.spec("vit_tiny_patch16_224", 64)
    own = Sight(image_size=64, mean=wide.mean, std=wide.std)
    student = Sight(image_size=32, mean=spec.mean, std=spec.std)
    bill = Bill(flops=None, certainty="unknown", note="")
    width = wide.features
    teacher = Teacher(wide.build(), features=width, width=width, own=own, student=student, origin="vit", bill=bill)
    method = built(spec.build(), spec.features, teacher, 32)
    batch = Batch((torch.randn(4, 3, 32, 32),), torch.arange(4), torch.arange(4))
    term = method(batch, 0.5)["attention"]
    assert 0 < float(term.detach()) < 3000
    term.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())


def test_networks_without_maps_are_refused() -> None:
    spec = stock.spec("resnet8", SIZE)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 8))
    line = r"^Sequential has no feature map of more than one pixel at {} px, .* or the method rkd$"
    with pytest.raises(WispError, match=line.format(SIZE)):
        built(flat, 8, small_teacher(spec))
    teacher = small_teacher(spec)
    side = teacher.own.image_size
    teacher.encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * side**2, 24))
    with pytest.raises(WispError, match=line.format(side)):
        built(spec.build(), spec.features, teacher)


def test_the_settings_are_repdistillers() -> None:
    assert at.Config().attention_weight == 1000.0
    assert at.SETTINGS == kd.SETTINGS


def test_settings_that_cannot_be() -> None:
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(WispError, match=r"^attention_weight is"):
            at.Config(attention_weight=value)
