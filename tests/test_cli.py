"""The command line: what it says, what it passes on, and every verb on a finished run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import wisp as package
from small_runs import SMALL, Answer, Wisp, write_classes
from wisp import methods
from wisp.cli import VERBS
from wisp.encoders.tested import TESTED
from wisp.errors import WispError
from wisp.export.card import load_lines, read_card
from wisp.methods import sacl_xd
from wisp.recipes import demo
from wisp.run import Run

NAME = "[red]photos :car:"
"""Of a data set: to rich this is markup and an emoji."""


# words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_verb(wisp: Wisp, words: list[str]) -> None:
    answer = wisp(*words)
    assert (answer.code, answer.err) == (0, "")
    assert all(f"  wisp {verb.usage}" in answer.out for verb in VERBS.values())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(wisp: Wisp, verb: str) -> None:
    answer = wisp(verb, "--help")
    assert (answer.code, answer.err) == (0, "")
    assert f"wisp {verb}" in answer.out


def test_a_methods_help_lists_its_settings(wisp: Wisp) -> None:
    out = wisp("pretrain", "sacl_xd", "--help").out
    assert " ".join(methods.about("sacl_xd").summary.split()[:5]) in out
    assert "--epochs" in out
    assert "--method.width" in out
    assert "--method.width" not in wisp("pretrain", "xd", "--help").out


def test_the_version(wisp: Wisp) -> None:
    assert wisp("--version").out == f"wisp {package.__version__}\n"


def test_lists(wisp: Wisp) -> None:
    told = wisp("list", "methods").out.splitlines()
    assert [line.split()[0] for line in told[::4]] == methods.names()
    assert all(len(line.split()) > 3 for line in told[::4]), "each with its summary"
    assert all(line.strip().startswith("cost: ") for line in told[2::4])
    assert all(line.strip().startswith("use: ") for line in told[3::4])
    assert all(name in wisp("list", "encoders").out for name in TESTED)
    assert "digits" in wisp("list", "data").out


@pytest.fixture
def passed(wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`passed("pretrain", ...)`: the run that would be trained."""
    runs: list[Run[Any]] = []
    monkeypatch.setattr("wisp.api.pretrain", lambda run, console: runs.append(run))

    def call(*words: str) -> Run[Any]:
        answer = wisp(*words)
        assert (answer.code, answer.err) == (0, ""), answer
        return runs.pop()

    return call


def test_pretrain_alone_is_the_main_job(passed: Any) -> None:
    run = passed("pretrain")
    assert run == Run(method=sacl_xd.Config(pairs="own", alpha=0.5), data="digits", model="resnet20")
    assert run == demo.recipe()
    assert run.method_title == "sacl_xd alpha=0.5 pairs=own"
    assert run.method_name == "sacl_xd"
    assert run.method.width == 2.0
    assert str(run.folder) == "runs/sacl_xd-resnet20-digits-0"


def test_a_method_that_is_named_is_the_papers(passed: Any) -> None:
    assert passed("pretrain", "sacl_xd").method == sacl_xd.Config()
    assert passed("pretrain", "sacl_xd").method_title == "sacl_xd"
    assert passed("pretrain", "--method.alpha", "0.7").method == sacl_xd.Config(pairs="own", alpha=0.7)


def test_options_are_passed_on(passed: Any) -> None:
    run = passed(
        *("pretrain", "sacl-xd", "--data", "x/y.parquet", "--batch_size=64", "--lr", "1e-2", "--deterministic"),
        *("--method.both-orders", "--method.selection", "once", "--precision", "fp32", "--seed", "7", "--val", "v"),
    )
    assert (run.data, run.batch_size, run.lr, run.deterministic) == ("x/y.parquet", 64, 0.01, True)
    assert (run.method.both_orders, run.method.selection) == (True, "once")
    assert (run.precision, run.seed, run.val) == ("fp32", 7, "v")
    assert str(run.folder) == "runs/sacl_xd-resnet20-y-7"
    assert passed("pretrain", "barlow_twins", "--no-deterministic").method_name == "barlow_twins"


def test_what_cannot_be_foreseen_is_one_line_too(wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied", "photos/secret")

    monkeypatch.setattr("wisp.api.check", check)
    assert wisp("check", "photos").refusal() == "photos/secret: Permission denied"


def test_a_message_stays_on_one_line(wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object, **__: object) -> str:
        raise WispError("first\n  second")

    monkeypatch.setattr("wisp.api.check", check)
    assert wisp("check", "photos").refusal() == "first second"


def test_an_interrupt_without_a_training(wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(*_: object, **__: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("wisp.api.check", check)
    answer = wisp("check", "photos")
    assert answer.code == 130
    assert answer.err == "wisp: interrupted; what was saved stays, and the same command can be given again\n"


def test_a_reader_that_goes_away(wisp: Wisp, monkeypatch: pytest.MonkeyPatch) -> None:
    """`wisp ... | head`: no traceback."""

    def check(*_: object, **__: object) -> str:
        raise BrokenPipeError

    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("wisp.api.check", check)
    monkeypatch.setattr("os._exit", leave)
    answer = wisp("check", "photos")
    assert (answer.code, answer.err) == (1, "")


@pytest.mark.parametrize(("name", "value", "who"), [("RANK", "3", "process 3: "), ("LOCAL_RANK", "0", "")])
def test_one_of_many_processes_says_which(
    wisp: Wisp, name: str, value: str, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert wisp("pretrian").refusal().startswith(f"{who}unknown command")


# verbs on a run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(wisp: Wisp, quick: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Answer]:
    """A labelled folder, a finished run of XD on it, and what that said."""
    root = tmp_path_factory.mktemp("trained")
    data = write_classes(root / NAME)
    return data, root / "run", wisp("pretrain", "xd", "--data", data, *SMALL, "--out", root / "run")


def test_it_ends_well_and_quietly(trained: tuple[Path, Path, Answer]) -> None:
    _, _, answer = trained
    assert (answer.code, answer.err) == (0, "")


def test_the_first_block(trained: tuple[Path, Path, Answer]) -> None:
    _, _, answer = trained
    first, _, _ = answer.out.partition("epoch 1:")
    assert f"data  {NAME}: 22 images" in first, "a user's names stand as they are"
    for word in ("method  xd", "resnet8", "2 epochs x 2 steps of 8 images", "MFLOP: ", "backward", "held out"):
        assert word in first


def test_the_last_block(trained: tuple[Path, Path, Answer]) -> None:
    _, run, answer = trained
    _, _, last = answer.out.partition("evaluating and exporting")
    receipt = json.loads((run / "result.json").read_text())
    for name, row in (("1x pre-trained", receipt["encoders"]["1x"]), ("1x untrained", receipt["untrained"])):
        numbers = [*row["knn"].values(), row["linear"]]
        assert re.search(rf"{name} +{' +'.join(f'{number:.2f}' for number in numbers)}\n", last)
    place = run / "exported" / "1x"
    for word in ("cost: ", f"1x: {place}", f"report: {run}/report.html", *load_lines(read_card(place), place)):
        assert word in last


def test_files_of_a_run(trained: tuple[Path, Path, Answer]) -> None:
    _, run, _ = trained
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    wanted = "run.json env.json train.log metrics.jsonl checkpoints/last.ckpt report.html result.json"
    assert {*wanted.split(), "exported/1x/encoder.safetensors", "exported/1x/card.json"} <= names
    assert not any(".part" in name for name in names)
    shared = [
        path.read_text() for path in (run / "result.json", run / "env.json", run / "exported" / "1x" / "card.json")
    ]
    assert not any(str(run.parent) in text for text in shared), "no path of this machine"


def test_evaluate_finds_what_the_receipt_says(wisp: Wisp, trained: tuple[Path, Path, Answer]) -> None:
    data, run, _ = trained
    entry = json.loads((run / "result.json").read_text())["encoders"]["1x"]
    wanted = {f"kNN-{k}": f"{value:.2f}" for k, value in entry["knn"].items()} | {"linear": f"{entry['linear']:.2f}"}
    answer = wisp("evaluate", run, "--data", data)
    assert dict(line.split() for line in answer.out.splitlines()) == wanted
    one = wisp("evaluate", run / "exported" / "1x" / "encoder.safetensors", "--data", data, "--protocol", "knn")
    del wanted["linear"]
    assert dict(line.split() for line in one.out.splitlines()) == wanted


def test_a_protocol_that_needs_labels(wisp: Wisp, trained: tuple[Path, Path, Answer], photos: Path) -> None:
    _, run, _ = trained
    for protocol in ("knn", "linear"):
        line = wisp("evaluate", run, "--data", photos, "--protocol", protocol).refusal()
        assert "has no labels; use class folders or a parquet with a label column" in line


def test_an_encoder_that_the_run_has_not(wisp: Wisp, trained: tuple[Path, Path, Answer]) -> None:
    data, run, _ = trained
    assert "has no encoder '2x'; it has 1x" in wisp("evaluate", run, "--data", data, "--encoder", "2x").refusal()


def pictures(run: Path) -> list[str]:
    """What the report shows of the images, drawn from the stored gallery."""
    return re.findall(r"data:image[^\"]+", (run / "report.html").read_text())


def test_report_and_compare(wisp: Wisp, trained: tuple[Path, Path, Answer], tmp_path: Path) -> None:
    _, run, _ = trained
    before = pictures(run)
    assert before
    assert wisp("report", run).out == f"{run / 'report.html'}\n"
    assert pictures(run) == before
    answer = wisp("compare", run, run, "--out", tmp_path / "both.html")
    assert "resnet8" in answer.out
    assert (tmp_path / "both.html").stat().st_size > 1000
    shutil.copytree(run, tmp_path / "runs" / "again")
    shutil.copytree(run, tmp_path / "runs" / "first")
    (tmp_path / "runs" / "notes").mkdir()
    told = wisp("compare", tmp_path / "runs", "--out", tmp_path / "all.html").out
    assert 0 < told.index("again") < told.index("first")
    assert "notes" not in told


def test_export_of_what_timm_cannot_build(wisp: Wisp, trained: tuple[Path, Path, Answer], tmp_path: Path) -> None:
    _, run, _ = trained
    line = wisp("export", run, "--to", "timm", "--out", tmp_path / "x").refusal()
    assert "timm cannot build resnet8 as trained; use --to pt2 or onnx" in line
    assert not (tmp_path / "x").exists()


def test_export_without_the_extra(
    wisp: Wisp, trained: tuple[Path, Path, Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run, _ = trained
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = wisp("export", run, "--to", "onnx", "--out", tmp_path / "x").refusal()
    assert "pip install -e '.[onnx]'" in line


def test_check(wisp: Wisp, trained: tuple[Path, Path, Answer]) -> None:
    data, _, _ = trained
    answer = wisp("check", data)
    assert answer.code == 0
    assert "24" in answer.out


def test_evaluate_with_the_probes_options(wisp: Wisp, trained: tuple[Path, Path, Answer]) -> None:
    data, run, _ = trained
    words = ("evaluate", run, "--data", data, "--augmented", "2", "--normalise", "batchnorm")
    answer = wisp(*words)
    assert (answer.code, answer.err.count("\n")) == (0, 1)
    assert answer.err.startswith("wisp: images asked about: 2; classes: 2, ")
    assert [line.split()[0] for line in answer.out.splitlines()] == ["kNN-11", "linear"], "k is half of the 22 images"
    assert wisp(*words, "--protocol", "knn").refusal().startswith("--augmented is for the linear probe alone; ")
    assert "--normalise cannot be 'batch'; nearest: batchnorm" in wisp(*words[:-1], "batch").refusal()


def test_evaluate_measures_the_file_that_is_named(
    wisp: Wisp, trained: tuple[Path, Path, Answer], tmp_path: Path
) -> None:
    data, run, _ = trained
    folder = run / "exported" / "1x"
    (tmp_path / "card.json").write_bytes((folder / "card.json").read_bytes())
    (tmp_path / "encoder.safetensors").write_bytes((folder / "encoder.safetensors").read_bytes())
    (tmp_path / "finetuned.safetensors").write_bytes(b"torn")
    line = wisp("evaluate", tmp_path / "finetuned.safetensors", "--data", data).refusal()
    assert "finetuned.safetensors is not a whole safetensors file" in line
    line = wisp("evaluate", tmp_path / "encoder.safetensors", "--data", data, "--encoder", "2x").refusal()
    assert "--encoder chooses among the encoders of a run" in line


def test_export_of_a_twin_learns_from_the_run(wisp: Wisp, trained: tuple[Path, Path, Answer], tmp_path: Path) -> None:
    _, run, _ = trained
    out = tmp_path / "deploy"
    assert wisp("export", run, "--to", "pt2", "--out", out).out == f"{out / 'encoder.pt2'}\n"
    card = json.loads((out / "card.json").read_text())
    assert card["files"] == {"pt2": "encoder.pt2", "card": "card.json"}
    assert card["preprocessing"]["image_size"] == 16
    assert card["checks"]["pt2"]["images"] == "held-out images of the run: thumbnails of 16 px, resized to 16"
