"""One more form of an exported encoder, and a card that tells what is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import nn

from wisp.encoders.cifar_resnet import CifarResNet
from wisp.encoders.stock import EncoderSpec, spec
from wisp.errors import WispError
from wisp.evaluate.features import extract
from wisp.export import forms
from wisp.export.card import card, read_card
from wisp.export.forms import write_form
from wisp.export.stock import export_encoder, load_encoder

TIMM = spec("test_efficientnet", 32)
OURS = spec("resnet8", 32)
IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _exported(encoder: nn.Module, kind: EncoderSpec, folder: Path) -> Path:
    export_encoder(encoder, kind, folder, card=card(kind, name="1x", accuracy={"linear": 50.0}))
    return folder


@pytest.fixture(scope="module")
def timm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return _exported(TIMM.build(), TIMM, tmp_path_factory.mktemp("timm"))


@pytest.fixture(scope="module")
def host_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What no call rebuilds."""
    torch.manual_seed(0)
    return _exported(CifarResNet((1, 1, 1), widths=(8, 16, 40)), OURS, tmp_path_factory.mktemp("host"))


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_of_its_own_says_how_to_prepare_images(timm_folder: Path, tmp_path: Path) -> None:
    there = tmp_path / "a" / "b"
    before = (timm_folder / "card.json").read_bytes()
    content = read_card(timm_folder)
    for to, name, kind, word in (
        ("onnx", "encoder.onnx", "onnx", "onnxruntime"),
        ("pt2", "encoder.pt2", "pt2", "torch.export.load"),
        ("timm", "encoder.safetensors", "safetensors", "timm.create_model"),
    ):
        assert write_form(timm_folder, to, there, IMAGES, "noise") == there / name
        told = read_card(there)
        assert told["files"][kind] == name
        assert _names(there) == set(told["files"].values()), "no more and no less"
        assert word in "\n".join(told["load"]), "the best file that is there"
        for key in content.keys() - {"files", "load", "checks"}:
            assert told[key] == content[key]
    for kind in ("onnx", "pt2"):
        assert told["checks"][kind]["images"] == "noise"
        assert told["checks"][kind]["max_difference"] <= told["checks"][kind]["tolerance"]
    assert (there / "encoder.safetensors").read_bytes() == (timm_folder / "encoder.safetensors").read_bytes()
    assert told["load"] == content["load"]
    assert (timm_folder / "card.json").read_bytes() == before


def test_the_lines_of_an_onnx_file_run_without_wisp(
    timm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_form(timm_folder, "onnx", tmp_path / "x", IMAGES, "noise")
    monkeypatch.chdir(tmp_path / "x")
    lines = read_card(tmp_path / "x")["load"]
    assert not any("wisp" in line for line in lines)
    found: dict[str, torch.Tensor] = {}
    exec("\n".join(lines), found)
    assert found["features"].shape == (1, read_card(tmp_path / "x")["features"])


def test_a_folder_with_a_program_alone_loads_and_is_exported_on(timm_folder: Path, tmp_path: Path) -> None:
    write_form(timm_folder, "pt2", tmp_path / "x", IMAGES, "noise")
    wanted = extract(load_encoder(timm_folder), [IMAGES])
    assert torch.allclose(extract(load_encoder(tmp_path / "x"), [IMAGES]), wanted, atol=1e-5)
    write_form(tmp_path / "x", "onnx", tmp_path / "y", IMAGES, "noise")
    session = onnxruntime.InferenceSession(tmp_path / "y" / "encoder.onnx", providers=["CPUExecutionProvider"])
    got = torch.from_numpy(session.run(None, {"images": IMAGES.numpy()})[0])
    assert torch.allclose(got, wanted, atol=1e-4)
    with pytest.raises(WispError, match=r"encoder\.pt2 does not exist; wisp export RUN --to pt2 makes it"):
        load_encoder(tmp_path / "y")
    with pytest.raises(WispError, match=r"holds no encoder\.safetensors; name the run"):
        write_form(tmp_path / "x", "timm", tmp_path / "z", IMAGES, "noise")
    assert not (tmp_path / "z").exists()


def test_the_exported_folder_itself_learns_of_the_file(timm_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "x"
    shutil.copytree(timm_folder, folder)
    before = read_card(folder)
    assert write_form(folder, "timm", folder, IMAGES, "noise") == folder / "encoder.safetensors"
    assert read_card(folder) == before
    write_form(folder, "onnx", tmp_path / "." / "x", IMAGES, "four real photos")
    after = read_card(folder)
    assert after["files"] == {**before["files"], "onnx": "encoder.onnx"}
    assert after["checks"]["onnx"]["images"] == "four real photos"
    assert {**after, "files": 0, "checks": 0} == {**before, "files": 0, "checks": 0}


def test_a_host_that_nothing_rebuilds(host_folder: Path, tmp_path: Path) -> None:
    for to in ("onnx", "pt2"):
        assert write_form(host_folder, to, tmp_path / "x", IMAGES, "noise").is_file()
    assert "torch.export.load" in "\n".join(read_card(tmp_path / "x")["load"])
    with pytest.raises(WispError, match="timm cannot build resnet8 as trained; use --to pt2 or onnx"):
        write_form(host_folder, "timm", tmp_path / "y", IMAGES, "noise")
    assert not (tmp_path / "y").exists()


def test_another_encoders_folder_is_left_alone(timm_folder: Path, host_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(host_folder, tmp_path / "x")
    before = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    with pytest.raises(WispError, match=r"x holds another encoder; name another folder"):
        write_form(timm_folder, "timm", tmp_path / "x", IMAGES, "noise")
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == before


@pytest.mark.parametrize("to", ["onnx", "pt2"])
def test_what_fails_leaves_nothing_behind(
    to: str, timm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(nn.Module):
        """Another encoder than the traced one, by the time they are compared."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network, self.calls = network, 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.network(images) + self.calls

    monkeypatch.setattr(forms, "standalone", lambda network: Other(network).eval())
    with pytest.raises(WispError, match="it differs from the encoder"):
        write_form(timm_folder, to, tmp_path / "x", IMAGES, "noise")
    assert not (tmp_path / "x").exists()


def test_a_file_in_the_place_of_the_folder(timm_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"mine")
    with pytest.raises(WispError, match="cannot write"):
        write_form(timm_folder, "timm", tmp_path / "x", IMAGES, "noise")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_weights_are_copied_whole_or_not_at_all(
    timm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WispError, match=r"cannot write .*encoder\.safetensors: No space left on device"):
        write_form(timm_folder, "timm", tmp_path / "x", IMAGES, "noise")
    assert not list((tmp_path / "x").iterdir())


def test_the_weights_are_checked_before_they_are_passed_on(timm_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(timm_folder, tmp_path / "x")
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "x" / "encoder.safetensors")
    with pytest.raises(WispError, match="does not fit its encoder"):
        write_form(tmp_path / "x", "timm", tmp_path / "y", IMAGES, "noise")
    assert not (tmp_path / "y").exists()
