"""The ONNX twin agrees with its encoder on any batch, or is not written."""

import errno
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn

import wisp.export.onnx as module
from wisp.errors import WispError
from wisp.export.onnx import export_onnx, missing_extra

IMAGES = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class _Toy(nn.Module):
    """Large outputs, so that the relative part of the tolerance counts."""

    def __init__(self, scale: float = 1000.0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.drop(self.norm(self.conv(images)).mean((2, 3)) * self.scale)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("toy") / "x.onnx"
    encoder = _Toy().train()
    found = export_onnx(encoder, IMAGES, path)
    assert found is not None
    with torch.no_grad():
        assert found["tolerance"] == pytest.approx(1e-4 * float(encoder.eval()(IMAGES).abs().max()))
    return path.read_bytes()


def test_a_timm_network_agrees_on_any_batch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    encoder = timm.create_model("test_resnet", num_classes=0).to(memory_format=torch.channels_last).train()
    found = export_onnx(encoder, IMAGES, tmp_path / "encoder.onnx")
    assert found is not None
    assert found["max_difference"] <= found["tolerance"] < 1e-3
    assert encoder.training
    session = onnxruntime.InferenceSession(tmp_path / "encoder.onnx", providers=["CPUExecutionProvider"])
    assert [(value.name, value.shape[1:]) for value in session.get_inputs()] == [("images", [3, 32, 32])]
    assert [value.name for value in session.get_outputs()] == ["features"]
    for batch in (1, 5):
        with torch.no_grad():
            wanted = encoder.eval()(IMAGES[:batch]).numpy()
        got = session.run(None, {"images": IMAGES[:batch].numpy()})[0]
        assert got.shape == wanted.shape
        assert abs(got - wanted).max() <= found["tolerance"]
    assert capfd.readouterr() == ("", "")


def test_one_quiet_file_without_paths(toy: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    export_onnx(_Toy(), IMAGES, tmp_path / "x.onnx")
    content = (tmp_path / "x.onnx").read_bytes()
    assert content == toy
    assert [path.name for path in tmp_path.iterdir()] == ["x.onnx"]
    for place in (torch.__file__, onnx.__file__, __file__):
        assert os.fsencode(Path(place).parent) not in content
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_a_twin_that_differs_is_not_written(
    toy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    def spoil(network: nn.Module, *_: object) -> bytes:
        network.norm.bias.data[0] += error
        return toy

    torch.manual_seed(0)
    encoder = _Toy()
    monkeypatch.setattr(module, "_translate", lambda *_: toy)
    assert export_onnx(encoder, IMAGES, tmp_path / "right.onnx") is not None
    monkeypatch.setattr(module, "_translate", spoil)
    with pytest.raises(WispError, match="no ONNX twin was written: it differs from the encoder by"):
        export_onnx(encoder, IMAGES, tmp_path / "wrong.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


def test_what_onnx_cannot_express_is_one_line(tmp_path: Path) -> None:
    class Branching(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))

    with pytest.raises(WispError, match="ONNX cannot express this encoder") as found:
        export_onnx(Branching(), IMAGES, tmp_path / "x.onnx")
    assert "\n" not in str(found.value)
    assert "\x1b" not in str(found.value), "torch colours its messages"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["import", "session", "run"])
def test_what_onnxruntime_refuses_is_one_line(
    part: str, toy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own errors have a class of their own, and a failing twin must not cost a training its receipt."""

    class Refusing:
        def __init__(self, *_: object, **__: object) -> None:
            if part == "session":
                onnxruntime_session(b"no model", providers=["CPUExecutionProvider"])

        def run(self, *_: object) -> None:
            raise NotImplementedError("no kernel for Hardswish(22)\nand more")

    onnxruntime_session = onnxruntime.InferenceSession
    monkeypatch.setattr(module, "_translate", lambda *_: toy)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Refusing)
    if part == "import":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as where its libraries do not fit this machine
    monkeypatch.setattr(module, "missing_extra", lambda: None)
    (tmp_path / "x.onnx").write_bytes(b"an earlier one")
    with pytest.raises(WispError, match=r"onnxruntime cannot run the ONNX twin of this encoder \(.+\); use") as found:
        export_onnx(_Toy(), IMAGES, tmp_path / "x.onnx")
    assert "\n" not in str(found.value)
    assert str(found.value).endswith("use encoder.safetensors")
    assert (tmp_path / "x.onnx").read_bytes() == b"an earlier one"


def test_a_model_too_large_for_one_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serialise(deterministic: bool) -> bytes:
        raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB: 3221225613")

    huge = SimpleNamespace(model_proto=SimpleNamespace(SerializeToString=serialise))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: huge)
    monkeypatch.setattr(module, "_strip", lambda model: None)
    with pytest.raises(WispError, match=r"size of 2GB: 3221225613\); use encoder\.safetensors"):
        export_onnx(_Toy(), IMAGES, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_as_one(toy: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    torch.manual_seed(0)
    encoder = _Toy()
    monkeypatch.setattr(module, "_translate", lambda *_: toy)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WispError, match=r"^cannot write .*x\.onnx: No space left on device; what was complete"):
        export_onnx(encoder, IMAGES, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_nothing_is_written_and_a_line_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert missing_extra() is None
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    assert export_onnx(_Toy(), IMAGES, tmp_path / "x.onnx") is None
    assert not list(tmp_path.iterdir())
    line = missing_extra()
    assert line is not None
    assert "onnxruntime not installed; pip install -e '.[onnx]'" in line
