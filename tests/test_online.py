"""A teacher that learns beside the student: what it begins with, what it sees, what is refused; and a whole run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from small_methods import small_teacher
from small_runs import SMALL, Wisp
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.export.card import card
from wisp.export.stock import export_encoder
from wisp.methods.rekd import Config
from wisp.teachers.opening import open_teacher

STUDENT = stock.spec("resnet8", 24)


def test_fresh_weights_see_the_students_images_as_they_are() -> None:
    teacher = open_teacher("rekd", Config(teacher="resnet18"), STUDENT, "online", seed=0)
    assert teacher.own == teacher.student
    assert teacher.features == 512
    learner, images = teacher.learner().eval(), torch.rand(2, 3, 24, 24)
    assert type(learner) is type(teacher.encoder)
    with torch.no_grad():
        assert torch.equal(learner(images), teacher.encoder(images))
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in learner.parameters())


def test_it_has_the_runs_stem_where_it_offers_one() -> None:
    student = stock.spec("resnet18", 32, "small")
    for name, origin, strides in (
        ("resnet34", "resnet34 with a small stem", (1, 1)),
        ("resnet20", "resnet20", (1, 1)),
        ("vit_tiny_patch16_224", "vit_tiny_patch16_224", (16, 16)),
    ):
        teacher = open_teacher("rekd", Config(teacher=name), student, "online", seed=0)
        first = next(part for part in teacher.learner().modules() if isinstance(part, torch.nn.Conv2d))
        assert (teacher.origin, first.stride) == (origin, strides)
    stem = open_teacher("rekd", Config(teacher="resnet18"), STUDENT, "online", seed=0).encoder.conv1
    assert stem.stride == (2, 2), "the run has no --stem"


def test_first_weights_keep_their_colours_and_take_the_students_resolution() -> None:
    teacher = small_teacher(STUDENT)
    learner, shape = teacher.learner(), (1, 3, 1, 1)
    pixels = torch.rand(2, 3, 24, 24)
    mean, std = (torch.tensor(each).view(shape) for each in (teacher.student.mean, teacher.student.std))
    own_mean, own_std = (torch.tensor(each).view(shape) for each in (teacher.own.mean, teacher.own.std))
    with torch.no_grad():
        expected = teacher.encoder((pixels - own_mean) / own_std)
        torch.testing.assert_close(learner.eval()((pixels - mean) / std), expected)


def test_a_runs_weights_are_the_first_and_their_bill_is_kept(tmp_path: Path) -> None:
    spec = stock.spec("resnet8", 32)
    encoder = spec.build()
    export_encoder(encoder, spec, tmp_path / "1x", card=card(spec, name="1x", cost={"total_flops": 77}))
    teacher = open_teacher("rekd", Config(teacher=str(tmp_path / "1x")), STUDENT, "online", seed=0)
    assert teacher.bill.flops == 77
    assert teacher.own.image_size == 24
    assert torch.equal(next(teacher.learner().parameters()), next(encoder.parameters()))


def test_a_program_cannot_learn(tmp_path: Path) -> None:
    spec = stock.spec("resnet8", 16)
    export_encoder(stock.spec("resnet20x2").build(), spec, tmp_path / "2x", card=card(spec, name="2x"))
    with pytest.raises(WispError, match=r"^the teacher resnet8 by wisp is a program, which cannot learn; name "):
        open_teacher("rekd", Config(teacher=str(tmp_path / "2x")), spec, "online", seed=0)


@pytest.mark.usefixtures("quick", "here")
def test_a_run_says_whose_weights_are_the_first(wisp: Wisp, classes: Path, here: Path) -> None:
    spec = stock.spec("resnet8", 16)
    cost = {"total_flops": 77}
    export_encoder(spec.build(), spec, here / "1x", card=card(spec, name="1x", method={"name": "rekd"}, cost=cost))
    answer = wisp("distill", "oss", "--teacher", "1x", "--data", classes, *SMALL, "--out", "run")
    assert answer.code == 0, answer.err
    assert (
        "resnet8 by rekd (a reading): first weights of one that learns along, at 16 px; its training took" in answer.out
    )


@pytest.mark.usefixtures("here")
def test_refusals(wisp: Wisp, photos: Path, here: Path) -> None:
    before = sorted(here.rglob("*"))
    for method, options, said in (
        ("rekd", (), "rekd needs a teacher; --teacher takes"),
        ("oss", ("--teacher", "resnet5"), "unknown teacher 'resnet5'"),
        ("oss", ("--method.teacher-model", "resnet20"), "name --teacher"),
        ("rekd", ("--teacher", "resnet8", "--method.teacher-head", "none"), "teacher-head"),
        ("rekd", ("--teacher", "resnet8", "--method.neighbours", "9"), "9 neighbours cannot be found in a queue of 8"),
        ("rekd", ("--teacher", "resnet8", "--method.neighbours", "0"), "neighbours is 0"),
        ("rekd", ("--teacher", "resnet8", "--method.relation", "-1"), "relation is -1"),
        ("oss", ("--teacher", "resnet8", "--method.temperature", "0"), "temperature is 0"),
        (
            "oss",
            ("--teacher", "vit_tiny_patch16_224", "--plan", "multicrop_small"),
            "the teacher vit_tiny_patch16_224 does not take views of 8 px",
        ),
    ):
        line = wisp("distill", method, "--data", photos, *SMALL, "--out", "run", *options).refusal()
        assert said in line, line
        assert sorted(here.rglob("*")) == before


@pytest.mark.usefixtures("quick", "here")
@pytest.mark.parametrize("method", ["rekd", "oss"])
def test_a_run_says_that_it_is_a_reading_and_who_learns_along(
    wisp: Wisp, classes: Path, here: Path, method: str
) -> None:
    answer = wisp("distill", method, "--teacher", "resnet8", "--data", classes, *SMALL, "--out", "run")
    assert answer.code == 0, answer.err
    assert f"{method} (a reading)" in answer.out
    assert "resnet8 at 16 px; learns beside the student, from fresh weights" in answer.out
    result = json.loads((here / "run" / "result.json").read_text())
    assert list(result["encoders"]) == ["1x"]
    assert result["recipe"]["method"]["teacher"] == "resnet8"
    assert result["cost"]["teacher"]["flops"] == 0
    assert result["cost"]["branches"]["teacher"] == result["cost"]["branches"]["student"]
    assert f"{method} (a reading)" in (here / "run" / "report.html").read_text()
