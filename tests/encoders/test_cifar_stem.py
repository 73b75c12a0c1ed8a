"""A ResNet for images of 32 pixels, as public code makes it of torchvision's, is read with its stem and its padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from wisp.encoders import stock
from wisp.encoders.public import read_public
from wisp.errors import WispError
from wisp.methods import seed
from wisp.teachers.opening import open_teacher


def small(padding: int) -> nn.Module:
    """As CIFAR trainings make it of torchvision's."""
    torch.manual_seed(padding)
    network: nn.Module = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=padding, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network.eval()


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("prefix", "padding", "form"),
    [("backbone.", 2, "solo-learn"), ("module.encoder_q.", 1, "MoCo v1/v2"), ("", 1, "plain timm or torchvision")],
)
def test_it_computes_what_the_file_s_network_did(prefix: str, padding: int, form: str, tmp_path: Path) -> None:
    network, encoder = small(padding), stock.spec("resnet18").build().eval()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}}, path)
    found = read_public(path, encoder)
    assert (found.format, found.small) == (form, True)
    encoder.load_state_dict(found.encoder)
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images()), network(images()))


def test_a_teacher_is_shown_images_of_that_size(tmp_path: Path) -> None:
    path = tmp_path / "cifar10.ckpt"
    torch.save({"state_dict": {f"backbone.{name}": t for name, t in small(2).state_dict().items()}}, path)
    config = seed.Config(teacher=str(path), teacher_model="resnet18", teacher_head="none")
    teacher = open_teacher("seed", config, stock.spec("resnet20"), "frozen", seed=0)
    assert teacher.own.image_size == 32
    assert (teacher.own.mean, teacher.own.std, teacher.own.assumed) == (stock.CIFAR_MEAN, stock.CIFAR_STD, True)


@pytest.mark.parametrize("model", ["resnet34", "mobilenetv3_small_050"])
def test_another_network_is_still_refused(model: str, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"backbone.{name}": t for name, t in small(2).state_dict().items()}}, path)
    with pytest.raises(WispError, match="read as solo-learn, does not fit its encoder"):
        read_public(path, stock.spec(model).build())
