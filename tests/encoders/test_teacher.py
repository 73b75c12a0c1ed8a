"""A teacher sees what its own training saw, and nothing of it ever changes."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from small_methods import SIZE, begun, fixed_batch, small_method, small_teacher, total
from wisp import methods
from wisp.encoders import stock
from wisp.encoders.teacher import Teacher, fingerprint
from wisp.errors import WispError
from wisp.session import method_class

SPEC = stock.spec("resnet8", SIZE)
TAUGHT = [name for name in methods.names() if method_class(methods.load(name)).taught in ("frozen", "adopted")]


def bits(teacher: Teacher) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in (*teacher.named_parameters(), *teacher.named_buffers())}


def test_it_sees_its_own_colours_and_its_own_resolution() -> None:
    teacher = small_teacher(SPEC)
    pixels = torch.rand(4, 3, SIZE, SIZE)
    shape = (1, 3, 1, 1)
    given = (pixels - torch.tensor(SPEC.mean).view(shape)) / torch.tensor(SPEC.std).view(shape)
    own = (pixels - torch.tensor(teacher.own.mean).view(shape)) / torch.tensor(teacher.own.std).view(shape)
    large = F.interpolate(own, size=(SIZE + 4, SIZE + 4), mode="bilinear", antialias=True)
    assert teacher.head is not None
    with torch.no_grad():
        expected = teacher.encoder(large)
        torch.testing.assert_close(teacher.looks([given])[0], expected)
        torch.testing.assert_close(teacher([given])[0], teacher.head(expected))


def test_what_it_sees_is_untouched_where_student_and_teacher_agree() -> None:
    teacher = small_teacher(SPEC)
    teacher.own = teacher.student
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.no_grad():
        assert torch.equal(teacher.looks([images])[0], teacher.encoder(images))


def test_views_in_bf16_are_resized_too() -> None:
    """As Fabric hands them over in mixed precision; with the student's own colours nothing else makes them float32."""
    teacher = small_teacher(SPEC)
    object.__setattr__(teacher.own, "mean", teacher.student.mean)
    object.__setattr__(teacher.own, "std", teacher.student.std)
    images = torch.rand(4, 3, SIZE, SIZE)
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = teacher([images.bfloat16()])[0], teacher([images])[0]
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.02)


def test_views_of_one_side_go_through_it_together_and_come_back_in_order() -> None:
    teacher = small_teacher(SPEC)
    calls = []
    teacher.encoder.register_forward_hook(lambda module, inputs, output: calls.append(inputs[0].shape))
    views = [torch.rand(2, 3, side, side) for side in (SIZE, 8, SIZE, 8)]
    together = teacher(views)
    assert [shape[0] for shape in calls] == [4, 4]
    for view, found in zip(views, together, strict=True):
        torch.testing.assert_close(teacher([view])[0], found)


@pytest.mark.parametrize("name", TAUGHT)
def test_twenty_steps_leave_every_bit_of_it(name: str) -> None:
    method = small_method(name)
    teacher = method.teacher
    before = bits(teacher)
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for step in range(20):
        optimizer.zero_grad()
        total(method(fixed_batch(method, seed=step), step / 20)).backward()
        optimizer.step()
        method.after_step(step / 20)
    after = bits(teacher)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert not any(part.training for part in teacher.modules())


def test_its_outputs_may_be_saved_for_a_gradient() -> None:
    found = small_teacher(SPEC)([torch.rand(2, 3, SIZE, SIZE)])[0]
    assert not found.is_inference()
    assert not found.requires_grad
    weight = torch.ones(16, requires_grad=True)
    (found * weight).sum().backward()
    assert weight.grad is not None


def test_a_checkpoint_remembers_which_teacher_it_was_and_nothing_else() -> None:
    method = begun("seed")
    state = method.state_dict()
    assert [key for key in state if key.startswith("teacher.")] == ["teacher.fingerprint"]
    other = small_method("seed", seed=9)
    other.load_state_dict(copy.deepcopy(state))
    assert all(torch.equal(value, bits(method.teacher)[key]) for key, value in bits(other.teacher).items())
    for each in (method, other):  # of which no state_dict speaks, as in a Swin's windows
        each.teacher.encoder.register_buffer("places", torch.arange(3), persistent=False)
    other.load_state_dict(copy.deepcopy(state))
    state["teacher.fingerprint"] = state["teacher.fingerprint"] + 1
    with pytest.raises(WispError, match=r"^the teacher small is not the one .* another --out$"):
        other.load_state_dict(state)


def test_any_other_weight_is_another_fingerprint() -> None:
    teacher, twin = small_teacher(SPEC), small_teacher(SPEC)
    assert fingerprint(teacher.encoder) == fingerprint(twin.encoder)
    for tensor in (*twin.encoder.parameters(), *twin.encoder.buffers()):
        before = fingerprint(twin.encoder)
        tensor.data.view(-1)[0] += 1
        assert fingerprint(twin.encoder) != before
