"""Files of public code, made as that code makes them: the same network comes out, and nothing is guessed or skipped."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from wisp.encoders import stock
from wisp.encoders.heads import mlp, read_mlp
from wisp.encoders.public import FORMATS, Found, read_public
from wisp.errors import WispError

NAME = "resnet20_pad"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPTIMIZER = {"optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}}


def made(name: str = NAME, seed: int = 1, **more: Any) -> nn.Module:
    """An encoder with statistics that no constructor gives."""
    torch.manual_seed(seed)
    encoder: nn.Module = stock.spec(name).build() if name in stock.OURS else timm.create_model(name, **more)
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(0.01 * torch.rand_like(tensor))
    return encoder.eval()


def named(prefix: str, part: nn.Module | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a part of a network."""
    tensors = part.state_dict() if isinstance(part, nn.Module) else part
    return {f"{prefix}{name}": tensor.clone() for name, tensor in tensors.items()}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def same(found: Found, encoder: nn.Module, head: nn.Module | None = None, name: str = NAME) -> bool:
    """Whether what was found computes what was saved, and a head was found where there is one."""
    again = fresh(name).eval()
    again.load_state_dict(found.encoder, strict=True)
    images = torch.randn(2, 3, *[stock.spec(name).image_size] * 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(images)
        if head is None or found.head is None:
            return torch.equal(again(images), features) and head is None and found.head is None
        rebuilt = read_mlp(found.head, found.activation).eval()
        return torch.equal(again(images), features) and torch.equal(rebuilt(features), head.eval()(features))


def fresh(name: str = NAME) -> nn.Module:
    return stock.spec(name).build()


# formats --------------------------------------------------------------------------------------------------------------


def moco(head: nn.Module, **more: Any) -> dict[str, Any]:
    """As main_moco.py of MoCo writes it, out of DistributedDataParallel."""
    own, key = "module.encoder_q.", "module.encoder_k."
    tensors = named(own, made()) | named(f"{own}fc.", head) | named(key, made(seed=9)) | named(f"{key}fc.", head)
    queue = {"module.queue": torch.randn(128, 64), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "resnet20", "state_dict": tensors | queue, **OPTIMIZER, **more}


def test_moco_v2(tmp_path: Path) -> None:
    head = mlp([64, 64, 16], norm=False)
    found = read_public(saved(tmp_path / "moco.pth.tar", moco(head)), fresh())
    assert found.head is not None
    assert set(found.head) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert (found.format, found.normalisation) == ("MoCo v1/v2", IMAGENET)
    assert same(found, made(), head)


def test_moco_v1_has_a_head_of_one_layer(tmp_path: Path) -> None:
    head = nn.Linear(64, 16)
    found = read_public(saved(tmp_path / "moco.pth.tar", moco(head)), fresh())
    assert found.head is not None
    assert set(found.head) == {"0.weight", "0.bias"}
    assert same(found, made(), head)


def test_a_head_where_the_classifier_has_a_norm_before_it(tmp_path: Path) -> None:
    """ConvNeXt: `head.norm` is the encoder's, `head.fc` the head."""
    encoder, head = made("test_convnext", num_classes=0), mlp([64, 32, 16], norm=False)
    assert "head.norm.weight" in encoder.state_dict()
    tensors = named("module.encoder_q.", encoder) | named("module.encoder_q.head.fc.", head)
    found = read_public(saved(tmp_path / "moco.pth", {"state_dict": tensors}), fresh("test_convnext"))
    assert same(found, encoder, head, "test_convnext")
    tensors = {name: tensor for name, tensor in tensors.items() if "head.fc." not in name}
    found = read_public(saved(tmp_path / "headless.pth", {"state_dict": tensors}), fresh("test_convnext"))
    assert same(found, encoder, name="test_convnext")


@pytest.mark.parametrize(("name", "last"), [(NAME, "fc"), ("test_vit", "head")])
def test_moco_v3(tmp_path: Path, name: str, last: str) -> None:
    encoder = made(name, num_classes=0)
    head = mlp([64, 32, 32, 16], last="plain_norm")
    head(torch.randn(8, 64))
    base, momentum = "module.base_encoder.", "module.momentum_encoder."
    tensors = named(base, encoder) | named(f"{base}{last}.", head)
    tensors |= named(momentum, made(name, 5, num_classes=0)) | named("module.predictor.", mlp([16, 32, 16]))
    found = read_public(saved(tmp_path / "moco3.pth", {"arch": name, "state_dict": tensors, **OPTIMIZER}), fresh(name))
    assert (found.format, found.normalisation) == ("MoCo v3", IMAGENET)
    assert same(found, encoder, head, name)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("prototypes", ["prototypes.weight", "prototypes.prototypes0.weight"])
def test_swav(tmp_path: Path, prototypes: str, whole: bool) -> None:
    """The published file holds tensors alone, that of a training in progress more."""
    head = mlp([64, 32, 16], last="biased")
    head(torch.randn(8, 64))
    tensors = named("module.", made()) | named("module.projection_head.", head)
    tensors[f"module.{prototypes}"] = torch.randn(30, 16)
    content = {"epoch": 3, "state_dict": tensors, **OPTIMIZER} if whole else tensors
    found = read_public(saved(tmp_path / "swav.pth.tar", content), fresh())
    assert (found.format, found.normalisation) == ("SwAV", (IMAGENET[0], (0.228, 0.224, 0.225)))
    assert same(found, made(), head)


def dino(name: str, **entries: nn.Module) -> dict[str, Any]:
    """As main_dino.py writes it: the student out of DistributedDataParallel, the teacher where it has BatchNorm."""
    content: dict[str, Any] = {"epoch": 1, "args": argparse.Namespace(arch=name, lr=0.1, crops=(0.4, 1.0)), **OPTIMIZER}
    for entry, network in entries.items():
        wrap = "module." if entry == "student" else ""
        content[entry] = named(f"{wrap}backbone.", network) | named(f"{wrap}head.mlp.", HEAD)
        content[entry][f"{wrap}head.last_layer.weight_g"] = torch.ones(30, 1)
        content[entry][f"{wrap}head.last_layer.weight_v"] = torch.randn(30, 16)
    return content


HEAD = mlp([64, 32, 32, 16], norm=False, activation=nn.GELU)


@pytest.mark.parametrize("name", [NAME, "test_vit"])
def test_dino(tmp_path: Path, name: str) -> None:
    student, teacher = (made(name, seed, num_classes=0) for seed in (3, 4))
    found = read_public(saved(tmp_path / "dino.pth", dino(name, student=student, teacher=teacher)), fresh(name))
    assert (found.format, found.activation, found.normalisation) == ("DINO", nn.GELU, IMAGENET)
    assert same(found, teacher, HEAD, name)
    assert not same(found, student, HEAD, name)


def test_dino_without_its_teacher(tmp_path: Path) -> None:
    found = read_public(saved(tmp_path / "dino.pth", dino(NAME, student=made())), fresh())
    assert same(found, made(), HEAD)


@pytest.mark.parametrize("prefix", ["backbone.", "encoder."])
def test_solo_learn(tmp_path: Path, prefix: str) -> None:
    head = mlp([64, 32, 16], norm=False)
    tensors = named(prefix, made()) | named("projector.", head) | named("momentum_backbone.", made(seed=7))
    tensors |= named("momentum_projector.", head) | named("predictor.", mlp([16, 16, 16]))
    tensors |= {"classifier.weight": torch.zeros(10, 64), "classifier.bias": torch.zeros(10), "queue": torch.zeros(8)}
    content = {"epoch": 9, "pytorch-lightning_version": "2.1", "state_dict": tensors, "hyper_parameters": {"lr": 0.3}}
    found = read_public(saved(tmp_path / "last.ckpt", content), fresh())
    assert (found.format, found.normalisation) == ("solo-learn", None)
    assert same(found, made(), head)


def test_solo_learn_without_a_projector(tmp_path: Path) -> None:
    found = read_public(saved(tmp_path / "last.ckpt", {"state_dict": named("backbone.", made())}), fresh())
    assert same(found, made())


def test_the_public_cifar_resnets(tmp_path: Path) -> None:
    """As old torch wrote them: no counts of batches."""
    tensors = named("module.", made()) | named("module.linear.", nn.Linear(64, 10))
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "resnet20.th"
    content = {"best_prec1": 91.78, "state_dict": tensors}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    found = read_public(path, fresh())
    assert (found.format, found.normalisation) == ("CIFAR ResNet", IMAGENET)
    assert same(found, made())


@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"state_dict": t, "arch": NAME}, lambda t: {"model": t}])
@pytest.mark.parametrize("classifier", ["fc.", "classifier.", "head."])
def test_plain_names(tmp_path: Path, classifier: str, wrap: Callable[[Any], Any]) -> None:
    tensors = named("", made()) | named(classifier, nn.Linear(64, 10))
    found = read_public(saved(tmp_path / "plain.pth", wrap(tensors)), fresh())
    assert (found.format, found.normalisation) == ("plain timm or torchvision", None)
    assert same(found, made())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_timm_with_its_classifier(tmp_path: Path, name: str) -> None:
    whole = made(name)
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(whole.state_dict(), path)
    whole.reset_classifier(0)  # type: ignore[operator]  # timm's own, which nn.Module does not have
    assert same(read_public(path, fresh(name)), whole, name=name)


def test_torchvisions_resnet(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    found = read_public(saved(tmp_path / "resnet18.pth", theirs.state_dict()), fresh("resnet18"))
    theirs.fc = nn.Identity()
    assert same(found, theirs, name="resnet18")


def test_parameters_and_halves(tmp_path: Path) -> None:
    """A dictionary of parameters, and a file of half the size."""
    tensors = {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in made().state_dict().items()}
    found = read_public(saved(tmp_path / "parameters.pth", tensors), fresh())
    assert not any(tensor.requires_grad for tensor in found.encoder.values())
    assert same(found, made())
    halves = {name: t.half() if t.is_floating_point() else t for name, t in made().state_dict().items()}
    assert same(read_public(saved(tmp_path / "half.pth", halves), fresh()), made().half().float())


def test_counts_of_batches_are_the_files(tmp_path: Path) -> None:
    tensors = named("", made())
    tensors["bn1.num_batches_tracked"].fill_(7)
    assert int(read_public(saved(tmp_path / "plain.pth", tensors), fresh()).encoder["bn1.num_batches_tracked"]) == 7


def test_the_encoder_that_asks_stays_as_it_is(tmp_path: Path) -> None:
    encoder = made(seed=6)
    before = named("", encoder)
    read_public(saved(tmp_path / "plain.pth", named("", made())), encoder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


# what does not fit ----------------------------------------------------------------------------------------------------


class Refused:
    """Reads a file that must be refused, and gives the line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, content: Any, name: str = NAME) -> str:
        if isinstance(content, bytes):
            self.path.write_bytes(content)
        else:
            torch.save(content, self.path)
        with pytest.raises(WispError) as found:
            read_public(self.path, fresh(name))
        line = str(found.value)
        assert "\n" not in line
        return line.replace(str(self.path), "FILE")


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    return Refused(tmp_path / "some.pth")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"nowhere\.pth does not exist; name a checkpoint file$"):
        read_public(tmp_path / "nowhere.pth", fresh())
    with pytest.raises(WispError, match=r"is a folder; name a checkpoint file$"):
        read_public(tmp_path, fresh())


def test_no_checkpoint(refused: Refused, tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole.pth", named("", made())).read_bytes()
    for content in (b"", b"some text, no checkpoint", b"PK\x03\x04 broken", whole[: len(whole) // 2]):
        line = refused(content)
        assert line.startswith("FILE is no whole checkpoint (")
        assert line.endswith("); download or save it again")
    path = tmp_path / "some.safetensors"
    path.write_bytes(whole)
    with pytest.raises(WispError, match=r"some\.safetensors is no whole checkpoint \("):
        read_public(path, fresh())


class Settings:
    """What a checkpoint may hold beside tensors."""


def test_what_may_run_code(refused: Refused) -> None:
    for content in ({"state_dict": named("", made()), "settings": Settings()}, made()):
        kind = "Settings" if isinstance(content, dict) else "CifarResNet"
        line = refused(content)
        assert line.startswith("FILE holds more than weights (")
        assert f"{kind}), and reading that may run code; if you trust it, save its state_dict alone" in line


def test_no_names(refused: Refused) -> None:
    assert refused([torch.ones(2)]) == "FILE holds a list and no weights by name; save a state_dict"
    assert refused(torch.ones(2)) == "FILE holds a Tensor and no weights by name; save a state_dict"


def test_an_unknown_format_lists_the_known(refused: Refused) -> None:
    for content in (
        named("net.", made()),
        {"weights": named("", made())},
        named("module.", made()) | {"step": torch.ones(1)},
        {"epoch": 3},
        {},
    ):
        line = refused(content)
        assert "has none of the encoder's names and no format that wisp reads" in line
        assert all(form.name in line for form in FORMATS)
    assert "FILE (net.conv1.weight, net.bn1.weight, net.bn1.bias, ...)" in refused(named("net.", made()))


def test_torchvision_names_its_other_networks_otherwise(refused: Refused) -> None:
    theirs = torchvision.models.mobilenet_v3_small().state_dict()
    assert "; of torchvision only ResNets have timm's names)" in refused(theirs, "mobilenetv3_small_100")


def test_a_tensor_that_does_not_fit_is_named(refused: Refused) -> None:
    begin = "FILE, read as plain timm or torchvision, does not fit its encoder: "
    tensors = named("", made())
    missing = {name: tensor for name, tensor in tensors.items() if name != "bn1.running_mean"}
    assert refused(missing).startswith(f"{begin}bn1.running_mean is missing; name the architecture that it holds (of")
    assert refused(tensors | {"neck.weight": torch.ones(1)}).startswith(f"{begin}neck.weight is unexpected; name")
    other = tensors | {"conv1.weight": torch.ones(16, 3, 7, 7)}
    assert refused(other).startswith(f"{begin}conv1.weight is [16, 3, 7, 7], not [16, 3, 3, 3]; name")


def test_the_wrong_architecture_says_what_the_file_says(refused: Refused) -> None:
    line = refused(moco(nn.Linear(64, 16)), "resnet18")
    assert line.startswith("FILE, read as MoCo v1/v2, does not fit its encoder: ")
    assert line.endswith(" more; the file says that it is resnet20")
    assert line.count(" is missing") == 4
    transformer = dino("test_vit", teacher=made("test_vit", num_classes=0))
    assert refused(transformer).endswith(" more; the file says that it is test_vit")
    line = refused({"state_dict": named("backbone.", made("resnet8"))})
    assert line.endswith(" more; name the architecture that it holds")


def test_no_part_of_another_encoder_is_taken(refused: Refused) -> None:
    """A deeper network holds all names of a shallow one."""
    line = refused(named("", made("resnet32_pad")))
    assert "layer1.3.conv1.weight is unexpected; " in line
    assert line.count(" is unexpected") == 4
