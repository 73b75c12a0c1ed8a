"""What Python users call: the file that they name is the one that is meant, and what fails leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from small_runs import write_classes
from wisp import api, evaluating
from wisp.data.plain import plain_batches
from wisp.data.sources import open_source
from wisp.encoders.stock import spec
from wisp.errors import WispError
from wisp.evaluate.linear import Normalise
from wisp.export.card import card, read_card, update_card
from wisp.export.stock import export_encoder
from wisp.files import write_json
from wisp.options import EvaluateOptions
from wisp.report.gallery import Gallery, save_gallery

KIND = spec("test_efficientnet", 32)


def made(run: Path) -> Path:
    """What matters here of a finished run: two encoders, the receipt with their names, the gallery."""
    for seed, name in enumerate(("1x", "2x")):
        torch.manual_seed(seed)
        export_encoder(KIND.build(), KIND, run / "exported" / name, card=card(KIND, name=name))
    write_json(run / "result.json", {"encoders": {"1x": {}, "2x": {}}})
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 24, 24), dtype=np.uint8)
    features = np.random.default_rng(1).normal(size=(20, 5)).astype(np.float32)
    save_gallery(Gallery(images=pixels, features=features, names=[str(k) for k in range(20)]), run / "gallery.npz")
    return run


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    return made(tmp_path_factory.mktemp("shared") / "run")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made(tmp_path / "run")


@pytest.fixture
def finetuned(run: Path) -> Path:
    """Other weights beside those that were exported."""
    torch.manual_seed(5)
    path = run / "exported" / "1x" / "finetuned.safetensors"
    safetensors.torch.save_file(KIND.build().state_dict(), path)
    return path


def features(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))


def test_widths_are_probed_together(shared: Path, classes: Path, finetuned: Path) -> None:
    found = api.evaluate(shared, data=str(classes), protocol="switchable,slimmable")
    assert list(found) == ["switchable 1x", "switchable 2x", "slimmable 1x", "slimmable 2x"]
    assert all(0 <= value <= 100 for value in found.values())
    both = api.evaluate(shared, data=str(classes), protocol="knn,distilled")
    assert {"distilled 1x", "distilled 2x"} < set(both)
    with pytest.raises(WispError, match="leave --encoder out"):
        api.evaluate(shared, data=str(classes), protocol="slimmable", encoder="2x")
    with pytest.raises(WispError, match="no finished run of several encoders"):
        api.evaluate(finetuned, data=str(classes), protocol="switchable")


# the file that is named ----------------------------------------------------------------------------------------------


def test_load_takes_the_file_that_is_named(finetuned: Path) -> None:
    folder = finetuned.parent
    assert torch.equal(features(api.load(folder)), features(api.load(folder / "encoder.safetensors")))
    assert not torch.allclose(features(api.load(finetuned)), features(api.load(folder)))
    fresh = KIND.build().eval()
    fresh.load_state_dict(safetensors.torch.load_file(finetuned))
    assert torch.equal(features(api.load(str(finetuned))), features(fresh))


def test_evaluate_takes_the_file_that_is_named(finetuned: Path, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    real: Callable[[Path], nn.Module] = evaluating.load_encoder
    monkeypatch.setattr(evaluating, "load_encoder", lambda path: asked.append(path) or real(path))
    found = [
        api.evaluate(path, data=str(classes), protocol="knn")
        for path in (finetuned, finetuned.parent, finetuned.parent / "encoder.safetensors")
    ]
    assert asked == [finetuned, finetuned.parent, finetuned.parent / "encoder.safetensors"]
    assert found[1] == found[2]


def test_a_file_that_is_not_there(shared: Path, classes: Path) -> None:
    with pytest.raises(WispError, match="holds no finished run and no exported encoder"):
        api.evaluate(shared / "exported" / "1x" / "tuned.safetensors", data=str(classes))


def test_a_run_is_its_first_encoder_or_the_one_that_is_named(shared: Path) -> None:
    assert api.exported(shared) == shared / "exported" / "1x"
    assert api.exported(shared, "2x") == shared / "exported" / "2x"
    with pytest.raises(WispError, match="has no encoder '3x'; it has 1x, 2x"):
        api.exported(shared, "3x")
    for path in (shared / "exported" / "1x", shared / "exported" / "1x" / "encoder.safetensors"):
        with pytest.raises(WispError, match="--encoder chooses among the encoders of a run"):
            api.exported(path, "2x")


# the linear probe's options ------------------------------------------------------------------------------------------


def test_the_probes_options_reach_it(shared: Path, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[Any] = []
    real = evaluating.linear
    monkeypatch.setattr(evaluating, "linear", lambda *given: results.append(real(*given)) or results[-1])
    api.evaluate(shared, data=str(classes))
    api.evaluate(shared, data=str(classes), protocol="linear", augmented=3, normalise="batchnorm")
    plain, other = results
    assert (plain.augmented, plain.protocol.normalise) == (0, "standardise")
    assert (other.augmented, other.protocol.normalise) == (3, "batchnorm")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"protocol": "knn", "augmented": 2}, "--augmented is for the linear probe alone; leave it out, or add linear"),
        ({"protocol": "knn", "normalise": "none"}, "--normalise is for the linear probe alone; leave it out, or add"),
        ({"augmented": -1}, "--augmented is -1; it must be 0 to 100"),
        ({"augmented": 101}, "--augmented is 101; it must be 0 to 100"),
        ({"normalise": "batch"}, "unknown normalisation 'batch'; nearest: batchnorm, "),
    ],
)
def test_options_that_make_no_sense(shared: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(WispError) as found:
        api.evaluate(shared, data="nowhere", **options)
    assert str(found.value).startswith(line)


def test_the_command_line_knows_every_normalisation() -> None:
    """It spells them out, since it must not import torch."""
    assert get_type_hints(EvaluateOptions)["normalise"] == Normalise


# export --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The images on which a twin was compared; nothing is traced."""
    seen: list[torch.Tensor] = []

    def pretend(network: nn.Module, images: torch.Tensor, path: Path, output: str = "features") -> dict[str, float]:
        assert output == "features"
        seen.append(images)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        return {"max_difference": 0.0, "tolerance": 1e-4}

    monkeypatch.setattr("wisp.export.forms.export_onnx", pretend)
    monkeypatch.setattr("wisp.export.forms.export_program", pretend)
    return seen


def test_a_runs_twin_is_compared_on_its_own_images(run: Path, compared: list[torch.Tensor], tmp_path: Path) -> None:
    assert api.export(run, to="onnx", encoder="2x") == run / "exported" / "2x" / "encoder.onnx"
    told = read_card(run / "exported" / "2x")
    assert told["files"]["onnx"] == "encoder.onnx"
    assert told["checks"]["onnx"]["images"] == "held-out images of the run: thumbnails of 24 px, resized to 32"
    api.export(run / "exported" / "1x", to="pt2", out=str(tmp_path / "out"))
    assert read_card(tmp_path / "out")["checks"]["pt2"]["images"].startswith("held-out images of the run")
    assert torch.equal(*compared)
    assert compared[0].shape == (16, 3, 32, 32)
    assert len({tuple(image.flatten().tolist()) for image in compared[0]}) == 16


def test_its_images_are_prepared_as_the_card_says(tmp_path: Path, compared: list[torch.Tensor]) -> None:
    """At their own size: resized by the evaluation they would be the same."""
    data = open_source(str(write_classes(tmp_path / "data")))
    images = np.stack([data.read(k).numpy() for k in range(16)])
    made(tmp_path / "run")
    gallery = Gallery(images=images, features=np.zeros((16, 2), np.float32), names=["x"] * 16, held_out=False)
    save_gallery(gallery, tmp_path / "run" / "gallery.npz")
    update_card(tmp_path / "run" / "exported" / "1x", preprocessing={"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]})
    api.export(tmp_path / "run", to="onnx")
    told = {"image_size": 32, "mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7), "batch_size": 16}
    wanted = torch.cat(list(plain_batches(data, range(16), left_out=set(), **told)))
    # a thumbnail may be stored as a JPEG
    assert (compared[0] - wanted).abs().mean() < 0.05
    check = read_card(tmp_path / "run" / "exported" / "1x")["checks"]["onnx"]
    assert check["images"] == "training images of the run: thumbnails of 18 px, resized to 32"


def test_far_from_a_run_it_is_noise_and_says_so(run: Path, compared: list[torch.Tensor], tmp_path: Path) -> None:
    api.export(run, out=str(tmp_path / "far"))
    api.export(tmp_path / "far", to="onnx")
    assert read_card(tmp_path / "far")["checks"]["onnx"]["images"] == "noise, because no run with images is near"
    (run / "gallery.npz").unlink()
    api.export(run, to="onnx", out=str(tmp_path / "other"))
    assert torch.equal(*compared)


def test_without_the_extra_no_folder_is_made(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(WispError, match=r"pip install -e '\.\[onnx\]'"):
        api.export(shared, to="onnx", out=str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_export_refuses_a_file(finetuned: Path) -> None:
    with pytest.raises(WispError, match=r"finetuned\.safetensors is a file; name the run or the exported folder"):
        api.export(finetuned, to="onnx")
    assert {path.name for path in finetuned.parent.iterdir()} == {
        "card.json",
        "encoder.safetensors",
        "finetuned.safetensors",
    }
