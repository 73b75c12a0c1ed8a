"""A run whose encoder is its teacher: a probe of a run's encoder, of a public file, and of what it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from small_runs import Wisp, write_classes, write_photos
from wisp import api
from wisp.cost.count import count_forward
from wisp.encoders import stock
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.errors import WispError
from wisp.export.card import read_card
from wisp.files import read_json
from wisp.teachers.adopting import adopted

BUDGET = ["--batch-size", "8", "--epochs", "2"]
SMALL = ["--model", "resnet8", *BUDGET]
IMAGENET = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, wisp: Wisp, quick: None) -> Path:
    """Pictures of two classes, and an encoder that was trained on them without labels, at 16 px."""
    root = tmp_path_factory.mktemp("probed")
    data = write_classes(root / "animals")
    words = ["--data", data, *SMALL, "--image-size", "16", "--method.hidden", "32", "--method.out", "32"]
    assert wisp("pretrain", "barlow_twins", *words, "--out", root / "blind").code == 0
    return root


def named(teacher: Sight, name: str, network: torch.nn.Module | None = None) -> Teacher:
    spec = stock.spec(name)
    bill = Bill(flops=None, certainty="unknown", note="made by the tests")
    sizes = {"features": spec.features, "width": spec.features}
    return Teacher(network or spec.build(), **sizes, own=teacher, student=teacher, origin=f"old {name}", bill=bill)


def test_pre_training_then_probing(root: Path, wisp: Wisp) -> None:
    """The encoder is the teacher's, bit for bit and as it was fed; both bills stand in the result."""
    words = ["distill", "probe", "--teacher", root / "blind", "--data", root / "animals", *SMALL, "--out", root / "lp"]
    answer = wisp(*words)
    assert answer.code == 0, answer.err
    assert "views plain at 16 px" in answer.out
    kept, found = (
        safetensors.torch.load_file(root / run / "exported/1x/encoder.safetensors") for run in ("blind", "lp")
    )
    assert kept.keys() == found.keys()
    assert all(torch.equal(kept[key], found[key]) for key in kept)
    before, result = (read_json(root / run / "result.json") for run in ("blind", "lp"))
    assert [before["encoders"]["1x"][key] for key in ("knn", "linear")] == [
        result["encoders"]["1x"][key] for key in ("knn", "linear")
    ]
    assert set(result["encoders"]["1x"]["classifier"]) >= {"top1", "files"}
    cost = result["cost"]
    assert {key: value for key, value in cost["teacher"].items() if key != "parts"} == {
        "origin": "resnet8 by barlow_twins",
        "flops": before["cost"]["total_flops"],
        "certainty": "known",
        "note": "resnet8 by barlow_twins, trained by wisp",
        "labels": False,
        "handed_out": True,
    }
    forward = 8 * count_forward(stock.spec("resnet8", 16).build(), 16)
    assert cost["branches"]["frozen encoder"] == forward
    assert cost["step_flops"] < 1.01 * forward
    classifier = api.load(root / "lp" / "exported" / "1x" / "classifier")
    assert classifier(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert read_card(root / "lp" / "exported" / "1x")["preprocessing"]["image_size"] == 16
    assert "is finished" in wisp(*words).out
    student = ("distill", "seed", "--teacher", root / "lp", "--method.teacher-head", "none", *SMALL)
    answer = wisp(*student, "--data", root / "animals", "--out", root / "student")
    assert answer.code == 0, answer.err
    assert not read_json(root / "student" / "result.json")["cost"]["teacher"]["labels"], "a probe taught it nothing"
    line = wisp(*words[:-1], root / "kept", "--record").refusal()
    assert line == "--record keeps how an encoder learns, and probe leaves it as it is; leave the option out"
    assert not (root / "kept").exists()


def test_a_public_file_keeps_its_normalisation(root: Path, wisp: Wisp) -> None:
    """T-LP of a teacher that saw ImageNet's mean and std: so says the card of what comes out."""
    torch.manual_seed(3)
    encoder = stock.spec("resnet20_pad").build()
    tensors = {f"module.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {"module.linear.weight": torch.zeros(10, 64), "module.linear.bias": torch.zeros(10)}
    torch.save({"state_dict": tensors}, root / "old.th")
    model = ["--method.teacher-model", "resnet20_pad", "--model", "resnet20_pad"]
    words = ["--teacher", root / "old.th", *model, "--data", root / "animals", *BUDGET, "--out", root / "public"]
    answer = wisp("pretrain", "probe", *words)
    assert answer.code == 0, answer.err
    for folder in ("1x", "1x/classifier"):
        card = read_card(root / "public" / "exported" / folder)["preprocessing"]
        assert tuple(card["mean"]) == IMAGENET
        assert card["image_size"] == 32
    found = safetensors.torch.load_file(root / "public/exported/1x/encoder.safetensors")
    assert all(torch.equal(found[key], tensor) for key, tensor in encoder.state_dict().items())


def test_a_resumed_probe_refuses_another_encoder(root: Path, wisp: Wisp, tmp_path: Path) -> None:
    words = ["distill", "probe", "--data", root / "animals", *SMALL, "--out", tmp_path / "run"]
    torch.save(stock.spec("resnet8").build().state_dict(), tmp_path / "weights.pth")
    words += ["--teacher", tmp_path / "weights.pth", "--method.teacher-model", "resnet8"]
    assert wisp(*words).code == 0
    (tmp_path / "run" / "result.json").unlink()
    assert wisp(*words).code == 0
    (tmp_path / "run" / "result.json").unlink()
    torch.save(stock.spec("resnet8").build().state_dict(), tmp_path / "weights.pth")
    assert "is not the one that this training began with" in wisp(*words).refusal()


def test_the_spec_is_the_teachers_unless_the_user_says_more() -> None:
    own = Sight(image_size=48, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    teacher = named(own, "mobilenetv3_small_050")
    spec = adopted(teacher, "mobilenetv3_small_050", None, "stock")
    assert (spec.image_size, spec.mean, spec.std) == (48, own.mean, own.std)
    assert adopted(teacher, "mobilenetv3_small_050", 64, "stock").image_size == 64
    with pytest.raises(WispError, match=r"^the teacher old mobilenetv3_small_050 has the weights .* use the --stem"):
        adopted(teacher, "mobilenetv3_small_050", 64, "small")
    with pytest.raises(WispError, match=r"^the teacher old mobilenetv3_small_050 is no resnet8 \(conv1\."):
        adopted(teacher, "resnet8", None, "stock")
    with pytest.raises(WispError, match=r"name its architecture with --model$"):  # which does not take 48 px
        adopted(teacher, "vit_tiny_patch16_224", None, "stock")


def test_bad_input(root: Path, wisp: Wisp, tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        line = wisp("distill", "probe", *words, *BUDGET, "--out", tmp_path / "x").refusal()
        assert not (tmp_path / "x").exists()
        return line

    data, blind = ["--data", root / "animals"], ["--teacher", root / "blind"]
    line = refused(*data, *blind, "--model", "resnet20")
    assert line.startswith("the teacher resnet8 by barlow_twins is no resnet20 (")
    assert line.endswith("name its architecture with --model")
    assert "probe needs a teacher" in refused(*data, "--model", "resnet8")
    assert "probe needs labels" in refused("--data", write_photos(tmp_path / "photos"), *blind, "--model", "resnet8")
    assert "teacher-size" in refused(*data, *blind, "--model", "resnet8", "--method.teacher-size", "32")


def test_au_meets_the_head_of_its_teacher(root: Path, wisp: Wisp, tmp_path: Path) -> None:
    words = ["--data", root / "animals", *SMALL, "--image-size", "16", "--method.logit-weight", "0"]
    own = ["--method.teacher-head", "pretrained"]
    answer = wisp("distill", "au", "--teacher", root / "blind", *words, *own, "--out", tmp_path / "met")
    assert answer.code == 0, answer.err
    assert "32 embeddings at 16 px" in answer.out
    head = safetensors.torch.load_file(tmp_path / "met/exported/1x/head.safetensors")
    assert len([*head.values()][-1]) == 32
    torch.save(stock.spec("resnet8").build().state_dict(), tmp_path / "bare.pth")
    bare = ["--teacher", tmp_path / "bare.pth", "--method.teacher-model", "resnet8"]
    line = wisp("distill", "au", *bare, *words, *own, "--out", tmp_path / "x").refusal()
    assert line.endswith("comes without a projection head; use --method.teacher-head none")
