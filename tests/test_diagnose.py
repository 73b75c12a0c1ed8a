"""`wisp diagnose`: of a recorded run everything, of another what it allows, and one line where there is nothing."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from small_methods import small_method
from small_runs import SMALL, Wisp, write_classes
from wisp import training
from wisp.diagnosing import gradients_of
from wisp.evaluate import information as evaluate_information
from wisp.evaluate.information import quantised
from wisp.interference.record import Record, read_record

pytestmark = pytest.mark.usefixtures("here", "quick")

OPTIONS = [*SMALL[:6], "--epochs", "3", "--method.hidden", "16", "--method.out", "16", "--method.widths", "1", "0.5"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_classes(tmp_path_factory.mktemp("pictures") / "classes")
    for path in list(root.glob("*/*.png")):  # enough for a kNN error
        for copy in range(8):
            path.with_name(f"{path.stem}-{copy}.png").write_bytes(path.read_bytes())
    return root


@pytest.fixture(scope="module")
def recorded(wisp: Wisp, quick: None, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run and, beside it as `plain`, the same one without a record."""
    folder = tmp_path_factory.mktemp("runs")
    for name, more in (("recorded", ["--record"]), ("plain", [])):
        words = ["pretrain", "slimclr", "--data", pictures, *OPTIONS, "--out", folder / name, *more]
        assert wisp(*words).code == 0
    return folder / "recorded"


def test_a_record_changes_nothing_of_the_training(recorded: Path) -> None:
    plain = recorded.with_name("plain")
    for name in ("1.0", "0.5"):
        ours, theirs = (run / "exported" / name / "encoder.safetensors" for run in (recorded, plain))
        assert ours.read_bytes() == theirs.read_bytes()
    assert (recorded / "record").is_dir()
    assert not (plain / "record").exists()


def test_scaled_gradients_are_recorded_as_they_are(wisp: Wisp, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in fp16, which needs CUDA: a scale of a power of two, but nothing in half precision."""

    def scaling(**options: object) -> Fabric:
        precision = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=64.0))
        for name, harmless in (("forward_context", contextlib.nullcontext), ("convert_input", lambda data: data)):
            monkeypatch.setattr(precision, name, harmless)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
        fabric.launch()
        return fabric

    words = ["pretrain", "slimclr", "--data", pictures, *OPTIONS, "--precision", "fp32"]
    assert wisp(*words, "--record", "--out", "unscaled").code == 0
    monkeypatch.setattr(training, "fabric_for", scaling)
    assert wisp(*words, "--record", "--out", "scaled").code == 0
    unscaled, scaled = (read_record(Path(out) / "record") for out in ("unscaled", "scaled"))
    assert unscaled is not None
    assert scaled is not None
    assert torch.equal(scaled.norms, unscaled.norms)
    assert torch.equal(scaled.directions, unscaled.directions)
    assert all(torch.equal(scaled.weights[-1][key], value) for key, value in unscaled.weights[-1].items())


def test_of_a_recorded_run_everything_is_drawn(wisp: Wisp, recorded: Path) -> None:
    answer = wisp("diagnose", recorded, "--grid", "3", "--images", "50")
    assert answer.code == 0, answer.err
    plane, *files = answer.out.splitlines()
    assert plane.startswith("information plane, in bits, of ")
    assert files == [str(recorded / "diagnosis.json"), str(recorded / "report.html")]
    found = json.loads((recorded / "diagnosis.json").read_text())
    kinds = {"gradients", "trajectory", "surface", "conditions", "information"}
    assert set(found) == {"schema", "recipe", "commit", "notes"} | kinds
    steps = json.loads((recorded / "result.json").read_text())["budget"]["steps"]
    assert found["gradients"]["steps"] == list(range(steps))
    assert len(found["gradients"]["places"]) == len(found["gradients"]["norms"]) == steps
    assert found["gradients"]["phases"] == [0, math.ceil(steps / 2)]
    assert len(found["gradients"]["cosines"]) == steps - 1
    assert found["trajectory"]["steps"] == [0, steps // 3, 2 * steps // 3, steps]
    assert found["trajectory"]["places"][-1] == [0, 0]
    assert [len(row) for row in found["surface"]["error"]] == [3, 3, 3]
    assert all(0 <= value <= 100 for row in found["surface"]["error"] for value in row)
    assert list(found["conditions"]) == ["0.5"]
    page = (recorded / "report.html").read_text()
    for words in ("Gradients and weights", "rest / smallest", "Gradient directions", "Way of the weights"):
        assert words in page
    assert page.count('class="cell"') == 9
    assert "Could one linear layer serve two widths?" in page


def test_without_a_record_the_widths_are_compared(wisp: Wisp, recorded: Path) -> None:
    plain = recorded.with_name("plain")
    assert wisp("diagnose", plain).out.startswith("left out: it was trained without --record\n")
    found = json.loads((plain / "diagnosis.json").read_text())
    assert set(found) == {"schema", "recipe", "commit", "conditions", "information", "notes"}
    assert found["notes"] == ["it was trained without --record"]


def test_a_run_of_one_network_without_a_record_has_its_place_in_the_information_plane(
    wisp: Wisp, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wisp("pretrain", "xd", "--data", pictures, *SMALL, "--out", "dense").code == 0
    assert wisp("diagnose", "dense").out.splitlines()[:2] == [
        "left out: it was trained without --record",
        "left out: it has no narrow networks, of which a linear layer would read the first features",
    ]
    found = json.loads(Path("dense/diagnosis.json").read_text())
    assert set(found) == {"schema", "recipe", "commit", "information", "notes"}
    page = Path("dense/report.html").read_text()
    assert "Information plane" in page
    assert "Gradients and weights" not in page
    Path("dense/diagnosis.json").unlink()

    def diverged(features: torch.Tensor) -> torch.Tensor:
        return quantised(features * math.nan)

    monkeypatch.setattr(evaluate_information, "quantised", diverged)
    line = wisp("diagnose", "dense").refusal()
    assert line.startswith("dense has nothing to diagnose: it was trained without --record; it has no narrow networks")
    assert line.endswith("; the encoder gives non-finite features, which have no place in the information plane")
    assert not Path("dense/diagnosis.json").exists()


def test_every_kept_epoch_of_every_width_has_a_place(wisp: Wisp, recorded: Path) -> None:
    """The last one is the exported encoder's, with a record and without one, and the first the untrained one's."""
    plain = recorded.with_name("plain")
    for folder in (recorded, plain):
        assert wisp("diagnose", folder, "--grid", "0").code == 0
    found, alone = (json.loads((folder / "diagnosis.json").read_text())["information"] for folder in (recorded, plain))
    steps = json.loads((recorded / "result.json").read_text())["budget"]["steps"]
    assert list(found["ways"]) == list(alone["ways"]) == ["1.0", "0.5"]
    for name, way in found["ways"].items():
        assert [point["step"] for point in way] == [0, steps // 3, 2 * steps // 3, steps]
        assert alone["ways"][name] == way[-1:]
        for point in way:
            assert 0 < point["image"] <= found["ceiling"] + 1e-9
            assert 0 <= point["label"] <= min(point["image"], found["label_entropy"]) + 1e-9
            assert 0 < point["chance"] < found["label_entropy"]
    assert found["ways"]["1.0"] != found["ways"]["0.5"]
    assert len({point["image"] for point in found["ways"]["0.5"]}) > 1, "the narrow network moves too"


def test_an_older_record_has_the_last_place_of_the_narrow_widths(wisp: Wisp, recorded: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(recorded, tmp_path / "copy")
    for path in (copy / "record").glob("others-*"):
        path.unlink()
    assert wisp("diagnose", copy, "--grid", "0").code == 0
    ways = json.loads((copy / "diagnosis.json").read_text())["information"]["ways"]
    assert [len(ways[name]) for name in ("1.0", "0.5")] == [4, 1]


def test_a_host_that_is_no_prefix_has_gradients_and_no_condition(wisp: Wisp, pictures: Path) -> None:
    words = ["pretrain", "sacl_xd", "--data", pictures, *SMALL, "--method.width", "1", "--record", "--out", "host"]
    assert wisp(*words).code == 0
    assert wisp("diagnose", "host", "--grid", "0").code == 0
    found = json.loads(Path("host/diagnosis.json").read_text())
    assert {"gradients", "trajectory"} < set(found)
    assert "conditions" not in found
    assert [point["step"] for point in found["information"]["ways"]["1x"]] == found["trajectory"]["steps"]


def test_one_epoch_without_labels_has_its_norms(wisp: Wisp, pictures: Path) -> None:
    for number, path in enumerate(sorted(pictures.glob("*/*.png"))[:24]):
        Path("plain").mkdir(exist_ok=True)
        Path("plain", f"{number}.png").write_bytes(path.read_bytes())
    words = ["pretrain", "xd", "--data", "plain", *SMALL, "--epochs", "1", "--record", "--out", "short"]
    assert wisp(*words).code == 0
    answer = wisp("diagnose", "short")
    assert answer.out.count("left out: ") == 3, answer.out
    assert "left out: without labels the information plane has no I(T;Y)\n" in answer.out
    assert "span no plane, those of two epochs or more do" in answer.out
    found = json.loads(Path("short/diagnosis.json").read_text())
    assert len(found["gradients"]["norms"]) == 3
    assert not found["gradients"]["shared"]
    plane = found["information"]
    assert plane["images"] == 24
    assert plane["label_entropy"] is None
    assert [point["label"] for point in plane["ways"]["1x"]] == [None, None]
    assert "I(T;Y)" not in answer.out.splitlines()[-3]
    assert "without labels there is no I(T;Y)." in Path("short/report.html").read_text()
    assert "a quarter of its channels stands for the smallest" in Path("short/report.html").read_text()


def test_gradients_are_told_as_they_were() -> None:
    directions = torch.tensor([[1.0, 0, 0], [1, 1, 0], [-1, -1, 0], [0, 0, 2]])
    norms = torch.tensor([[3.0, 2, 1]] * 4)
    record = Record([0, 1, 2, 4], norms, directions, [0, 5], [{}, {}], 0.25)
    told = gradients_of(record, small_method("slimclr"), 5)
    assert told["cosines"] == pytest.approx([0.5**0.5, -1, 0], abs=1e-6)
    assert told["phases"] == [0, 3], "the loop's first step that is half of the training"
    assert told["norms"] == [[3, 2, 1]] * 4
    assert told["shared"]
    places = torch.tensor(told["places"])
    assert places.mean(0).tolist() == pytest.approx([0, 0], abs=1e-6)
    exact = (directions - directions.mean(0)).double()
    variances = torch.linalg.svdvals(exact)[:2] ** 2
    assert places.double().square().sum(0).tolist() == pytest.approx(variances.tolist(), rel=1e-5)
    assert told["explained"] == pytest.approx((variances / exact.square().sum()).tolist(), rel=1e-5)


def test_what_cannot_be_diagnosed_is_one_line(wisp: Wisp, recorded: Path) -> None:
    assert "no finished run" in wisp("diagnose", "nowhere").refusal()
    assert "3 to 51 points a side" in wisp("diagnose", recorded, "--grid", "2").refusal()
    assert "needs 50 or more" in wisp("diagnose", recorded, "--images", "5").refusal()
    assert "diagnose what?" in wisp("diagnose").refusal()


def test_a_damaged_record_is_named(wisp: Wisp, recorded: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(recorded, tmp_path / "copy")
    next((copy / "record").glob("weights-*")).write_bytes(b"no tensors")
    assert "holds a damaged record" in wisp("diagnose", copy, "--grid", "0").refusal()


def test_an_encoder_that_cannot_be_recorded_is_refused_before_anything_is_written(wisp: Wisp, pictures: Path) -> None:
    words = ["pretrain", "xd", "--data", pictures, *SMALL, "--model", "resnest14d", "--image-size", "64", "--record"]
    line = wisp(*words, "--out", "run").refusal()
    assert line.endswith("--record looks at a quarter of the channels: leave it out")
    assert not Path("run").exists()
