"""Receipts: rows run through the command line, resume, and leave nothing of this machine in `results/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import noise, receipts
from wisp.errors import WispError
from wisp.methods.barlow_twins import Config
from wisp.run import Run


def options(*words: str) -> Any:
    """What `main` would parse, handed to `planned`."""
    caught: list[Any] = []
    patch = pytest.MonkeyPatch()
    patch.setattr(receipts, "planned", lambda given: caught.append(given) or {})
    patch.setattr(receipts, "collect", lambda *_, **__: [])
    receipts.main(["--out", "runs", *words])
    patch.undo()
    return caught[0]


def test_rows_and_seeds_make_the_plan() -> None:
    plan = receipts.planned(
        options(
            "--recipe", "ablation", "--only", "xd,width-4", "--seeds", "0,2", "--precision", "fp32", "--epochs", "7"
        )
    )
    assert list(plan) == ["xd", "width-4", "xd-s2", "width-4-s2"]
    run = plan["width-4-s2"]
    assert (run.seed, run.epochs, run.precision, run.method.width) == (2, 7, "fp32", 4)
    assert len(receipts.planned(options("--recipe", "sacl_xd_cifar10"))) == 5
    with pytest.raises(WispError, match="sacl_xd-2x"):
        receipts.planned(options("--recipe", "ablation", "--only", "sacl_xd_2x"))


def test_a_recipe_trains_its_teacher_first_unless_another_is_named() -> None:
    recipe = ("--recipe", "disco_bottleneck")
    plan = receipts.planned(options(*recipe, "--seeds", "0,1"))
    names = list(plan)
    assert names[0] == "teacher"
    assert names[names.index("hidden-64-s1") - 1] == "teacher-s1"
    assert plan["hidden-64"].method.teacher == str(Path("runs") / "teacher")
    assert plan["hidden-64-s1"].method.teacher == str(Path("runs") / "teacher-s1")
    named = ("--teacher", "old.th", "--teacher-model", "resnet56_pad", "--teacher-head", "none")
    plan = receipts.planned(options(*recipe, *named, "--seeds", "0,1"))
    assert "teacher" not in plan
    methods = [run.method for run in plan.values()]
    assert {(m.teacher, m.teacher_model, m.teacher_head) for m in methods} == {("old.th", "resnet56_pad", "none")}
    plan = receipts.planned(options("--recipe", "ablation", "--teacher", "old.th", "--only", "xd"))
    assert not hasattr(plan["xd"].method, "teacher")


@pytest.mark.parametrize("words", [("--recipe", "none"), ("--recipe", "ablation", "--only", "none")])
def test_unknown_names_are_one_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        receipts.main(["--out", "runs", *words])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def small(tmp_path: Path, **changes: Any) -> Run[Any]:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    file = data / "noise.parquet"
    if not file.exists():
        noise.noise_parquet(file, 60, side=16, classes=2)
    settings = {"data": str(file), "model": "resnet8", "image_size": 16, "batch_size": 16, "epochs": 1} | changes
    return Run(method=Config(hidden=16, out=24), **settings)


def test_a_row_is_trained_once_and_its_receipt_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, results = tmp_path / "runs", tmp_path / "results" / "small"
    assert receipts.collect({"bt": small(tmp_path)}, out=out, results=results, threads=1) == []
    text = (results / "bt.json").read_text(encoding="utf-8")
    receipt = json.loads(text)
    assert receipt["recipe"]["data"] == "noise.parquet"
    assert receipt["hardware"]["threads"] == 1
    assert str(tmp_path) not in text
    checkpoint = out / "bt" / "checkpoints" / "last.ckpt"
    trained = checkpoint.stat().st_mtime_ns
    (results / "bt.json").unlink()
    capfd.readouterr()
    assert receipts.collect({"bt": small(tmp_path)}, out=out, results=results) == []
    assert "finished" in capfd.readouterr().out
    assert checkpoint.stat().st_mtime_ns == trained
    assert (results / "bt.json").read_text(encoding="utf-8") == text


def test_a_row_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(run: Run[Any], out: Path, threads: int | None) -> int:
        out.mkdir(parents=True)
        (out / "result.json").write_text("{}", encoding="utf-8")
        return 2 if out.name == "broken" else 0

    monkeypatch.setattr(receipts, "train", train)
    rows = {"broken": small(tmp_path), "good": small(tmp_path)}
    assert receipts.collect(rows, out=tmp_path / "runs", results=tmp_path / "kept") == ["broken"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["good.json"]


def test_an_interrupt_stops_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[str] = []

    def train(run: Run[Any], out: Path, threads: int | None) -> int:
        trained.append(out.name)
        return 130

    monkeypatch.setattr(receipts, "train", train)
    with pytest.raises(KeyboardInterrupt):
        receipts.collect({"a": small(tmp_path), "b": small(tmp_path)}, out=tmp_path, results=tmp_path)
    assert trained == ["a"]


@pytest.mark.parametrize("path", ["/home/anna/cifar10", "read ~/photos/x", r"C:\data\x", "file:/scratch/x"])
def test_a_receipt_with_a_path_is_not_kept(path: str, tmp_path: Path) -> None:
    for receipt in ({"recipe": {"data": path}}, {"files": [{"a": path}]}, {path: 1}):
        (tmp_path / "result.json").write_text(json.dumps(receipt), encoding="utf-8")
        with pytest.raises(WispError, match="path of this machine"):
            receipts.keep(tmp_path, tmp_path / "kept.json")
    assert not (tmp_path / "kept.json").exists()


def test_what_is_in_results_names_no_machine() -> None:
    for file in sorted(receipts.RESULTS.rglob("*.json*")):
        lines = [file.read_text(encoding="utf-8")] if file.suffix == ".json" else file.read_text().splitlines()
        for text in (text for line in lines for text in receipts._texts(json.loads(line))):
            assert not receipts._PATH.search(text), f"{file}: {text}"
