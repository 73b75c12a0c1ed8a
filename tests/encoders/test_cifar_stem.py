"""A ResNet for images of 32 pixels, as public code makes it of torchvision's, is read with its stem and its padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from wisp.encoders import stock
from wisp.encoders.public import read_public
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.methods import rekd, seed
from wisp.teachers.adopting import adopted
from wisp.teachers.opening import open_teacher

SOLO = {"classifier.weight": torch.zeros(10, 512), "classifier.bias": torch.zeros(10)}
PROTOTYPES = {"prototypes.weight_g": torch.ones(30, 1), "prototypes.weight_v": torch.ones(30, 128)}


def small(padding: int) -> nn.Module:
    """As CIFAR trainings make it of torchvision's."""
    torch.manual_seed(padding)
    network: nn.Module = torchvision.models.resnet18()
    network.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=padding, bias=False)
    network.maxpool = nn.Identity()
    network.fc = nn.Identity()
    return network.eval()


def saved(path: Path, prefix: str, network: nn.Module, more: dict[str, Tensor]) -> Path:
    tensors = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": tensors | more}, path)
    return path


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("prefix", "more", "padding", "form"),
    [
        ("backbone.", SOLO, 2, "solo-learn"),
        ("backbone.", SOLO | PROTOTYPES, 2, "solo-learn"),
        ("encoder.", {"projection.model.0.weight": torch.zeros(8, 512)}, 1, "solo-learn"),
        ("module.encoder_q.", {}, 1, "MoCo v1/v2"),
        ("", {}, 1, "plain timm or torchvision"),
    ],
)
def test_it_computes_what_the_file_s_network_did(
    prefix: str, more: dict[str, Tensor], padding: int, form: str, tmp_path: Path
) -> None:
    """Others have solo-learn's prefixes and not its padding; its own SwAV has prototypes."""
    network, encoder = small(padding), stock.spec("resnet18").build()
    found = read_public(saved(tmp_path / "last.ckpt", prefix, network, more), encoder)
    assert (found.format, found.padding) == (form, padding)
    encoder.load_state_dict(found.encoder)
    encoder.eval()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images()), network(images()))


def teacher(path: Path, model: str = "resnet18") -> Teacher:
    config = seed.Config(teacher=str(path), teacher_model=model, teacher_head="none")
    return open_teacher("seed", config, stock.spec("resnet20"), "frozen", seed=0)


@pytest.mark.parametrize(("prefix", "more", "padding"), [("backbone.", SOLO, 2), ("module.encoder_q.", {}, 1)])
def test_a_teacher_is_shown_small_images_and_its_stem_is_named(
    prefix: str, more: dict[str, Tensor], padding: int, tmp_path: Path
) -> None:
    """MoCo's released code normalises as for ImageNet, and has no such stem."""
    found = teacher(saved(tmp_path / "cifar10.ckpt", prefix, small(padding), more))
    assert found.own.image_size == 32
    assert (found.own.mean, found.own.std, found.own.assumed) == (stock.CIFAR_MEAN, stock.CIFAR_STD, True)
    assert found.origin == f"resnet18 with a 3x3 stem, padding {padding} (cifar10.ckpt)"


def test_a_tag_says_the_normalisation_and_leaves_the_side(tmp_path: Path) -> None:
    found = teacher(saved(tmp_path / "cifar10.ckpt", "backbone.", small(2), SOLO), "resnet18.a1_in1k")
    assert (found.own.image_size, found.own.assumed) == (32, False)
    assert found.own.mean == (0.485, 0.456, 0.406)


def test_its_weights_may_be_the_first_of_one_that_learns_along(tmp_path: Path) -> None:
    path, student = saved(tmp_path / "cifar10.ckpt", "backbone.", small(2), SOLO), stock.spec("resnet20", 16)
    config = rekd.Config(teacher=str(path), teacher_model="resnet18")
    found = open_teacher("rekd", config, student, "online", seed=0)
    assert isinstance(found.encoder.maxpool, nn.Identity)
    assert torch.equal(found.encoder.state_dict()["conv1.weight"], small(2).state_dict()["conv1.weight"])


def test_it_cannot_be_an_encoder_itself(tmp_path: Path) -> None:
    path = saved(tmp_path / "cifar10.ckpt", "backbone.", small(2), SOLO)
    with pytest.raises(WispError, match="distil from it instead"):
        adopted(teacher(path), "resnet18", None, "stock")


@pytest.mark.parametrize("model", ["resnet34", "mobilenetv3_small_050"])
def test_another_network_is_still_refused(model: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "last.ckpt", "backbone.", small(2), SOLO)
    with pytest.raises(WispError, match="read as solo-learn, does not fit its encoder"):
        read_public(path, stock.spec(model).build())
