"""Extra knowledge against the pure losses, on maps and embeddings that are taken by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from references.contrast import unit
from references.paper import Matrix, embed
from small_methods import SIZE, fixed_batch, small_method, small_teacher
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.errors import WispError
from wisp.losses.relation import rkd_angle, rkd_distance
from wisp.methods.disco import DisCo
from wisp.methods.parts.extra import Extra
from wisp.methods.parts.taught import Taught
from wisp.methods.seed import SEED, Config


def small(kind: str, **changes: object) -> SEED:
    method = small_method("seed", batch_size=4, extra=kind, **changes).double()
    assert isinstance(method, SEED)
    return method


def resnet_maps(encoder: nn.Module, x: Tensor, *, training: bool) -> list[Matrix]:
    """The output of every residual stage, by name; of a copy."""
    encoder = copy.deepcopy(encoder).train(training)
    found: list[Matrix] = []
    for name in ("layer1", "layer2", "layer3"):
        getattr(encoder, name).register_forward_hook(lambda *call: found.append(call[2].detach().numpy()))
    with torch.no_grad():
        encoder(x)
    return found


def attention_map(features: Matrix, side: int) -> Matrix:
    """Of one image [C,H,W]: mean of the squares over channels after averaging to `side`, a vector of length 1."""
    if features.shape[1] != side:
        pooled = nn.functional.adaptive_avg_pool2d(torch.from_numpy(features)[None], side)
        features = pooled[0].numpy()
    energy = np.array([np.mean([channel[i, j] ** 2 for channel in features]) for i, j in np.ndindex(side, side)])
    return energy / np.sqrt((energy**2).sum())


def softmax(row: Matrix) -> Matrix:
    shifted = np.exp(row - row.max())
    return shifted / shifted.sum()


def attention_gap(method: SEED | DisCo, network: nn.Module, view: Tensor) -> float:
    """Squared difference of attention maps, mean over images and places, added up over three stages."""
    own, shown = resnet_maps(network, view, training=True), []
    method.teacher.encoder.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0].clone()))
    method.teacher([view])
    taught = resnet_maps(method.teacher.encoder, shown[0], training=False)
    gap = 0.0
    for s, t in zip(own, taught, strict=True):
        side = min(s.shape[2], t.shape[2])
        gaps = [(attention_map(a, side) - attention_map(b, side)) ** 2 for a, b in zip(s, t, strict=True)]
        gap += float(np.mean(gaps))
    return gap


@pytest.mark.parametrize("plan", ["seed_cifar", "multicrop_small"])
def test_attention_is_compared_at_every_stage(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "seed_cifar", PLANS[plan])
    method = small("at")
    batch = fixed_batch(method, 4, dtype=torch.float64)
    found = method(batch, 0.0)["at"].item()
    gaps = [attention_gap(method, method.network[0], view) for view in batch.views]
    assert min(gaps) > 1e-4
    assert found == pytest.approx(1000 * np.mean(gaps), rel=1e-6)  # adaptive pooling is torch's on both sides


def test_attention_of_a_student_in_groups() -> None:
    """Four passes of two images each, and one of the teacher with both views."""
    method = small_method("disco", batch_size=8, splits=4, extra="at", extra_weight=3.0).double()
    assert isinstance(method, DisCo)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    gaps = [
        attention_gap(method, method.base.network[0], view[first : first + 2])
        for view in batch.views
        for first in range(0, 8, 2)
    ]
    assert method(batch, 0.0)["at"].item() == pytest.approx(3 * np.mean(gaps), rel=1e-6)


def test_relations_are_those_of_normalised_embeddings() -> None:
    method = small("rkd")
    batch = fixed_batch(method, 4, dtype=torch.float64)
    student = torch.from_numpy(unit(embed(method.network, batch.views[0])))
    teacher = torch.from_numpy(unit(method.teacher(batch.views)[0].numpy()))
    wanted = rkd_distance(student, teacher) + rkd_angle(student, teacher)
    assert method(batch, 0.0)["rkd"].item() == pytest.approx(wanted.item(), rel=1e-9)


def test_outputs_stand_for_logits() -> None:
    method = small("kd", extra_weight=0.5)
    batch = fixed_batch(method, 4, dtype=torch.float64)
    student, teacher = embed(method.network, batch.views[0]), method.teacher(batch.views)[0].numpy()
    losses = []
    for s, t in zip(student, teacher, strict=True):
        p, q = softmax(t / 4), softmax(s / 4)
        losses.append(16 * sum(a * (np.log(a) - np.log(b)) for a, b in zip(p, q, strict=True)))
    assert method(batch, 0.0)["kd"].item() == pytest.approx(0.5 * np.mean(losses), rel=1e-9)


@pytest.mark.parametrize("kind", ["at", "rkd", "kd"])
def test_it_adds_a_term_and_leaves_the_others_and_the_passes_alone(kind: str) -> None:
    plain, more = small("none"), small(kind)
    batch = fixed_batch(plain, 4, dtype=torch.float64)
    calls = []
    more.network[0].register_forward_hook(lambda *_: calls.append("student"))
    more.teacher.encoder.register_forward_hook(lambda *_: calls.append("teacher"))
    one, two = plain(batch, 0.0), more(batch, 0.0)
    assert sorted(calls) == ["student", "teacher"]
    assert list(two) == [*one, kind]
    assert one["distill"] == two["distill"]
    two[kind].backward()
    assert all(p.grad is not None for p in more.network[0].conv1.parameters())


def teacher_of(name: str, student: stock.EncoderSpec, size: int) -> Teacher:
    spec = stock.spec(name, size)
    own = Sight(image_size=size, mean=spec.mean, std=spec.std)
    seen = Sight(image_size=student.image_size, mean=student.mean, std=student.std)
    bill = Bill(flops=None, certainty="unknown", note="")
    width = spec.features
    return Teacher(spec.build(), features=width, width=width, own=own, student=seen, origin=name, bill=bill)


def test_a_mobilenet_attends_where_a_resnet_does() -> None:
    student = stock.spec("mobilenetv3_small_050", 64)
    teacher = teacher_of("resnet10t", student, 96)
    encoder = student.build()
    extra = Extra(Config(extra="at"), encoder, teacher, image_size=64, out=teacher.width)
    images = [torch.randn(4, 3, 64, 64), torch.randn(4, 3, 64, 64)]
    with extra.watching(encoder, teacher) as maps:
        theirs = teacher(images)
        ours = [encoder(each) for each in images]
    assert [len(each) for each in maps.student[0]] == [4] * len(maps.student[0])
    assert [len(each) for each in maps.teacher[0]] == [8] * len(maps.teacher[0])
    term = extra.terms(ours, theirs, maps)["at"]
    assert 0 < term.item() < 1000
    term.backward()
    assert encoder.conv_stem.weight.grad.abs().sum() > 0


def test_networks_without_maps_and_outputs_of_another_width_are_refused() -> None:
    teacher = small_teacher(stock.spec("resnet8", SIZE))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 8))
    with pytest.raises(WispError, match=r"no feature map .* at 16 px, .*--method\.extra rkd$"):
        Extra(Taught(extra="at"), flat, teacher, image_size=SIZE, out=16)
    with pytest.raises(WispError, match=r"^the student gives 8 numbers and the teacher small 16, .* rkd$"):
        Extra(Taught(extra="kd"), flat, teacher, image_size=SIZE, out=8)
    with pytest.raises(WispError, match="extra_weight is 0"):
        Taught(extra="at", extra_weight=0.0)
    with pytest.raises(WispError, match=r"name --method\.extra$"):
        Taught(extra_weight=2.0)
