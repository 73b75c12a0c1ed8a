"""The teacher of a task: its own classifier where it knows the classes, else a linear probe of its features."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch

from small_methods import small_teacher
from small_runs import Wisp, picture, write_classes, write_photos
from wisp import api
from wisp.cost.road import machine_name, road
from wisp.data.sources import labels_of, open_source
from wisp.encoders import stock
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.evaluate.features import Features
from wisp.evaluate.linear import fitted, linear
from wisp.export.classifier import read_classifier
from wisp.files import read_json
from wisp.methods import kd, xd
from wisp.run import from_json
from wisp.session import prepare
from wisp.teachers.opening import open_teacher
from wisp.teachers.probe import TeacherProbe
from wisp.train.environment import hardware

MODEL = ["--model", "resnet8", "--image-size", "16", "--batch-size", "8", "--epochs", "2"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, wisp: Wisp, quick: None) -> Path:
    """Pictures of two classes, a teacher trained with these labels, and one trained without."""
    root = tmp_path_factory.mktemp("task")
    data = write_classes(root / "animals")
    assert wisp("pretrain", "supervised", "--data", data, *MODEL, "--out", root / "labelled").code == 0
    small = ["--method.hidden", "32", "--method.out", "32"]
    assert wisp("pretrain", "barlow_twins", "--data", data, *MODEL, *small, "--out", root / "blind").code == 0
    return root


def judged(run: Path) -> object:
    """The classifier that the teacher of a run gets."""
    session = prepare(from_json((run / "run.json").read_text(encoding="utf-8"), "run.json"))
    session.probe_teacher(lambda text: None)
    assert session.teacher is not None
    return session.teacher.classifier


def test_its_own_classifier_is_taken_where_it_knows_the_classes(root: Path, wisp: Wisp) -> None:
    words = ["--teacher", root / "labelled", "--data", root / "animals", *MODEL]
    assert wisp("distill", "kd", *words, "--out", root / "own").code == 0
    found, kept = judged(root / "own"), read_classifier(root / "labelled" / "exported" / "1x")
    assert isinstance(found, torch.nn.Linear)
    assert kept is not None
    assert torch.equal(found.weight, kept[0]["weight"])
    assert kept[1] == ["a", "b"]
    run = from_json((root / "own" / "run.json").read_text(encoding="utf-8"), "run.json")
    assert api.distill(dataclasses.replace(run, out=str(root / "own"))) == root / "own"
    with pytest.raises(WispError, match=r"^xd has no teacher; use wisp pretrain xd$"):
        api.distill(dataclasses.replace(run, method=xd.Config()))
    result = read_json(root / "own" / "result.json")
    assert set(result["encoders"]["1x"]["classifier"]) >= {"top1", "files"}
    assert result["cost"]["teacher"]["labels"] is True
    itself = read_json(root / "labelled" / "result.json")["encoders"]["1x"]["classifier"]
    assert result["teacher"] == {
        "origin": "resnet8 by supervised",
        "classifier": "own",
        "top1": itself["top1"],
        "answers": itself["answers"],
    }, "asked what its own run was asked"


def test_a_teacher_without_labels_is_probed(root: Path, wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the training images; the same one comes out every time, and looking at them is part of the bill."""
    monkeypatch.setenv("WISP_CACHE", str(root / "cache-of-one"))
    words = ["--teacher", root / "blind", "--data", root / "animals", *MODEL]
    answer = wisp("distill", "kd", *words, "--out", root / "probed")
    assert answer.code == 0, answer.err
    assert "computing features of 22 images by the teacher resnet8 by barlow_twins" in answer.out
    assert re.search(r"it names \d+ % of a tenth of the images right, from the others", answer.out)
    one, other = judged(root / "probed"), judged(root / "probed")
    assert isinstance(one, TeacherProbe)
    assert isinstance(other, TeacherProbe)
    assert torch.equal(one.layer.weight, other.layer.weight)
    assert wisp("distill", "kd", *words, "--out", root / "again").code == 0
    costs = [read_json(root / run / "result.json")["cost"] for run in ("own", "probed", "again")]
    assert costs[1]["total_flops"] - costs[1]["probe"]["flops"] == costs[0]["total_flops"]
    assert costs[2]["probe"]["flops"] == costs[1]["probe"]["flops"]
    assert costs[2]["probe"]["seconds"] > 0, "also where an earlier run looked"
    taught, probed, trained = road(costs[1] | {"machine": "2 of them"})
    assert costs[1]["probe"]["machine"] == probed.machine == machine_name(hardware(torch.device("cpu")))
    assert trained.machine == "2 of them", "the probe was made before the launch"
    assert (taught.seconds, taught.machine) == (
        read_json(root / "blind/result.json")["cost"]["seconds"],
        probed.machine,
    )
    assert trained.seconds == costs[1]["seconds"]
    (noted,) = (root / "cache-of-one" / "teachers").rglob("*.json")
    looked = read_json(noted)["seconds"]
    assert all(cost["probe"]["seconds"] > looked > 0 for cost in costs[1:])
    assert costs[1]["teacher"]["labels"] is False
    weights = [(root / run / "exported/1x/encoder.safetensors").read_bytes() for run in ("probed", "again")]
    assert weights[0] == weights[1]


def test_its_own_may_be_left_aside(root: Path, wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WISP_CACHE", str(root / "cache"))
    words = [
        "--teacher",
        root / "labelled",
        "--data",
        root / "animals",
        *MODEL,
        "--method.teacher-classifier",
        "probed",
    ]
    assert wisp("distill", "kd", *words, "--out", root / "aside").code == 0
    assert isinstance(judged(root / "aside"), TeacherProbe)


def test_a_method_that_does_not_ask_needs_no_probe(root: Path, wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows the classes of this teacher: A/U learns from its features alone, and says so where it should not."""
    monkeypatch.setenv("WISP_CACHE", str(root / "unused"))
    words = ["--teacher", root / "blind", "--data", root / "animals", *MODEL, "--out", root / "features"]
    none = ["--method.teacher-classifier", "none"]
    line = wisp("distill", "au", *words, *none).refusal()
    assert "use --method.teacher-classifier probed, or, of au and crd, --method.logit-weight 0" in line
    assert "use --method.teacher-classifier probed" in wisp("distill", "kd", *words, *none).refusal()
    assert not (root / "features").exists()
    answer = wisp("distill", "au", *words, "--method.logit-weight", "0")
    assert answer.code == 0, answer.err
    assert "computing features of" not in answer.out
    assert judged(root / "features") is None
    result = read_json(root / "features" / "result.json")
    assert set(result["encoders"]["1x"]["classifier"]) >= {"top1", "files"}
    assert result["cost"]["teacher"]["labels"] is False
    assert (root / "features" / "exported" / "1x" / "head.safetensors").exists()


def test_the_classifier_of_a_public_file(root: Path, wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the CIFAR ResNets of public files have it; which classes it knows nobody says, so it must be asked for."""
    torch.manual_seed(3)
    encoder, on_top = stock.spec("resnet20_pad").build(), torch.nn.Linear(64, 2)
    tensors = {f"module.{name}": tensor for name, tensor in encoder.state_dict().items()}
    tensors |= {f"module.linear.{name}": tensor for name, tensor in on_top.state_dict().items()}
    torch.save({"state_dict": tensors}, root / "public.th")
    words = [
        "--teacher",
        root / "public.th",
        "--method.teacher-model",
        "resnet20_pad",
        "--data",
        root / "animals",
        *MODEL,
    ]
    own = ["--method.teacher-classifier", "own"]
    assert wisp("distill", "kd", *words, *own, "--out", root / "public").code == 0
    found = judged(root / "public")
    assert isinstance(found, torch.nn.Linear)
    assert torch.equal(found.weight, on_top.weight)
    assert read_json(root / "public" / "result.json")["cost"]["teacher"]["classifier"] == "own"
    monkeypatch.setenv("WISP_CACHE", str(root / "cache"))
    answer = wisp("distill", "kd", *words, "--out", root / "unnamed")  # it may know two other classes
    assert "a linear probe of its features names the classes" in answer.out
    assert isinstance(judged(root / "unnamed"), TeacherProbe)
    assert read_json(root / "unnamed" / "result.json")["cost"]["teacher"]["classifier"] == "probed"


def test_bad_input(root: Path, wisp: Wisp, tmp_path: Path) -> None:
    own = ["--method.teacher-classifier", "own"]

    def refused(teacher: Path, data: Path, *more: str) -> str:
        line = wisp(
            "distill", "kd", "--teacher", teacher, "--data", data, *MODEL, *more, "--out", tmp_path / "x"
        ).refusal()
        assert not (tmp_path / "x").exists()
        return line

    three = tmp_path / "three"
    for k in range(24):
        (three / "xyz"[k % 3]).mkdir(parents=True, exist_ok=True)
        picture(k).save(three / "xyz"[k % 3] / f"{k}.png")
    others = tmp_path / "others"
    for k in range(24):
        (others / "xy"[k % 2]).mkdir(parents=True, exist_ok=True)
        picture(k).save(others / "xy"[k % 2] / f"{k}.png")
    assert "comes without a classifier; use --method.teacher-classifier probed" in refused(
        root / "blind", root / "animals", *own
    )
    assert "knows 2 classes, not 3; use --method.teacher-classifier probed" in refused(root / "labelled", three, *own)
    assert "has other classes; use --method.teacher-classifier probed" in refused(root / "labelled", others, *own)
    assert "kd needs labels" in refused(root / "labelled", write_photos(tmp_path / "photos"))
    inside = root / "labelled" / "exported" / "1x" / "classifier"
    assert "holds a classifier; name the folder of its encoder" in refused(inside, root / "animals")
    line = wisp("distill", "kd", "--data", root / "animals", *MODEL, "--out", tmp_path / "x").refusal()
    assert "kd needs a teacher" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["crd", "--method.negatives", "999999"], "negatives"),
        (["crd", "--method.memory", "1"], "memory"),
        (["au", "--method.out", "0"], "out"),
    ],
)
def test_settings_are_refused_before_the_teacher_looks(
    words: list[str], said: str, root: Path, wisp: Wisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    options = ["--teacher", root / "blind", "--data", root / "animals", *MODEL, "--out", tmp_path / "run"]
    assert said in wisp("distill", *words, *options).refusal()
    assert not list(tmp_path.iterdir())


def test_a_classifier_is_asked_about_its_own_classes(wisp: Wisp, tmp_path: Path) -> None:
    """One image of each class is a training set; a --val of other classes could only be asked about an encoder."""
    for k, name in enumerate(("ant", "bee", "cat", "dog")):
        (tmp_path / "alone" / name).mkdir(parents=True)
        picture(k).save(tmp_path / "alone" / name / "1.png")
    others = write_classes(tmp_path / "others")
    words = ["--data", tmp_path / "alone", *MODEL[:-4], "--batch-size", "2", "--out", tmp_path / "run"]
    assert wisp("pretrain", "supervised", *words, "--val", others).refusal() == (
        "--val has other classes than --data: only --data has ant, bee, cat and 1 more and only --val has a, b; both "
        "need the same"
    )
    assert not (tmp_path / "run").exists()


def test_the_classifier_of_timms_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose classes nobody names either; what stands before it is what the encoder gives."""

    def create(
        model_name: str, pretrained: bool = False, num_classes: int = 1000, **options: object
    ) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            network = build(model_name, **options)
        if num_classes == 0:
            network.reset_classifier(0)
        return network

    build = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    name, classes = "mobilenetv3_small_050.lamb_in1k", [str(k) for k in range(1000)]
    student = stock.spec("resnet8", 32)

    def opened(**settings: object) -> Teacher:
        config = kd.Config(teacher=name, teacher_size=64, **settings)
        return open_teacher("kd", config, student, "frozen", 0, classes)

    teacher = opened(teacher_classifier="own")
    whole = create(name).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert teacher.classifier is not None
        torch.testing.assert_close(teacher.classifier(teacher.encoder(images)), whole(images))
    assert teacher.bill.labels is True
    assert opened().classifier is None, "as many classes may be others"


def test_what_clip_ends_in_names_no_classes() -> None:
    """timm calls the width of its embedding the number of classes."""
    for name, names in (("vit_base_patch16_clip_224.openai", False), ("resnet50.a1_in1k", True)):
        told = timm.get_pretrained_cfg(name).to_dict()
        assert told["num_classes"] > 0
        assert stock.names_classes(SimpleNamespace(pretrained_cfg=told)) is names


def test_a_fitted_layer_is_the_probe() -> None:
    """It names the classes that the probe of the same features names, on features as they are."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(4, 6, generator=generator)
    labels = torch.arange(200) % 4
    features = centres[labels] + torch.randn(200, 6, generator=generator) * torch.tensor([1.0, 5, 0.1, 1, 1, 20]) + 7
    layer, right = fitted(features, labels, 4)
    assert 70 < right <= 100
    with torch.no_grad():
        own = float((layer(features).argmax(1) == labels).float().mean()) * 100
    assert own == pytest.approx(linear(Features(features, labels, features, labels)).accuracy)
    assert own > 80


def test_a_checkpoint_brings_the_probe_back() -> None:
    """Another number of threads fits one that differs in its last digits, and it is no other teacher for that."""
    first, again = (small_teacher(stock.spec("resnet8", 16)) for _ in range(2))
    torch.manual_seed(0)
    for teacher in (first, again):
        teacher.take(TeacherProbe(torch.nn.Linear(24, 3)))
    kept = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert set(kept) == {"fingerprint", "classifier.layer.weight", "classifier.layer.bias"}
    again.load_state_dict(kept)
    assert first.classifier is not None
    assert again.classifier is not None
    assert torch.equal(again.classifier.layer.weight, first.classifier.layer.weight)
    with pytest.raises(WispError, match="is not the one that this training began with"):
        again.load_state_dict(kept | {"fingerprint": kept["fingerprint"] + 1})


def test_the_probe_does_not_mind_the_length_of_features() -> None:
    torch.manual_seed(0)
    probe, features = TeacherProbe(torch.nn.Linear(5, 3)), torch.randn(4, 5)
    with torch.no_grad():
        assert torch.allclose(probe(features), probe(7 * features), atol=1e-6)


def test_the_exported_student_names_classes(root: Path) -> None:
    classifier = api.load(root / "own" / "exported" / "1x" / "classifier")
    source = open_source(str(root / "animals"), "train")
    assert classifier(torch.zeros(1, 3, 16, 16)).shape == (1, len(set(labels_of(source))))
