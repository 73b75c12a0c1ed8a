"""Laws of methods whose teacher learns beside the student; a new one enrols itself."""

from __future__ import annotations

import pytest
import torch

from small_methods import SIZE, begun, fixed_batch, small_teacher, total
from wisp import methods
from wisp.cost.count import count_step
from wisp.encoders import stock
from wisp.methods.method import Method
from wisp.session import method_class

ONLINE = [name for name in methods.names() if method_class(methods.load(name)).taught == "online"]
online = pytest.mark.parametrize("name", ONLINE)


def moved(method: Method, terms: dict[str, torch.Tensor]) -> set[str]:
    """First parts of the names of the parameters that get a gradient."""
    method.zero_grad(set_to_none=True)
    total(terms).backward()
    return {key.partition(".")[0] for key, p in method.named_parameters() if p.grad is not None and bool(p.grad.any())}


@online
def test_each_network_learns_from_its_own_terms_only(name: str) -> None:
    method = begun(name)
    for progress in method.phases():
        terms = method(fixed_batch(method), progress)
        taught = {key: term for key, term in terms.items() if key != "teacher"}
        assert taught
        assert moved(method, taught) == {"student"}
        alone = moved(method, {"teacher": method(fixed_batch(method), progress)["teacher"]})
        assert "teacher" in alone
        assert "student" not in alone


@online
def test_the_teacher_begins_with_the_weights_that_were_found_and_moves_away_from_them(name: str) -> None:
    method, first = begun(name), small_teacher(stock.spec("resnet8", SIZE)).encoder.state_dict()

    def difference() -> float:
        learner = dict(method.teacher.state_dict())
        return sum(float((learner[f"0.encoder.{key}"] - first[key]).abs().sum()) for key in first if "weight" in key)

    assert difference() == 0
    assert all(p.requires_grad for p in method.teacher.parameters())
    assert all(part.training for part in method.teacher.modules())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    total(method(fixed_batch(method), 0.5)).backward()
    optimizer.step()
    assert difference() > 0
    assert any(key.startswith("teacher.") for key in method.state_dict()), "it is resumed with the student"


@online
def test_the_bill_of_a_step_names_student_and_teacher(name: str) -> None:
    branches = count_step(begun(name), 32, SIZE).branches
    assert min(branches["student"], branches["teacher"]) > 0
    assert set(branches) <= {"student", "teacher", "frozen slow", "loss", "backward"}
