"""A program runs any batch, and one that disagrees or cannot be run is not written."""

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.errors import WispError
from wisp.export.onnx import export_onnx
from wisp.export.program import Program, export_program, load_program
from wisp.export.stock import standalone

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class _Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))


class _Forgetful(nn.Module):
    """Computes something else each time it is called; a program keeps what it saw while it was traced."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.mean((2, 3)) + self.calls


def test_any_batch_runs(tmp_path: Path) -> None:
    network = resnet8().eval()
    export_program(network, IMAGES, tmp_path / "x.pt2")
    program = load_program(tmp_path / "x.pt2")
    for batch in (1, 2, 7):
        images = torch.randn(batch, 3, 16, 16)
        assert torch.allclose(program(images), network(images), atol=1e-6)


def test_the_same_bytes_every_time(tmp_path: Path) -> None:
    network = resnet8().eval()
    for name in ("a.pt2", "b.pt2"):
        export_program(network, IMAGES, tmp_path / name)
    assert (tmp_path / "a.pt2").read_bytes() == (tmp_path / "b.pt2").read_bytes()


def test_what_cannot_be_traced_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"torch\.export cannot trace this encoder") as found:
        export_program(_Branching(), IMAGES, tmp_path / "x.pt2")
    assert "\n" not in str(found.value)
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"no x\.pt2 was written: it differs from the encoder by 1\.0e\+00, more than"):
        export_program(_Forgetful().eval(), IMAGES, tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_a_good_program_outlives_one_that_differs(tmp_path: Path) -> None:
    path = tmp_path / "x.pt2"
    export_program(resnet8().eval(), IMAGES, path)
    good = path.read_bytes()
    with pytest.raises(WispError, match="it differs from the encoder"):
        export_program(_Forgetful().eval(), IMAGES, path)
    assert path.read_bytes() == good
    assert [file.name for file in tmp_path.iterdir()] == ["x.pt2"]


def test_how_well_they_agree(tmp_path: Path) -> None:
    network = resnet8().eval()
    found = export_program(network, IMAGES, tmp_path / "x.pt2")
    with torch.no_grad():
        assert found["tolerance"] == pytest.approx(1e-5 * max(1.0, float(network(IMAGES).abs().max())))
    assert 0 <= found["max_difference"] <= found["tolerance"]


class _Unrunnable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise RuntimeError("an operator is missing\nand a long trace")


@pytest.mark.parametrize("part", ["save", "load", "run"])
def test_what_goes_wrong_after_the_trace_is_one_line(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        _Unrunnable()(IMAGES)

    def unrunnable(_: object) -> Program:
        return Program(_Unrunnable())

    if part == "run":
        monkeypatch.setattr("wisp.export.program._loaded", unrunnable)
    else:
        monkeypatch.setattr(torch.export, part, fail)
    with pytest.raises(WispError) as found:
        export_program(resnet8().eval(), IMAGES, tmp_path / "x.pt2")
    assert str(found.value) == (
        "torch cannot run the program of this encoder (an operator is missing); use encoder.safetensors"
    )
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WispError, match=r"^cannot write .*x\.pt2: No space left on device; what was complete"):
        export_program(resnet8().eval(), IMAGES, tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_a_loaded_program_can_be_exported_again(tmp_path: Path) -> None:
    """What no call rebuilds (a dense host) is there as a program only."""
    network = resnet8().eval()
    export_program(network, IMAGES, tmp_path / "x.pt2")
    program = load_program(tmp_path / "x.pt2")
    assert set(program.network.state_dict()) == set(network.state_dict())
    export_program(standalone(program), IMAGES, tmp_path / "again.pt2")
    assert torch.allclose(load_program(tmp_path / "again.pt2")(IMAGES), network(IMAGES), atol=1e-6)
    assert export_onnx(program, IMAGES, tmp_path / "x.onnx") is not None
