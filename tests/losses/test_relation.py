"""Relational distillation against its formulas in loops, its limits, and what it does where a formula divides by 0."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from wisp.losses import relation
from wisp.losses.contrastive import ABSENT
from wisp.losses.logits import knowledge_distillation
from wisp.losses.relation import attention, queue_distillation, rkd_angle, rkd_distance, similarity_distillation

Array = NDArray[np.float64]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def smooth_l1(a: float, b: float) -> float:
    gap = abs(a - b)
    return 0.5 * gap**2 if gap < 1 else gap - 0.5


def attention_by_hand(student: Array, teacher: Array) -> float:
    gaps = []
    for one, other in zip(student, teacher, strict=True):
        rows = []
        for features in (one, other):
            _, height, width = features.shape
            places = [(features[:, y, x] ** 2).mean() for y in range(height) for x in range(width)]
            length = math.sqrt(sum(place**2 for place in places))
            rows.append([place / length for place in places])
        gaps += [(a - b) ** 2 for a, b in zip(*rows, strict=True)]
    return float(np.mean(gaps))


def distances_by_hand(z: Array) -> Array:
    n = len(z)
    found = np.array([[math.sqrt(((z[i] - z[j]) ** 2).sum()) for j in range(n)] for i in range(n)])
    return found / np.mean([d for d in found.flatten() if d > 0])


def angle_by_hand(z: Array, vertex: int, one: int, other: int) -> float:
    a, b = z[one] - z[vertex], z[other] - z[vertex]
    lengths = math.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum()) / lengths if lengths else 0.0


def rkd_distance_by_hand(zs: Array, zt: Array) -> float:
    pairs = zip(distances_by_hand(zs).flatten(), distances_by_hand(zt).flatten(), strict=True)
    return float(np.mean([smooth_l1(a, b) for a, b in pairs]))


def rkd_angle_by_hand(zs: Array, zt: Array) -> float:
    triplets = itertools.product(range(len(zs)), repeat=3)
    return float(np.mean([smooth_l1(angle_by_hand(zs, *each), angle_by_hand(zt, *each)) for each in triplets]))


def test_attention_is_its_formula() -> None:
    student, teacher = normal(3, 4, 5, 5), normal(3, 7, 5, 5, seed=1)
    assert attention(student, teacher).item() == pytest.approx(
        attention_by_hand(student.numpy(), teacher.numpy()), rel=1e-12
    )


@pytest.mark.parametrize("larger", ["student", "teacher"])
def test_the_larger_map_is_averaged_to_the_smaller(larger: str) -> None:
    small, large = normal(3, 4, 2, 3), normal(3, 5, 4, 6, seed=1)
    cells = np.array(
        [
            [
                [[channel[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for x in range(3)] for y in range(2)]
                for channel in one
            ]
            for one in large.numpy()
        ]
    )
    found = attention(large, small) if larger == "student" else attention(small, large)
    assert found.item() == pytest.approx(attention_by_hand(small.numpy(), cells), rel=1e-12)


def test_each_axis_is_averaged_to_the_smaller() -> None:
    assert torch.isfinite(attention(normal(2, 3, 4, 2), normal(2, 3, 2, 4)))


def test_attention_knows_no_scale_and_no_channel_order() -> None:
    features = normal(3, 4, 5, 5)
    assert attention(features, 7 * features).item() == pytest.approx(0, abs=1e-28)
    assert attention(features, -features[:, [2, 0, 3, 1]]).item() == pytest.approx(0, abs=1e-28)
    assert attention(features, features.flip(3)).item() > 1e-4


@pytest.mark.parametrize("n", [2, 3, 6])
def test_relational_distillation_is_its_formulas(n: int) -> None:
    zs, zt = normal(n, 3), 2 * normal(n, 5, seed=1) + 1
    assert rkd_distance(zs, zt).item() == pytest.approx(rkd_distance_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)
    assert rkd_angle(zs, zt).item() == pytest.approx(rkd_angle_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)


def test_the_linear_part_of_smooth_l1() -> None:
    """Gaps above 1, which unlike embeddings have: angles of 0 and 180 degrees, an outlier among distances."""
    zs = torch.tensor([[0.0], [1.0], [2.0], [3.0], [90.0]], dtype=torch.float64)
    zt = torch.tensor([[3.0], [0.0], [90.0], [1.0], [2.0]], dtype=torch.float64)
    assert rkd_distance(zs, zt).item() == pytest.approx(rkd_distance_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)
    assert rkd_angle(zs, zt).item() == pytest.approx(rkd_angle_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)


def test_pairs_that_coincide_are_left_out_of_the_mean_distance() -> None:
    zs, zt = normal(5, 3), normal(5, 4, seed=1)
    zs[3], zt[4] = zs[1], zt[0]
    assert rkd_distance(zs, zt).item() == pytest.approx(rkd_distance_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)
    assert rkd_angle(zs, zt).item() == pytest.approx(rkd_angle_by_hand(zs.numpy(), zt.numpy()), rel=1e-12)


def test_what_changes_no_relation() -> None:
    z = normal(6, 4)
    rotation = torch.linalg.qr(normal(4, 4, seed=1))[0]
    for same in (3 * z, z @ rotation, z + 5, 0.1 * z @ rotation - 2, torch.cat([z, torch.zeros_like(z)], dim=1)):
        assert rkd_distance(same, z).item() == pytest.approx(0, abs=1e-20)
        assert rkd_angle(same, z).item() == pytest.approx(0, abs=1e-20)
    stretched = z * torch.tensor([1, 1, 1, 5.0])
    assert rkd_distance(stretched, z).item() > 1e-3
    assert rkd_angle(stretched, z).item() > 1e-3


def test_angles_in_parts_are_the_same_angles(monkeypatch: pytest.MonkeyPatch) -> None:
    zs, zt = normal(7, 3).requires_grad_(), normal(7, 5, seed=1)
    whole = rkd_angle(zs, zt)
    (wanted,) = torch.autograd.grad(whole, zs)
    monkeypatch.setattr(relation, "ANGLES", 3 * 7 * 7)  # 7 vertices in parts of 3, 3 and 1
    parts = rkd_angle(zs, zt)
    (found,) = torch.autograd.grad(parts, zs)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


def test_memory_of_angles_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What autograd keeps for the backward pass, counted: without parts it would be several N^3."""
    monkeypatch.setattr(relation, "ANGLES", 1000)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel()
        return tensor

    zs, zt = normal(40, 3).requires_grad_(), normal(40, 5, seed=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = rkd_angle(zs, zt)
    assert sum(kept.values()) < 40**2
    loss.backward()
    assert zs.grad is not None


@pytest.mark.parametrize("distance", [rkd_distance, rkd_angle])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_embeddings_that_coincide_get_a_finite_gradient(distance, dtype) -> None:
    zt = normal(6, 4, seed=1).to(dtype)
    pair, collapsed = normal(6, 4).to(dtype), torch.ones(6, 4, dtype=dtype)
    pair[2] = pair[4]
    # Where rounding is all that keeps two apart, its direction must not become the gradient.
    nearly = torch.nn.functional.normalize(pair, dim=1)
    nearly[2] = nearly[4] * (1 + torch.finfo(dtype).eps)
    for zs in (pair, collapsed, nearly, torch.zeros(6, 4, dtype=dtype)):
        leaf = zs.clone().requires_grad_()
        loss = distance(leaf, zt)
        loss.backward()
        assert torch.isfinite(loss)
        assert leaf.grad is not None
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().max() < 10
    leaf = pair.clone().requires_grad_()
    assert torch.isfinite(distance(leaf, torch.zeros(6, 4, dtype=dtype)))


def test_rounding_is_no_direction_at_any_scale() -> None:
    zs, zt = normal(6, 4).float(), normal(6, 4, seed=1).float()
    zs[2] = zs[4] * (1 + torch.finfo(torch.float32).eps)
    together = zs.clone()
    together[2] = together[4]
    wanted = rkd_angle(together.double(), zt.double())
    for scale in (2.0**-30, 1.0, 2.0**30):
        torch.testing.assert_close(rkd_angle(scale * zs, zt).double(), wanted, rtol=1e-5, atol=0)


def test_a_map_of_zeros_gets_a_finite_gradient() -> None:
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = attention(student, normal(2, 3, 4, 4).float())
    loss.backward()
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum())


@pytest.mark.parametrize(("student_temperature", "teacher_temperature"), [(0.2, 0.01), (0.04, 0.04), (0.2, 1e-4)])
def test_similarity_distillation_is_its_formula(student_temperature: float, teacher_temperature: float) -> None:
    student, teacher = normal(4, 6).tanh(), normal(4, 6, seed=1).tanh()
    wanted = []
    for s, t in zip(student.numpy(), teacher.numpy(), strict=True):
        p, q = softmax(t / teacher_temperature), softmax(s / student_temperature)
        wanted.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))
    found = similarity_distillation(student, teacher, student_temperature, teacher_temperature)
    assert found.item() == pytest.approx(np.mean(wanted), rel=1e-10)


def test_similarity_distillation_has_the_gradient_of_the_cross_entropy() -> None:
    student, teacher = normal(4, 6).requires_grad_(), normal(4, 6, seed=1)
    (found,) = torch.autograd.grad(similarity_distillation(student, teacher, 0.2, 0.01), student)
    shares = (teacher / 0.01).softmax(1)
    (wanted,) = torch.autograd.grad(-(shares * (student / 0.2).log_softmax(1)).sum(1).mean(), student)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-14)


def test_similarities_agree_at_the_ratio_of_the_temperatures() -> None:
    teacher = normal(4, 6)
    assert similarity_distillation(20 * teacher, teacher, 0.2, 0.01).item() == pytest.approx(0, abs=1e-12)
    assert similarity_distillation(teacher, teacher, 0.04, 0.04).item() == pytest.approx(0, abs=1e-12)
    assert similarity_distillation(teacher, teacher, 0.2, 0.01).item() > 0.05


def test_one_temperature_is_knowledge_distillation_without_its_factor() -> None:
    student, teacher = normal(4, 6), normal(4, 6, seed=1)
    found = similarity_distillation(student, teacher, 0.5, 0.5)
    torch.testing.assert_close(0.25 * found, knowledge_distillation(student, teacher, 0.5))


def test_candidates_that_take_no_part_change_nothing() -> None:
    absent = torch.full((4, 3), ABSENT, dtype=torch.float64)
    student, teacher = normal(4, 6).tanh(), normal(4, 6, seed=1).tanh()
    leaf = torch.cat([student, absent], dim=1).requires_grad_()
    whole = similarity_distillation(leaf, torch.cat([teacher, absent], dim=1), 0.2, 0.01)
    assert whole.item() == pytest.approx(similarity_distillation(student, teacher, 0.2, 0.01).item(), rel=1e-12)
    whole.backward()
    assert leaf.grad is not None
    assert not leaf.grad[:, 6:].any()


def beside(t: Tensor) -> tuple[Tensor, Tensor]:
    """A queue of the dtype of its teacher's rows, the same numbers in any; one slot is empty."""
    queue, filled = normal(5, t.shape[1], seed=2).bfloat16().to(t), torch.arange(5, device=t.device) < 4
    return queue * filled[:, None], filled


LOSSES = [
    (attention, (2, 3, 4, 4), (2, 2, 2, 2)),
    (rkd_distance, (5, 3), (5, 4)),
    (rkd_angle, (5, 3), (5, 4)),
    (lambda s, t: similarity_distillation(s, t, 0.2, 0.1), (4, 6), (4, 6)),
    (lambda s, t: queue_distillation(s, t, *beside(t), 0.2, 0.1), (4, 6), (4, 6)),
]
every_loss = pytest.mark.parametrize(
    ("loss", "student", "teacher"), LOSSES, ids=["attention", "distance", "angle", "similarity", "queue"]
)


@every_loss
def test_gradients_are_right(loss, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    target = normal(*teacher, seed=1)
    torch.autograd.gradcheck(lambda s: loss(s, target), (normal(*student).requires_grad_(),))


@every_loss
def test_the_teacher_gets_no_gradient(loss, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    leaf, target = normal(*student).requires_grad_(), normal(*teacher, seed=1).requires_grad_()
    _, none = torch.autograd.grad(loss(leaf, target), (leaf, target), allow_unused=True)
    assert none is None


@every_loss
def test_a_teacher_under_inference_mode_will_do(loss, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    with torch.inference_mode():
        target = normal(*teacher, seed=1).float()
    leaf = normal(*student).float().requires_grad_()
    loss(leaf, target).backward()
    assert leaf.grad is not None
    assert leaf.grad.any()


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_raised(loss, student: tuple[int, ...], teacher: tuple[int, ...], dtype: torch.dtype) -> None:
    """Inside autocast too; values are compared with those of the same rounded inputs."""
    leaf, target = normal(*student).to(dtype).requires_grad_(), normal(*teacher, seed=1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(leaf, target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(leaf.double(), target.double()), rtol=1e-5, atol=1e-7)
    found.backward()
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


@every_loss
def test_nothing_is_read_back_from_the_device(loss, student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    """Tensors of the meta device have no values: whatever reads one, even a count, raises."""
    leaf = torch.empty(student, device="meta", requires_grad=True)
    found = loss(leaf, torch.empty(teacher, device="meta"))
    found.backward()
    assert found.shape == ()
