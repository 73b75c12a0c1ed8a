"""The teacher that a run names is found, and what is wrong with it is said in one line before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from small_runs import SMALL, Wisp
from wisp.cost.count import count_forward
from wisp.encoders import stock
from wisp.encoders.heads import mlp
from wisp.encoders.teacher import Bill, Teacher
from wisp.errors import WispError
from wisp.export.card import card
from wisp.export.head import export_head, read_head
from wisp.export.stock import export_encoder, load_encoder
from wisp.methods.parts.taught import TaughtOnline
from wisp.methods.seed import Config
from wisp.run import Run
from wisp.session import shareable
from wisp.teachers.opening import open_teacher

STUDENT = stock.spec("resnet8", 32)


def opened(teacher: object, **settings: object) -> Teacher:
    return open_teacher("seed", Config(teacher=str(teacher), **settings), STUDENT, "frozen", seed=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder as far as a teacher is looked for in it."""
    run = tmp_path_factory.mktemp("runs") / "bt"
    run.mkdir()
    (run / "result.json").write_text(json.dumps({"encoders": {"1x": {}}}))
    spec = stock.spec("resnet20", 32)
    folder = run / "exported" / "1x"
    cost = {"total_flops": 12345, "seconds": 1.0}
    torch.manual_seed(3)
    export_encoder(spec.build(), spec, folder, card=card(spec, name="1x", method={"name": "byol"}, cost=cost))
    export_head(mlp([64, 32, 16]), folder)
    return run


@pytest.mark.parametrize("where", ["", "exported/1x", "exported/1x/encoder.safetensors"])
def test_what_wisp_exported_brings_its_head_its_images_and_its_bill(exported: Path, where: str) -> None:
    teacher = opened(exported / where)
    folder = exported / "exported" / "1x"
    images = torch.randn(4, 3, 32, 32)
    head = read_head(folder)
    assert head is not None
    with torch.no_grad():
        features = load_encoder(folder)(images)
        assert torch.equal(teacher.looks([images])[0], features)
        assert torch.equal(teacher([images])[0], head(features))
    assert (teacher.features, teacher.width, teacher.origin) == (64, 16, "resnet20 by byol")
    part = {"kind": "training", "what": "training of resnet20 by byol", "flops": 12345, "seconds": 1.0}
    assert teacher.bill == Bill(
        flops=12345,
        certainty="known",
        note="resnet20 by byol, trained by wisp",
        labels=False,
        parts=({**part, "certainty": "known", "machine": None},),
    )
    assert not any(p.requires_grad for p in teacher.parameters())


def test_of_a_run_it_is_the_encoder_that_its_result_names_first(tmp_path: Path) -> None:
    """As for `wisp evaluate` and `wisp export`, whatever the encoders are called."""
    for name, model in (("1x", "resnet8"), ("large", "resnet20")):
        spec = stock.spec(model, 32)
        export_encoder(spec.build(), spec, tmp_path / "exported" / name, card=card(spec, name=name))
    (tmp_path / "result.json").write_text(json.dumps({"encoders": {"large": {}, "1x": {}}}))
    assert opened(tmp_path, teacher_head="none").origin == "resnet20 by wisp"


def test_receipts_name_the_run_and_the_encoder_and_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bt" / "exported").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "bt")
    for teacher, name in {
        "resnet50.a1_in1k": "resnet50.a1_in1k",
        "runs/bt": "bt",
        "runs/bt/": "bt",
        ".": "bt",
        "../bt/exported/1x": "bt/1x",
        "exported/1x": "bt/1x",
        "runs/bt/exported/0.5/encoder.safetensors": "bt/0.5/encoder.safetensors",
        "~/files/old.th": "old.th",
    }.items():
        run = Run(method=Config(teacher=teacher), data="digits")
        assert run.teacher_name == name
        assert shareable(run)["method"]["teacher"] == name
        assert run.method_title == f"seed teacher={name}"


def test_without_its_head_it_shows_its_features(exported: Path) -> None:
    teacher = opened(exported, teacher_head="none")
    assert teacher.head is None
    assert teacher.width == 64


def test_a_teacher_of_a_teacher_is_paid_for_too(exported: Path, tmp_path: Path) -> None:
    for file in (exported / "exported" / "1x").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "card.json").read_text())
    for flops, certainty, total in ((655, "estimated", 13000), (None, "unknown", None)):
        content["cost"]["teacher"] = {"origin": "old", "flops": flops, "certainty": certainty, "note": ""}
        (tmp_path / "card.json").write_text(json.dumps(content))
        bill = opened(tmp_path).bill
        assert (bill.flops, bill.certainty) == (total, certainty)
        assert "its own teacher old" in bill.note
    content["method"]["name"] = "supervised"
    (tmp_path / "card.json").write_text(json.dumps(content))
    assert opened(tmp_path).bill.labels, "its student is not label-free"


def test_a_checkpoint_file_with_its_architecture(tmp_path: Path) -> None:
    encoder = stock.spec("resnet20_pad").build()
    names = {f"module.{name}": tensor for name, tensor in encoder.state_dict().items()}
    names |= {"module.linear.weight": torch.zeros(10, 64), "module.linear.bias": torch.zeros(10)}
    torch.save({"state_dict": names}, tmp_path / "old.th")
    teacher = opened(tmp_path / "old.th", teacher_model="resnet20_pad", teacher_head="none")
    assert teacher.own.mean == (0.485, 0.456, 0.406)
    assert all(torch.equal(p, q) for p, q in zip(teacher.encoder.parameters(), encoder.parameters(), strict=True))
    assert (teacher.bill.certainty, teacher.bill.labels) == ("estimated", True)
    assert teacher.bill.flops == 3 * 200 * 50_000 * count_forward(encoder, 32)
    assert "old.th" in teacher.origin
    torch.save(encoder.state_dict(), tmp_path / "plain.pth")
    assert opened(tmp_path / "plain.pth", teacher_model="resnet20_pad", teacher_head="none").bill.flops is None


def test_a_file_of_timms_weights_is_fed_as_its_tag_says(tmp_path: Path) -> None:
    encoder, path = stock.spec("mobilenetv4_conv_small").build().state_dict(), tmp_path / "small.pth"
    usual, other = (0.485, 0.456, 0.406), (0.5, 0.5, 0.5)
    moco = {"state_dict": {f"module.encoder_q.{name}": tensor for name, tensor in encoder.items()}}
    for content, tag, mean, side, assumed in (
        (encoder, "", usual, 224, True),
        (encoder, ".e3600_r256_in1k", other, 256, False),
        (encoder, ".e2400_r224_in1k", usual, 224, False),
        (moco, "", usual, 224, False),  # its released code says so
        (moco, ".e3600_r256_in1k", other, 256, False),
    ):
        torch.save(content, path)
        own = opened(path, teacher_model=f"mobilenetv4_conv_small{tag}", teacher_head="none").own
        assert (own.mean, own.image_size, own.assumed) == (mean, side, assumed)
    with pytest.raises(WispError, match=r"^unknown model 'mobilenetv4_conv_small.e3600'; nearest: mobilenetv4_conv_"):
        opened(path, teacher_model="mobilenetv4_conv_small.e3600", teacher_head="none")


@pytest.mark.usefixtures("quick")
def test_a_guessed_normalisation_is_said(wisp: Wisp, photos: Path, here: Path) -> None:
    torch.save(stock.spec("resnet20").build().state_dict(), here / "plain.pth")
    words = (
        "distill",
        "seed",
        "--data",
        photos,
        *SMALL[:-2],
        "--teacher",
        "plain.pth",
        "--method.teacher-head",
        "none",
    )
    answer = wisp(*words, "--method.teacher-model", "resnet20", "--epochs", "1", "--out", "run")
    assert answer.code == 0, answer.err
    assert "its images' mean 0.4914 0.4822 0.4465 and std 0.247 0.2435 0.2616 are assumed" in answer.out


def test_a_name_wins_over_a_folder_or_file_of_that_name(exported: Path, here: Path) -> None:
    """As of data sets; ./name is the folder or file."""
    (here / "resnet8").symlink_to(exported)
    assert opened("./resnet8").origin == "resnet20 by byol"
    with pytest.raises(WispError, match=r"^nobody offers weights of resnet8; the folder of this name is \./resnet8$"):
        opened("resnet8")
    file = here / "resnet18.a1_in1k"
    torch.save(stock.spec("resnet8").build().state_dict(), file)
    settings = {"teacher_model": "resnet8", "teacher_head": "none"}
    assert opened("./resnet18.a1_in1k", **settings).features == 64
    with pytest.raises(WispError, match=r"is the name of a model; the file is \./resnet18\.a1_in1k$"):
        opened("resnet18.a1_in1k", **settings)
    file.rename(here / "resnet18.pth")
    assert opened("resnet18.pth", **settings).features == 64, "no name of weights"


def test_timms_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    made = []

    def create(model_name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        made.append((model_name, pretrained))
        return build(model_name, **options)

    build = timm.create_model
    monkeypatch.setattr(timm, "create_model", create)
    teacher = opened("mobilenetv3_small_050.lamb_in1k", teacher_head="none", teacher_size=64)
    assert made[-1] == ("mobilenetv3_small_050.lamb_in1k", True)
    assert (teacher.width, teacher.own.image_size) == (1024, 64)


def test_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    build = timm.create_model

    def create(model_name: str, pretrained: bool = False, **options: object) -> torch.nn.Module:
        if pretrained:
            raise OSError("cannot reach the hub\nbecause of this and that")
        return build(model_name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(WispError, match=r"^timm's weights of resnet18 .*cannot reach the hub\); .*teacher-model$"):
        opened("resnet18", teacher_head="none")


def test_a_seed_gives_an_online_teacher_its_first_weights() -> None:
    def first(seed: int) -> torch.Tensor:
        teacher = open_teacher("rekd", Config(teacher="resnet20"), STUDENT, "online", seed)
        assert teacher.bill.flops == 0
        return next(teacher.encoder.parameters())

    state = torch.get_rng_state()
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("teacher", ["resnet18.pth", "resnet50.a1_in2k"])
def test_an_online_teacher_that_is_not_there_is_no_fresh_one(teacher: str, here: Path) -> None:
    with pytest.raises(WispError, match=r"does not exist; name a timm model"):
        open_teacher("rekd", TaughtOnline(teacher=teacher, teacher_model="resnet18"), STUDENT, "online", 0)


def test_a_teacher_that_learns_along_takes_an_architecture() -> None:
    with pytest.raises(WispError, match=r"^a teacher that learns along begins with fresh weights, and a1_in1k are "):
        open_teacher("rekd", TaughtOnline(teacher="resnet50.a1_in1k"), STUDENT, "online", 0)


def test_who_saw_labels(tmp_path: Path) -> None:
    """A classifier tells, a format of label-free code tells, and a card without a method does not."""
    encoder = stock.spec("resnet18").build().state_dict()
    moco = {f"module.encoder_q.{name}": tensor for name, tensor in encoder.items()}
    head = {"fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}
    for content, labels in ((encoder, None), (encoder | head, True), ({"state_dict": moco}, False)):
        torch.save(content, tmp_path / "file.pth")
        assert opened(tmp_path / "file.pth", teacher_model="resnet18", teacher_head="none").bill.labels is labels
    spec = stock.spec("resnet8", 32)
    export_encoder(spec.build(), spec, tmp_path / "made", card=card(spec, name="1x"))
    assert opened(tmp_path / "made", teacher_head="none").bill.labels is None


@pytest.mark.parametrize("content", ["{}", "[]", '{"encoders": {}}'])
def test_a_run_without_encoders(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(WispError, match=r"names no encoder; train again"):
        opened(tmp_path)


def test_a_card_that_is_none(exported: Path, tmp_path: Path) -> None:
    for file in (exported / "exported" / "1x").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(content | {"method": "byol"}))
    with pytest.raises(WispError, match=r"export the teacher again$"):
        opened(tmp_path)


# bad input -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(wisp: Wisp, photos: Path, here: Path) -> Wisp:
    def run(*more: str | Path) -> str:
        before = sorted(here.rglob("*"))
        line = wisp("distill", "seed", "--data", photos, *SMALL, "--out", "run", *more).refusal()
        assert sorted(here.rglob("*")) == before
        return line

    return run


@pytest.mark.usefixtures("here")
def test_refusals(refused: Wisp, exported: Path, here: Path) -> None:
    (here / "notes.txt").write_text("no tensors")
    (here / "empty").mkdir()
    safetensors.torch.save_file(stock.spec("resnet8").build().state_dict(), here / "small.safetensors")
    small = ("--teacher", "small.safetensors", "--method.teacher-model")
    for options, said in {
        (): "seed needs a teacher; --teacher takes",
        ("--teacher", "resnet5"): "unknown teacher 'resnet5': no file, no folder, and no model; nearest: resnet50",
        ("--teacher", "timm/resnet5"): "unknown teacher 'resnet5': no file, no folder, and no model; nearest: resnet50",
        ("--teacher", "emptier/gone"): "the teacher emptier/gone does not exist; name a timm model, a run folder, or a "
        "checkpoint file; nearest: empty",
        ("--teacher", "sml.safetensors"): "the teacher sml.safetensors does not exist; name a timm model, a run "
        "folder, or a checkpoint file; nearest: small.safetensors",
        ("--teacher", "resnet18.pth", "--method.teacher-model", "resnet18"): "the teacher resnet18.pth does not exist; "
        "name a timm model, a run folder, or a checkpoint file; nearest: ",
        ("--teacher", "resnet50.a1_in2k"): "the teacher resnet50.a1_in2k does not exist; name a timm model, a run "
        "folder, or a checkpoint file; nearest: resnet50.a1_in1k",
        ("--teacher", "~nobody-of-this-name/x"): "the teacher ~nobody-of-this-name/x does not exist",
        ("--teacher", "empty"): "empty holds no finished run and no exported encoder; name a run folder",
        ("--teacher", "resnet20"): "nobody offers weights of resnet20",
        ("--teacher", "notes.txt"): "notes.txt does not say its architecture; name it with --method.teacher-model",
        ("--teacher", "notes.txt", "--method.teacher-model", "resnet8"): "notes.txt",
        (*small, "resnet8"): "comes without a projection head; use --method.teacher-head none",
        (*small, "resnet20"): "small.safetensors",
        ("--teacher", exported, "--method.teacher-model", "resnet20"): "the card of bt",
        ("--teacher", exported, "--method.out", "17"): "gives 16 numbers; leave out --method.out",
        ("--method.teacher-model", "resnet20"): "name --teacher",
        ("--teacher", exported, "--method.teacher-size", "0"): "teacher_size is 0; it must be 1 or more",
    }.items():
        line = refused(*options)
        assert said in line, line


def test_local_crops_that_the_teacher_does_not_take(wisp: Wisp, photos: Path, here: Path) -> None:
    torch.save(stock.spec("vit_tiny_patch16_224").build().state_dict(), here / "vit.pth")
    model = ("--method.teacher-model", "vit_tiny_patch16_224", "--method.teacher-head", "none")
    options = ("--plan", "multicrop_small", *SMALL, "--out", "run")
    line = wisp("distill", "seed", "--data", photos, "--teacher", "vit.pth", *model, *options).refusal()
    assert "does not take views of" in line
    assert line.endswith("use a convolutional teacher, or another --plan")


def test_a_size_that_the_teacher_does_not_take(tmp_path: Path) -> None:
    model = "vit_tiny_patch16_224"
    torch.save(stock.spec(model).build().state_dict(), tmp_path / "vit.pth")
    with pytest.raises(WispError, match=r"does not take 100 px .*; use another --method.teacher-size$"):
        opened(tmp_path / "vit.pth", teacher_model=model, teacher_head="none", teacher_size=100)
