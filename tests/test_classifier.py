"""A run with labels ends with a classifier that anybody can load: weights, ONNX twin, and the names of its classes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from small_runs import Wisp, write_classes
from wisp import api
from wisp.data.sources import labels_of, open_source
from wisp.dividing import sources
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner
from wisp.evaluating import numbers
from wisp.files import read_json
from wisp.run import from_json


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, wisp: Wisp) -> Path:
    root = tmp_path_factory.mktemp("labelled")
    data = write_classes(root / "animals", side=36)
    words = ["--model", "test_efficientnet", "--image-size", "32", "--batch-size", "8", "--epochs", "2"]
    answer = wisp("pretrain", "supervised", "--data", data, *words, "--out", root / "run")
    assert answer.code == 0, answer.err
    (root / "run" / "said.txt").write_text(answer.out, encoding="utf-8")
    return root / "run"


def prepared(folder: Path) -> dict[str, Any]:
    """How its card says that images are to be prepared."""
    told = read_json(folder / "card.json")["preprocessing"]
    return {key: told[key] for key in ("image_size", "mean", "std")}


def test_its_card_names_the_classes_and_how_good_it_is(run: Path) -> None:
    folder = run / "exported" / "1x" / "classifier"
    card = read_json(folder / "card.json")
    assert (card["kind"], card["classes"], card["features"]) == ("classifier", ["a", "b"], 2)
    assert card["build"]["kwargs"]["num_classes"] == 2
    entry = read_json(run / "result.json")["encoders"]["1x"]["classifier"]
    assert card["accuracy"] == {"top1": entry["top1"]}
    assert {path.name for path in folder.iterdir()} == set(card["files"].values()) == set(entry["files"].values())
    assert set(card["files"]) == {"safetensors", "onnx", "card"}
    assert entry["onnx"]["max_difference"] <= entry["onnx"]["tolerance"]


def test_its_lines_load_it_where_wisp_is_not(run: Path) -> None:
    """And what they load is the encoder with the trained classifier on top."""
    folder = run / "exported" / "1x" / "classifier"
    lines = read_json(folder / "card.json")["load"]
    given = ["import torch", "torch.manual_seed(0)", "print(classifier(torch.randn(4, 3, 32, 32)).tolist())"]
    code = "\n".join(["import sys", "sys.modules['wisp'] = None", *lines, *given])
    said = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    torch.manual_seed(0)
    with torch.no_grad():
        logits = api.load(folder).eval()(torch.randn(4, 3, 32, 32))
    assert torch.allclose(torch.tensor(json.loads(said)), logits, atol=1e-5)


def test_its_accuracy_is_that_of_the_exported_network(run: Path) -> None:
    _, neighbours, questions = sources(from_json((run / "run.json").read_text(encoding="utf-8"), "run.json"))
    told = prepared(run / "exported" / "1x" / "classifier")
    examiner = Examiner(neighbours, questions, **told, device=torch.device("cpu"), batch_size=8)
    top1 = examiner.answers(api.load(run / "exported" / "1x" / "classifier")).top1
    assert top1 == read_json(run / "result.json")["encoders"]["1x"]["classifier"]["top1"]


def test_the_screen_and_the_report_show_it(run: Path) -> None:
    said = (run / "said.txt").read_text(encoding="utf-8")
    assert "\n                    top-1   kNN-" in said
    top1 = read_json(run / "result.json")["encoders"]["1x"]["classifier"]["top1"]
    assert f"\n      1x trained{top1:>9.2f}" in said
    assert said.index("1x, to name classes: ") < said.index(f"1x: {run / 'exported' / '1x'}")
    log = (run / "train.log").read_text(encoding="utf-8")
    assert re.search(r"epoch 1 of 2: loss [\d.]+  top-1 [\d.]+ \(1x\)  kNN-\d+", log)
    assert f"  1x: top-1 {top1:.2f}, kNN-" in log
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "of held-out images." in page
    assert "exported/1x/classifier" in page
    assert "classifier = timm.create_model(" in page.replace("&#x27;", "'")
    assert "top-1" in api.compare([run], run / "comparison.html")


def test_the_lines_on_the_screen_run_where_the_user_stands(run: Path) -> None:
    """The last ones, pasted as they are; they load the classifier and its names."""
    said = (run / "said.txt").read_text(encoding="utf-8")
    lines = said.partition(f"report: {run / 'report.html'}\n")[2]
    code = f"{lines}\nimport torch\nprint(classes, classifier(torch.zeros(1, 3, 32, 32)).shape)"
    done = subprocess.run([sys.executable, "-c", code], cwd=run.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "['a', 'b'] torch.Size([1, 2])\n"


def test_its_receipt_counts_every_class(run: Path) -> None:
    entry = read_json(run / "result.json")["encoders"]["1x"]["classifier"]
    told = entry["answers"]
    assert entry["top1"] == 100 * told["right"] / told["questions"]
    assert sum(row["questions"] for row in told["by_class"]) == told["questions"]
    assert sum(row["right"] for row in told["by_class"]) == told["right"]
    assert {row["class"] for row in told["by_class"]} == {"a", "b"}
    assert sum(pair["images"] for pair in told["confused"]) == told["questions"] - told["right"]


def test_its_twin_is_made_again_on_images_of_the_run(run: Path) -> None:
    folder = run / "exported" / "1x" / "classifier"
    assert api.export(folder, to="onnx") == folder / "classifier.onnx"
    assert read_json(folder / "card.json")["checks"]["onnx"]["images"].startswith("held-out images of the run")


def test_it_is_asked_about_other_images(run: Path, wisp: Wisp, tmp_path: Path) -> None:
    """By the names of their classes, which need not be all or in its order."""
    folder, data = run / "exported" / "1x" / "classifier", run.parent / "animals"
    receipt = read_json(run / "result.json")["encoders"]["1x"]
    assert api.evaluate(folder, data=str(data)) == {"top-1": receipt["classifier"]["top1"]}
    both = api.evaluate(run, data=str(data), protocol="knn,top1")
    by_knn = {f"kNN-{k}": value for k, value in receipt["knn"].items()}
    assert both == {**by_knn, "top-1": receipt["classifier"]["top1"]}
    shutil.copytree(data, tmp_path / "new")
    alone = api.evaluate(folder, val=str(tmp_path / "new"))["top-1"]
    source = open_source(str(tmp_path / "new"))
    examiner = Examiner(None, source, **prepared(folder), device=torch.device("cpu"), batch_size=8)
    logits, _ = examiner.features(api.load(folder), source, range(len(source)))
    assert alone == pytest.approx(float((logits.argmax(1) == torch.tensor(labels_of(source))).float().mean()) * 100)
    assert numbers(["c", "b", "a"], source) == [2, 1]
    with pytest.raises(WispError, match="two classes are called a; rename one"):
        numbers(["a", "b", "a"], source)
    (tmp_path / "new" / "b").rename(tmp_path / "new" / "c")
    line = wisp("evaluate", folder, "--val", tmp_path / "new").refusal()
    assert line.endswith("leave their images out, or rename the class as one of those it knows: a, b")


def test_a_run_with_a_classifier_is_asked_for_it(run: Path, wisp: Wisp, tmp_path: Path) -> None:
    answer = wisp("evaluate", run, "--val", run.parent / "animals")
    assert answer.out == wisp("evaluate", run / "exported" / "1x" / "classifier", "--val", run.parent / "animals").out
    images = len([*(run.parent / "animals").glob("*/*")])
    assert answer.out.split()[0] == "top-1"
    assert answer.err == f"wisp: images asked about: {images}; classes: 2, of which the largest has 50.00 % of them\n"


def test_nobody_is_asked_about_what_cannot_be_read(run: Path, wisp: Wisp, tmp_path: Path) -> None:
    data = tmp_path / "animals"
    shutil.copytree(run.parent / "animals", data)
    for other in (data / "a").iterdir():
        other.unlink()
    torn, good, *others = sorted((data / "b").iterdir())
    for other in others:
        other.unlink()
    torn.write_bytes(b"")
    shutil.copy(good, data / "a" / "same.png")  # one of the two is known: where b's counted twice, it would be a third
    answer = wisp("evaluate", run, "--val", data)
    assert answer.code == 0
    assert answer.out.split()[1] == "50.00", "of two images: nothing is asked twice"
    asked, left_out = answer.err.splitlines()
    assert asked == "wisp: images asked about: 2; classes: 2, of which the largest has 50.00 % of them"
    assert left_out == f"wisp: 1 left out that cannot be read: b/{torn.name}: empty file"
    (data / "a" / "same.png").write_bytes(b"")
    told = wisp("evaluate", run, "--val", data).err.splitlines()[0]
    assert told.endswith(
        ": 1; classes: 1, of which the largest has 100.00 % of them; none is of a, which the classifier knows"
    )


def test_it_tells_what_the_accuracies_are_of(run: Path, wisp: Wisp, tmp_path: Path) -> None:
    """Whatever cannot be read of the training images: they are others."""
    data, val = tmp_path / "animals", tmp_path / "val"
    for copy in (data, val):
        shutil.copytree(run.parent / "animals", copy)
    for other in sorted((val / "a").iterdir())[4:]:
        other.unlink()
    for number, path in enumerate(sorted(val.rglob("*.png"))):
        path.write_bytes(path.read_bytes() + bytes([number]))  # other images than those of --data
    sorted((data / "a").iterdir())[0].write_bytes(b"")
    told = wisp("evaluate", run, "--data", data, "--val", val, "--protocol", "knn").err.splitlines()
    assert told[0] == "wisp: images asked about: 16; classes: 2, of which the largest has 75.00 % of them"
    assert len(told) == 2


def test_what_it_is_not_asked(run: Path, wisp: Wisp) -> None:
    folder, data = run / "exported" / "1x" / "classifier", run.parent / "animals"
    line = wisp("evaluate", folder, "--data", data, "--protocol", "knn").refusal()
    assert line.endswith("holds a classifier, which has --protocol top1; the others are for an encoder's folder")
    line = wisp("evaluate", run, "--val", data, "--protocol", "knn").refusal()
    assert "--val alone is enough for --protocol top1 only" in line
    file = folder.parent / "encoder.safetensors"
    line = wisp("evaluate", file, "--data", data, "--protocol", "top1").refusal()
    assert "has no classifier beside it; methods that need labels train one" in line
