"""A program runs any batch, and one that disagrees is not kept."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.errors import WispError
from wisp.export.program import export_program, load_program

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


def test_a_program_that_differs_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"x\.pt2 was not kept: it differs from the encoder by 1\.0e\+00"):
        export_program(_Forgetful().eval(), IMAGES, tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())
