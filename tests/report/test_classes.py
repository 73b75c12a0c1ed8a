"""A run with a classifier leads with it: its accuracy, that of every class, its teacher's, and its loading lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wisp.evaluate.answers import Answers
from wisp.report.page import write_report

NAMES = ["ant", "bee", "cat"]
LABELS = [0] * 10 + [1] * 10 + [2] * 10
GIVEN = [0] * 9 + [2] + [1] * 5 + [2] * 5 + [2] * 10
TEACHER = [0] * 10 + [1] * 9 + [2] + [2] * 10


def told(given: list[int], labels: list[int], names: list[str]) -> dict[str, Any]:
    answers = Answers(torch.tensor(given), torch.tensor(labels))
    return {"top1": answers.top1, "answers": answers.told(names)}


def with_classifier(folder: Path, mine: dict[str, Any], teacher: dict[str, Any] | None = None) -> Path:
    """Adds a classifier to a run of `run_folder`: to its receipt, its monitor and what it exported."""
    result = json.loads((folder / "result.json").read_text())
    result["encoders"]["1x"]["classifier"] = {**mine, "files": {}}
    if teacher is not None:
        result["teacher"] = {"origin": "resnet18 by supervised", "classifier": "own", **teacher}
    (folder / "result.json").write_text(json.dumps(result))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["kind"] == "epoch":
            row["top1"] = {"1x": 40.0 + row["epoch"]} if row["knn"] else None
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = folder / "exported" / "1x" / "classifier"
    place.mkdir(parents=True)
    card = {
        "schema": 1,
        "name": "1x",
        "kind": "classifier",
        "classes": NAMES,
        "preprocessing": {"image_size": 32, "crop_pct": 0.875},
        "files": {"safetensors": "classifier.safetensors", "onnx": "classifier.onnx"},
        "load": ["classifier = the_lines_of_its_card()"],
    }
    (place / "card.json").write_text(json.dumps(card))
    return folder


def text_of(folder: Path) -> str:
    """What a reader sees, a line for every element."""
    page = write_report(folder, None, folder / "report.html").read_text(encoding="utf-8")
    body = page.partition("<body>")[2].replace("\u202f", " ").replace("&#x27;", "'")
    return re.sub(r"\n+", "\n", re.sub(r"</?(b|bdi|wbr|small|i)\b[^>]*>", "", body).replace("<", "\n<"))


def words(folder: Path) -> str:
    return re.sub(r"\s*<[^>]*>\s*", "|", text_of(folder))


@pytest.fixture
def run(run_folder: Callable[..., Path]) -> Path:
    return with_classifier(run_folder(epochs=4), told(GIVEN, LABELS, NAMES), told(TEACHER, LABELS, NAMES))


def test_top1_comes_first_beside_guessing_and_the_teacher(run: Path) -> None:
    said = words(run)
    assert "of held-out images; its teacher, resnet18 by supervised, that of 96.7 %." in said
    cards = re.findall(r'class="score">\s*<h3>([^<\n]+)', text_of(run))
    assert cards == ["top-1", "kNN-20", "kNN-200", "linear"]
    assert "guessing 33.3 % · teacher resnet18 by supervised 96.7 %" in said
    assert "Warning:" not in said


def test_every_class_worst_first_and_the_confused_pairs(run: Path) -> None:
    said = words(run)
    assert said.index("Class by class") < said.index("What it finds alike")
    assert (
        "24 of 30 held-out images got the right name. Its teacher, resnet18 by supervised, knows 29 of the same."
        in said
    )
    rows = re.findall(r"\|(ant|bee|cat)\|+(\d+ %)\|+(\d+ of \d+)\|+(\d+ %)", said)
    assert rows == [
        ("bee", "50 %", "5 of 10", "90 %"),
        ("ant", "90 %", "9 of 10", "100 %"),
        ("cat", "100 %", "10 of 10", "100 %"),
    ]
    assert re.findall(r"\|(\w+ taken for \w+)\|+(\d+ of \d+)", said) == [
        ("bee taken for cat", "5 of 10"),
        ("ant taken for cat", "1 of 10"),
    ]


def test_its_way_is_a_curve_with_the_teacher_beside_it(run: Path) -> None:
    said = words(run)
    assert "Top-1 of the classifier" in said
    assert "top-1 against cost" in said
    receipt = json.loads((run / "result.json").read_text())
    del receipt["teacher"], receipt["encoders"]["1x"]["classifier"]["answers"]
    (run / "result.json").write_text(json.dumps(receipt))
    rows = (run / "metrics.jsonl").read_text().replace('"top1"', '"other"')
    (run / "metrics.jsonl").write_text(rows)
    old = words(run)
    assert "Top-1 of the classifier" not in old, "one point is no curve"
    assert "Class by class" not in old
    assert "The exported classifier names the class of 80.0 % of held-out images." in old


def test_the_classifier_s_lines_lead_and_onnx_has_its_own(run: Path) -> None:
    said = text_of(run).partition("Take it with you")[2]
    places = [said.index(word) for word in ("exported/1x/classifier", "the_lines_of_its_card", "exported/1x\n")]
    assert places == sorted(places)
    assert "onnxruntime.InferenceSession('classifier.onnx')" in said
    assert "json.load(open('card.json', encoding='utf-8'))['classes']" in said
    assert "the short side at 37 pixels (32 if it has 64 or less)" in said


@pytest.mark.parametrize(("given", "warns"), [([0] * 30, True), ([0] * 14 + [1] * 16, False)])
def test_no_better_than_not_looking_is_said(run_folder: Callable[..., Path], given: list[int], warns: bool) -> None:
    labels = [0] * 14 + [1] * 16
    folder = with_classifier(run_folder(epochs=2), told(given, labels, NAMES[:2]))
    assert ("no more than without looking at them (always bee: 16)." in words(folder)) == warns


def test_of_many_classes_the_ten_worst(run_folder: Callable[..., Path]) -> None:
    names = [f"kind {number}" for number in range(40)]
    labels = [number for number in range(40) for _ in range(4)]
    given = [(label + 1) % 40 if place % 4 <= label // 10 else label for place, label in enumerate(labels)]
    said = words(with_classifier(run_folder(epochs=2), told(given, labels, names)))
    assert "The 10 worst of 40 classes" in said
    assert re.findall(r"\|(kind \d+)\|+\d+ %\|", said) == [f"kind {number}" for number in range(30, 40)]
    assert len(re.findall(r"taken for", said)) == 10


def test_names_stay_text(run_folder: Callable[..., Path]) -> None:
    bad = "<script>document.title='pwned'</script>"
    folder = with_classifier(run_folder(epochs=2), told([1] * 9 + [0], [0] * 10, [bad, f"b {bad}"]))
    page = write_report(folder, None, folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 4


def test_an_unfinished_run_shows_the_monitor_s_top1(run: Path) -> None:
    (run / "result.json").unlink()
    assert "The monitor's top-1 stands at 42.0 %." in words(run)
