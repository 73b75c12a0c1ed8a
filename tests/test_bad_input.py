"""Bad input: one line on stderr that says what is wrong and what to do, exit code 2, and nothing written.

Every line of the design's list is a case here.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from small_runs import SMALL, Wisp, write_classes
from wisp import methods, training
from wisp.data.loader import Batch
from wisp.data.sources import EXTENSIONS
from wisp.methods.xd import XD
from wisp.train import checkpoint

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def refused(wisp: Wisp, photos: Path, here: Path) -> Wisp:
    """Runs `wisp pretrain sacl_xd` on 24 photos with more options; returns its line; nothing is written."""

    def run(*more: str | Path, method: str = "sacl_xd", data: str | Path = photos) -> str:
        before = sorted(here.rglob("*"))
        line = wisp("pretrain", method, "--data", data, *SMALL, "--out", "run", *more).refusal()
        assert sorted(here.rglob("*")) == before
        return line

    return run


# data ----------------------------------------------------------------------------------------------------------------


def test_a_missing_folder(refused: Wisp) -> None:
    line = refused(data="photoz")
    assert 'no such folder or data set "photoz"' in line
    assert "nearest: photos" in line


def test_a_file_instead_of_a_folder(refused: Wisp, here: Path) -> None:
    (here / "notes.txt").write_text("x")
    assert "notes.txt" in refused(data="notes.txt")
    line = refused(data="photos/00.png")
    assert "is a file, not a folder of images" in line


def test_an_empty_folder(refused: Wisp, here: Path) -> None:
    (here / "nothing").mkdir()
    assert '"nothing" is empty' in refused(data="nothing")


def test_a_folder_without_an_image_names_the_extensions(refused: Wisp, here: Path) -> None:
    (here / "texts" / "deep").mkdir(parents=True)
    (here / "texts" / "deep" / "a.txt").write_text("x")
    line = refused(data="texts")
    assert all(extension in line for extension in EXTENSIONS)


def test_an_unknown_data_set_name(refused: Wisp) -> None:
    assert "nearest: CIFAR10, CIFAR100, " in refused(data="cifr10")


def _parquet(path: Path, **columns: object) -> str:
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_a_parquet_without_images(refused: Wisp, here: Path) -> None:
    line = refused(data=_parquet(here / "x.parquet", picture=[b"x"], label=[1]))
    assert "has no column `image` (it has picture, label)" in line


def test_a_file_that_is_no_parquet(refused: Wisp, here: Path) -> None:
    (here / "x.parquet").write_bytes(b"PAR1 and nothing else")
    assert "as parquet" in refused(data="x.parquet")


def test_too_many_unreadable_images(refused: Wisp, photos: Path, here: Path) -> None:
    for k in range(11):
        (photos / f"broken{k}.png").write_bytes(b"\x89PNG")
    line = refused()
    assert "11 of 35 images cannot be read (broken0.png: " in line
    assert "and 8 more" in line


def test_an_explicit_batch_larger_than_the_data(refused: Wisp) -> None:
    assert refused("--batch-size", "25") == "--batch-size 25 is larger than the 24 training images; use 24 or less"
    assert "larger than the 7 training images" in refused("--subset", "7")


def test_labels_missing_for_the_supervised_method(wisp: Wisp, here: Path, photos: Path) -> None:
    words = [word for word in SMALL if not word.startswith("--method")]
    words = [word for word in words if word != "32"]
    line = wisp("pretrain", "supervised", "--data", photos, *words, "--out", "run").refusal()
    assert "supervised needs labels" in line
    one = write_classes(here / "animals")
    shutil.rmtree(one / "b")
    line = wisp("pretrain", "supervised", "--data", one, *words, "--out", "run").refusal()
    assert "supervised needs" in line
    assert not (here / "run").exists()


def test_labels_missing_for_evaluation(refused: Wisp, classes: Path, photos: Path) -> None:
    line = refused("--val", photos)
    assert "has no labels" in line
    assert "class folders" in line


def test_questions_that_are_their_own_neighbours(refused: Wisp, classes: Path) -> None:
    line = refused("--val", classes, data=classes)
    assert line == "--val holds the training images; leave it out and a tenth of them is held out"


def test_questions_of_which_none_can_be_read(wisp: Wisp, classes: Path, here: Path) -> None:
    write_classes(here / "torn")
    for file in (here / "torn").rglob("*.png"):
        file.write_bytes(b"")
    line = wisp("pretrain", "supervised", "--data", classes, "--val", "torn", "--out", "run").refusal()
    assert line.startswith("--val torn has images that cannot be read (a/00.png: empty file, ")
    assert not (here / "run").exists()


def test_a_fresh_folder_has_nothing_near(wisp: Wisp, here: Path) -> None:
    (here / "new").mkdir()
    assert wisp("check", "new/photos").refusal() == 'no such folder or data set "new/photos"'


def test_one_class_folder_is_no_choice(wisp: Wisp, classes: Path) -> None:
    shutil.rmtree(classes / "b")
    assert wisp("pretrain", "supervised", "--data", classes, "--out", "run").refusal() == (
        f"method supervised needs labels: --data {classes} has a single class folder, a; there must be two or more"
    )


def test_extra_images_that_cannot_serve(wisp: Wisp, refused: Wisp, classes: Path, photos: Path, here: Path) -> None:
    def labelled(extra: str | Path) -> str:
        words = [word for word in SMALL if not word.startswith("--method") and word != "32"]
        before = sorted(here.rglob("*"))
        answer = wisp("pretrain", "supervised", "--data", classes, *words, "--out", "run", "--extra", extra)
        assert sorted(here.rglob("*")) == before
        return answer.refusal()

    assert refused("--extra", "gone:2") == (
        '--extra: no such folder "gone"; name one of class folders, as wisp synthesize writes it'
    )
    assert refused("--extra", f"{classes}:-1") == (
        f'--extra {classes}:-1: the ratio behind the colon is "-1"; it must be a number of 0 or more'
    )
    assert f"--extra {classes}:2 wants 48 images, 2 x the 24 of the task, and {classes} has 24; use {classes}:1 " in (
        refused("--extra", f"{classes}:2")
    )
    assert "holds images of the task itself" in refused("--extra", photos)
    assert "has no labels, and the method needs them" in labelled(photos)
    write_classes(here / "more")
    (here / "more" / "a").rename(here / "more" / "cow")
    assert "more has classes that --data does not have (cow): rename these folders" in labelled("more")
    assert "holds images of the task itself" in labelled(classes)


def test_questions_among_the_extra_images(refused: Wisp, classes: Path, here: Path) -> None:
    val = write_classes(here / "val")
    assert "(--data or --val)" in refused("--val", val, "--extra", val, data=classes)


def test_a_data_set_that_somebody_has_to_fetch(refused: Wisp, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WISP_CACHE", str(here / "cache"))
    line = refused(data="cub200")
    assert line.startswith(f"CUB200 is not in {here / 'cache' / 'CUB200'}: unpack CUB_200_2011.tgz (from ")


def test_other_classes_for_evaluation(refused: Wisp, classes: Path, here: Path) -> None:
    (here / "other" / "c").mkdir(parents=True)
    (here / "other" / "d").mkdir()
    for name in "cd":
        Image.new("RGB", (18, 18)).save(here / "other" / name / "1.png")
    line = refused("--val", here / "other", data=classes)
    assert (
        line == "--val has other classes than --data: only --data has a, b and only --val has c, d; both need the same"
    )
    write_classes(here / "more")
    (here / "more" / "c").mkdir()
    Image.new("RGB", (18, 18)).save(here / "more" / "c" / "1.png")
    line = refused("--val", here / "more", data=classes)
    assert line == "--val has other classes than --data: only --val has c; both need the same"


# names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["pretrain", "sacl_dx"], "unknown method 'sacl_dx'; nearest: sacl_xd, "),
        (["pretrian"], "unknown command 'pretrian'; nearest: pretrain, "),
        (["list", "metods"], "cannot list 'metods'; wisp list methods|encoders|data"),
        (["evaluate", "run", "--data", "classes", "--protocol", "knm"], "unknown protocol 'knm'; nearest: knn, linear"),
        (["evaluate", "run", "--data", "classes", "--protocol", ""], "unknown protocol ''; nearest: "),
        (["export", "run", "--to", "onxn"], "--to cannot be 'onxn'; nearest: onnx, timm, pt2"),
        (["evaluate", "run", "--dta", "x"], "unknown option --dta; nearest: --data, "),
        (["evaluate", "run"], "--data is missing; "),
        (["evaluate"], "evaluate what? "),
        (["distill"], "distill by which method? wisp distill METHOD --teacher TEACHER --data DATA; wisp list methods"),
        (["distill", "supervised", "--teacher", "run"], "supervised has no teacher; use wisp pretrain supervised"),
        (["check"], "check what? "),
        (["check", "photoz"], 'no such folder or data set "photoz"; nearest: '),
        (["export"], "export what? "),
        (["export", "nowhere"], "nowhere holds no finished run and no exported encoder; "),
        (["report", "nowhere"], "nowhere is no run folder; "),
        (["compare"], "compare what? "),
    ],
)
def test_words(wisp: Wisp, words: list[str], line: str) -> None:
    assert wisp(*words).refusal().startswith(line)


def test_an_unknown_method_gets_three_names(wisp: Wisp) -> None:
    _, _, names = wisp("pretrain", "sacl_dx").refusal().partition("nearest: ")
    assert len(names.split(", ")) == 3
    assert set(names.split(", ")) <= set(methods.names())


def test_an_unknown_model_gets_three_names(refused: Wisp) -> None:
    _, _, names = refused("--model", "mobilenetv3_smal_100").partition("nearest: ")
    assert names.split(", ")[0] == "mobilenetv3_small_100"
    assert len(names.split(", ")) == 3


@pytest.mark.parametrize(
    ("option", "nearest"),
    [
        (["--epoch", "3"], "unknown option --epoch; nearest: --epochs, "),
        (["--batchsize=3"], "unknown option --batchsize; nearest: --batch-size, "),
        (["--method.alhpa", "1"], "unknown option --method.alhpa; nearest: --method.alpha, "),
        (["--plan", "mocov4"], "unknown view plan 'mocov4'; nearest: mocov3, "),
        (["--optimizer", "adam"], "--optimizer cannot be 'adam'; nearest: adamw, "),
        (["--precision", "bf61"], "--precision cannot be 'bf61'; nearest: bf16, "),
        (["--method.selection", "epochs"], "--method.selection cannot be 'epochs'; nearest: epoch, "),
        (["--seed"], "--seed needs a value; "),
        (["stray"], "cannot read 'stray'; "),
    ],
)
def test_options(refused: Wisp, option: list[str], nearest: str) -> None:
    assert refused(*option).startswith(nearest)


# numbers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--epochs", "0 -1 nan inf 2.5 x"),
        ("--batch-size", "0 -8 nan inf 1 2.5"),
        ("--image-size", "0 -16 nan"),
        ("--lr", "0 -0.1 nan inf x"),
        ("--weight-decay", "-0.1 nan inf"),
        ("--subset", "0 -1"),
        ("--workers", "-1"),
        ("--devices", "0"),
        ("--seed", "-1 x 9223372036854775808"),
        ("--method.width", "0 -1 0.99 nan inf"),
        ("--method.alpha", "-0.01 1.01 nan"),
        ("--method.dense-warmup", "-0.1 1 nan"),
        ("--method.lam", "nan inf"),
        ("--method.hidden", "0 -1"),
        ("--method.out", "0"),
    ],
)
def test_numbers_out_of_range(refused: Wisp, option: str, values: str) -> None:
    for value in values.split():
        line = refused(f"{option}={value}")
        assert option.rpartition(".")[2].lstrip("-").partition("-")[0] in line
        assert value.lstrip("-") in line


def test_a_width_below_one_says_what_a_width_is(refused: Wisp) -> None:
    assert "K >= 1 times as wide" in refused("--method.width", "0.5")


def test_a_plan_with_too_few_views(refused: Wisp) -> None:
    line = refused("--plan", "supervised")
    assert line.startswith("--plan supervised does not have the 2 views of sacl_xd; use sacl_xd_imagenet, ")
    assert "plain" not in line


def test_an_image_below_the_total_stride(refused: Wisp) -> None:
    assert refused("--image-size", "3") == "--image-size 3 is below the total stride 4 of resnet8; use 4 or more"
    line = refused("--model", "mobilenetv3_small_100", "--image-size", "31")
    assert "below the total stride 32 of mobilenetv3_small_100; use 32 or more, or --stem small" in line


@pytest.mark.parametrize(
    ("model", "layer", "structure"),
    [
        ("resnest14d", "layer1.0.conv2", "does not run at 2 times"),
        ("xcit_nano_12_p16_224", "pos_embed.token_projection", "meet a constant"),
        ("resnet56_pad", "layer2.0.conv2", "meet a constant"),
    ],
)
def test_an_architecture_that_cannot_be_sliced(refused: Wisp, model: str, layer: str, structure: str) -> None:
    line = refused("--model", model, "--image-size", "32")
    assert layer in line
    assert structure in line


# several widths, queues, phases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("widths", "line"),
    [
        ("1 0.5 0", "width 0 is outside (0, 1]; a narrow network is a part of the full one"),
        ("1 -0.5", "width -0.5 is outside (0, 1]; "),
        ("1.5 1", "width 1.5 is outside (0, 1]; "),
        ("1 nan", "width nan is outside (0, 1]; "),
        ("1 0.5 0.5", "width 0.5 is named twice; every width is one network"),
        ("0.75 0.5", "widths need 1, the full network that the others are parts of"),
    ],
)
def test_widths_of_a_slimmable_network(refused: Wisp, widths: str, line: str) -> None:
    assert refused("--method.widths", *widths.split(), method="slimclr").startswith(line)


@pytest.mark.parametrize(
    ("method", "options"),
    [("slimclr", ["--method.widths", "1", "0.4"]), ("sacl_xd", ["--method.width", "1.4"])],
)
def test_a_width_that_tears_a_head(refused: Wisp, method: str, options: list[str]) -> None:
    line = refused("--model", "vit_tiny_patch16_224", "--image-size", "32", *options, method=method)
    near = "0.3333 and 0.6667" if method == "slimclr" else "1.333 and 1.667"
    assert line == (
        f"width {options[-1]} gives no whole number of attention heads (3 at width 1); "
        f"the nearest widths that do are {near}"
    )


@pytest.mark.parametrize(("method", "size", "near"), [("moco_v2", 4, 8), ("slimclr", 20, 16), ("swav", 30, 32)])
def test_a_queue_that_is_no_multiple_of_the_batch(refused: Wisp, method: str, size: int, near: int) -> None:
    line = refused("--method.queue", str(size), method=method)
    assert line == f"a queue of {size} is no multiple of the 8 keys of a step; use --method.queue {near}"


def test_a_queue_of_a_symmetric_loss_takes_two_keys_of_an_image(refused: Wisp) -> None:
    line = refused("--method.queue", "8", "--method.symmetric", method="moco_v2")
    assert line == "a queue of 8 is no multiple of the 16 keys of a step; use --method.queue 16"


@pytest.mark.parametrize("method", ["slimclr", "moco_v2", "simclr", "swav", "dino"])
def test_a_batch_of_one(refused: Wisp, method: str) -> None:
    assert refused("--batch-size", "1", method=method) == "--batch-size 1 has no statistics; use 2 or more"


def test_a_slow_start_beyond_the_last_epoch(refused: Wisp) -> None:
    for value in ("1", "50", "-0.1"):
        line = refused("--method.slow-start", value, method="slimclr")
        assert line == f"slow_start is {value}; it is a fraction of the training, in [0, 1): 0.5 is half"


def test_a_phase_after_the_last_step(refused: Wisp) -> None:
    """Six steps, the last at 5/6 of the training: the narrow networks would be exported as they were drawn."""
    line = refused("--method.slow-start", "0.9", method="slimclr")
    assert line == (
        "slimclr has a phase that begins at 0.9 of the training, after the last of its 6 steps; "
        "use --epochs 4 or more, or let it begin earlier"
    )
    assert "sacl_xd has a phase that begins at 0.95" in refused("--method.dense-warmup", "0.95")
    assert "use --epochs 7 or more" in refused("--method.dense-warmup", "0.95")


def test_a_batch_that_cannot_be_shared(refused: Wisp) -> None:
    assert refused("--devices", "3") == "a batch of 8 cannot be shared by 3 processes; use a multiple of 3"


def test_one_image_a_process(refused: Wisp) -> None:
    line = refused("--devices", "8", "--accelerator", "cpu")
    assert "leaves one image to each of 8 processes" in line
    assert "use 16 or more" in line


def test_devices_that_are_not_there(refused: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--accelerator cuda: this machine has none" in refused("--accelerator", "cuda")
    assert "--precision fp16 needs CUDA" in refused("--precision", "fp16")


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_a_logger_that_is_not_installed(refused: Wisp, logger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert f"pip install -e '.[{logger}]'" in refused("--logger", logger)


# the place of the run ------------------------------------------------------------------------------------------------


def test_out_is_a_file_or_below_one(refused: Wisp, here: Path) -> None:
    (here / "taken").write_text("mine")
    assert refused("--out", "taken") == "--out taken is a file; name a folder that does not exist yet"
    assert "taken is a file" in refused("--out", "taken/deep/run")


def test_out_holds_other_files(refused: Wisp, photos: Path) -> None:
    assert refused("--out", photos) == f"--out {photos} holds other files and no run; name another folder"


def test_out_may_not_be_written(refused: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode == os.R_OK and allowed(path, mode))  # root may everything
    assert "no permission" in refused("--out", "deep/run")


def test_out_holds_another_run(wisp: Wisp, photos: Path, here: Path) -> None:
    _run(here / "run", photos, epochs=2, seed=0)
    before = _content(here / "run")
    line = wisp("pretrain", "sacl_xd", "--data", photos, *SMALL, "--out", "run", "--seed", "1", "--lr", "0.2").refusal()
    assert line == "run holds another run (lr: None -> 0.2, seed: 0 -> 1); name another --out"
    line = wisp("pretrain", "xd", "--data", photos, *SMALL, "--out", "run").refusal()
    assert line == "run holds another run (method_name: sacl_xd -> xd); name another --out"
    assert _content(here / "run") == before


def test_the_data_of_a_run_changed(wisp: Wisp, photos: Path, here: Path) -> None:
    _run(here / "run", photos, epochs=2, seed=0, resolved={"images": 23})
    line = wisp("pretrain", "sacl_xd", "--data", photos, *SMALL, "--out", "run").refusal()
    assert line == "run was begun with other data or another wisp (images: 23 -> 24); name another --out"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("truncated", "is truncated or no checkpoint"),
        ("text", "is truncated or no checkpoint"),
        ("foreign", "was not written by wisp"),
        ("newer", "has schema 2, this wisp reads 1; install a newer wisp"),
        ("other network", "does not fit this method and encoder"),
    ],
)
def test_a_checkpoint_that_cannot_be_used(wisp: Wisp, photos: Path, here: Path, content: str, line: str) -> None:
    _run(here / "run", photos, epochs=2, seed=0)
    path = here / "run" / "checkpoints" / "last.ckpt"
    checkpoint.save(path, {"method": {"weight": torch.zeros(3)}, "optimizer": {}, "progress": {}})
    if content == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "text":
        path.write_text("x")
    elif content == "foreign":
        torch.save({"state_dict": {}}, path)
    elif content == "newer":
        torch.save({"mark": checkpoint.MARK, "schema": 2}, path)
    before = _content(here / "run")
    assert line in wisp("pretrain", "sacl_xd", "--data", photos, *SMALL, "--out", "run").refusal()
    assert _content(here / "run") == before


def _run(folder: Path, data: Path, *, epochs: int, seed: int, resolved: dict[str, object] | None = None) -> None:
    """A run folder in which `wisp pretrain sacl_xd --data DATA *SMALL --out FOLDER` was killed at once."""
    settings = {"hidden": 32, "out": 32}
    values = {"data": str(data), "model": "resnet8", "image_size": 16, "batch_size": 8, "epochs": epochs, "seed": seed}
    folder.mkdir()
    text = {"schema": 1, "method_name": "sacl_xd", **values, "method": settings, "resolved": resolved or {}}
    (folder / "run.json").write_text(json.dumps(text))


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --from --------------------------------------------------------------------------------------------------------------


def _json(**changes: object) -> str:
    return json.dumps({"schema": 1, "method_name": "sacl_xd", "method": {}, **changes})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{", "is not a run.json of wisp"),
        ("[]", "is not a run.json of wisp"),
        ("{}", "is not a run.json of wisp"),
        ("\x80\xff", "is not a run.json of wisp"),
        (_json(method=3), "is not a run.json of wisp"),
        (_json(schema=2), "has schema 2, this wisp reads 1; install a newer wisp"),
        ('{"schema": 2}', "has schema 2, this wisp reads 1; install a newer wisp"),
        (_json(method_name="sacl"), "unknown method 'sacl'; nearest: sacl_xd, "),
        (_json(method_name=None), "unknown method 'None'; nearest: "),
        (_json(epoch=2), "has an unknown key 'epoch'; nearest: epochs, "),
        (_json(method={"widht": 2}), "has an unknown key 'widht'; nearest: width, "),
        (_json(method={"width": 0.5}), "width is 0.5"),
        (_json(method={"width": "2"}), "has '2' for width"),
        (_json(epochs="three"), "has 'three' for epochs"),
        (_json(epochs=2.5), "has 2.5 for epochs"),
        (_json(epochs=True), "has True for epochs"),
        (_json(epochs=0), "--epochs is 0"),
        (_json(optimizer="adam"), "has 'adam' for optimizer"),
        (_json(data=None), "has None for data"),
    ],
)
def test_a_run_file_that_cannot_be_repeated(wisp: Wisp, here: Path, text: str, line: str) -> None:
    (here / "run.json").write_text(text, encoding="latin-1")
    assert line in wisp("pretrain", "--from", "run.json", "--out", "again").refusal()
    assert not (here / "again").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--from", "nowhere.json"], "--from nowhere.json is no file"),
        (["--from", "."], "--from . is no file"),
        (["--from"], "--from needs a value"),
        (["--from", "run.json"], "name it with --out"),
        (
            ["--from", "run.json", "--out", "again", "--epochs", "3"],
            "--from takes --out and nothing else, not --epochs",
        ),
    ],
)
def test_repeating(wisp: Wisp, here: Path, words: list[str], line: str) -> None:
    (here / "run.json").write_text(_json())
    assert line in wisp("pretrain", *words).refusal()


def test_repeating_names_one_method(wisp: Wisp, here: Path) -> None:
    assert "--from names the method already" in wisp("pretrain", "xd", "--from", "run.json").refusal()


# memory --------------------------------------------------------------------------------------------------------------


def test_a_full_memory_names_the_remedy(wisp: Wisp, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a CPU; CUDA has an error of its own, which is one of these."""
    counted = XD.forward

    def forward(method: XD, batch: Batch, progress: float) -> dict[str, torch.Tensor]:
        if batch.index.device.type == "meta":
            return counted(method, batch, progress)
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4000 bytes.")

    monkeypatch.setattr(XD, "forward", forward)
    line = wisp("pretrain", "xd", "--data", photos, *SMALL, "--out", "run").refusal()
    assert line.startswith("the device's memory is full at batch size 8; lower --batch-size or --image-size")


def test_networks_that_are_too_large_are_one_line(refused: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(training, "prepared", full)
    assert refused().startswith("the device's memory is full before the first step; name a smaller --model")


# evaluation ----------------------------------------------------------------------------------------------------------


def test_evaluation_without_labels(wisp: Wisp, photos: Path, here: Path) -> None:
    (here / "exported").mkdir()
    (here / "exported" / "card.json").write_text(json.dumps({"schema": 1}))
    line = wisp("evaluate", "exported", "--data", photos, "--protocol", "knn").refusal()
    assert f"--data {photos} has no labels" in line


def test_evaluation_with_a_damaged_card(wisp: Wisp, classes: Path, here: Path) -> None:
    (here / "exported").mkdir()
    (here / "exported" / "card.json").write_text("{")
    assert "card.json cannot be read" in wisp("evaluate", "exported", "--data", classes).refusal()


def test_evaluation_asks_about_no_image_that_it_looks_in(wisp: Wisp, classes: Path, here: Path) -> None:
    (here / "exported").mkdir()
    (here / "exported" / "card.json").write_text(json.dumps({"schema": 1}))
    line = wisp("evaluate", "exported", "--data", classes, "--val", classes / ".").refusal()
    assert line == "--val holds the training images; leave it out and a tenth of them is held out"
