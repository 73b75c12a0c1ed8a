"""What is exported is stock, the same bytes every time, and only loads where it fits."""

import errno
import json
import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

from wisp.encoders.cifar_resnet import CifarResNet
from wisp.encoders.stock import EncoderSpec, spec
from wisp.encoders.weights import mismatches
from wisp.errors import WispError
from wisp.evaluate.features import extract
from wisp.export.card import card, read_card, update_card
from wisp.export.stock import export_encoder, load_encoder, read_weights

TIMM = "test_efficientnet"


def _trained(kind: EncoderSpec, seed: int = 0) -> nn.Module:
    """Weights and running statistics that no constructor gives."""
    torch.manual_seed(seed)
    encoder = kind.build()
    with torch.no_grad():
        for tensor in encoder.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor * (1 + 0.1 * torch.rand_like(tensor)) + 0.01 * torch.rand_like(tensor))
    return encoder


def _export(encoder: nn.Module, kind: EncoderSpec, folder: Path) -> dict[str, str]:
    files, missing = export_encoder(encoder, kind, folder, card=card(kind, name="1x"))
    assert missing == []
    return files


def _images(kind: EncoderSpec, count: int = 3) -> torch.Tensor:
    size = kind.image_size
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    kind = spec(TIMM, 32)
    assert _export(_trained(kind), kind, folder) == {"safetensors": "encoder.safetensors", "card": "card.json"}
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    kind = spec("resnet8", 16)
    assert set(_export(_trained(kind), kind, folder)) == {"safetensors", "pt2", "card"}
    return folder


def test_the_cards_lines_load_it_without_wisp(stock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = read_card(stock)["load"]
    assert len(lines) == 3
    assert not any("wisp" in line for line in lines)
    monkeypatch.chdir(stock)
    found: dict[str, nn.Module] = {}
    exec("\n".join(lines), found)
    kind = spec(TIMM, 32)
    with torch.no_grad():
        assert torch.equal(found["encoder"](_images(kind)), _trained(kind).eval()(_images(kind)))


def test_the_cards_lines_run_the_program(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = read_card(ours)["load"]
    assert not any("wisp" in line for line in lines)
    monkeypatch.chdir(ours)
    found: dict[str, torch.Tensor] = {}
    exec("\n".join(lines), found)
    assert found["features"].shape == (1, 64)


def test_the_build_call_is_the_specs(stock: Path) -> None:
    assert read_card(stock)["build"] == {
        "factory": "timm.create_model",
        "kwargs": {"model_name": TIMM, "num_classes": 0},
    }


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.pt2", ""])
def test_every_file_loads_to_the_same_features(ours: Path, name: str) -> None:
    kind = spec("resnet8", 16)
    encoder = load_encoder(ours / name)
    images = _images(kind, 5)
    assert not any(part.training for part in encoder.modules())
    assert torch.allclose(extract(encoder, [images]), extract(_trained(kind), [images]), atol=1e-6)


def test_a_file_that_is_named_is_the_one_that_is_loaded(stock: Path, ours: Path, tmp_path: Path) -> None:
    for folder, kind in ((stock, spec(TIMM, 32)), (ours, spec("resnet8", 16))):
        other = _trained(kind, seed=1).eval()
        (tmp_path / "card.json").write_bytes((folder / "card.json").read_bytes())
        safetensors.torch.save_file(other.state_dict(), tmp_path / "finetuned.safetensors")
        loaded = load_encoder(tmp_path / "finetuned.safetensors")
        assert torch.equal(extract(loaded, [_images(kind)]), extract(other, [_images(kind)]))


@pytest.mark.parametrize("widths", [(8, 16, 40), (16, 32, 80)])
def test_so_it_is_where_no_factory_builds_the_network(widths: tuple[int, ...], tmp_path: Path) -> None:
    kind = spec("resnet8", 16)
    wide = CifarResNet((1, 1, 1), widths=widths)
    _export(wide, kind, tmp_path)
    torch.manual_seed(1)
    other = CifarResNet((1, 1, 1), widths=widths)
    safetensors.torch.save_file(other.state_dict(), tmp_path / "finetuned.safetensors")
    images = _images(kind)
    loaded = load_encoder(tmp_path / "finetuned.safetensors")
    assert torch.allclose(extract(loaded, [images]), extract(other, [images]), atol=1e-6)
    safetensors.torch.save_file(_trained(kind).state_dict(), tmp_path / "stock.safetensors")
    with pytest.raises(WispError, match=r"stock\.safetensors does not fit its encoder: "):
        load_encoder(tmp_path / "stock.safetensors")


@pytest.mark.parametrize("name", ["encoder.onnx", "card.json"])
def test_a_file_of_another_kind_is_refused(stock: Path, tmp_path: Path, name: str) -> None:
    for path in stock.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).touch()
    with pytest.raises(WispError, match=rf"{name} is no file that wisp loads; name a \.safetensors or \.pt2 file"):
        load_encoder(tmp_path / name)


def test_a_loaded_encoder_can_be_trained_on(stock: Path) -> None:
    encoder = load_encoder(stock).train()
    encoder(_images(spec(TIMM, 32))).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_what_no_factory_builds_comes_as_a_program(tmp_path: Path) -> None:
    kind = spec("resnet8", 16)
    wide = CifarResNet((1, 1, 1), widths=(16, 32, 80))
    files = _export(wide, kind, tmp_path)
    assert files["pt2"] == "encoder.pt2"
    content = read_card(tmp_path)
    assert content["build"] is None
    assert content["features"] == 80
    encoder = load_encoder(tmp_path)
    images = _images(kind)
    assert torch.allclose(extract(encoder, [images]), extract(wide, [images]), atol=1e-6)
    assert not encoder.train().training
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in wide.parameters())
    assert not mismatches(wide.state_dict(), read_weights(tmp_path / "encoder.safetensors"))


def test_the_same_weights_give_the_same_bytes(stock: Path, tmp_path: Path) -> None:
    kind = spec(TIMM, 32)
    encoder = _trained(kind).to(memory_format=torch.channels_last).double().train()
    _export(encoder, kind, tmp_path)
    for name in ("encoder.safetensors", "card.json"):
        assert (tmp_path / name).read_bytes() == (stock / name).read_bytes()
    with safetensors.safe_open(stock / "encoder.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("which", ["stock", "ours"])
def test_no_path_and_no_leftover(which: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(which)
    assert {path.name for path in folder.iterdir()} == set(read_card(folder)["files"].values())
    here = [os.fsencode(path) for path in (Path(torch.__file__).parent, Path(__file__).parent, folder)]
    for path in folder.iterdir():
        assert not any(place in path.read_bytes() for place in here), path.name


def test_the_encoder_and_the_generator_stay_as_they_are(tmp_path: Path) -> None:
    kind = spec("resnet8", 16)
    encoder = _trained(kind).to(memory_format=torch.channels_last).train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = torch.get_rng_state()
    _export(encoder, kind, tmp_path)
    load_encoder(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert encoder.training
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    assert encoder.layer2[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_tied_weights_are_written_under_both_names(tmp_path: Path) -> None:
    kind = spec("resnet8", 16)
    encoder = _trained(kind)
    encoder.layer2[0].bn1.weight = encoder.layer2[0].bn2.weight
    _export(encoder, kind, tmp_path)
    tensors = read_weights(tmp_path / "encoder.safetensors")
    assert torch.equal(tensors["layer2.0.bn1.weight"], tensors["layer2.0.bn2.weight"])


def test_another_computation_with_the_same_tensors_is_refused(tmp_path: Path) -> None:
    small = spec("resnet18", 32, stem="small").build()
    with pytest.raises(WispError, match="tensors of resnet18 but computes something else"):
        _export(small, spec("resnet18", 32), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    kind = spec("resnet8", 16)
    encoder = _trained(kind)
    encoder.bn1.running_var[3] = torch.inf
    with pytest.raises(WispError, match=r"bn1.running_var holds non-finite weights"):
        _export(encoder, kind, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_full_disk_keeps_the_old_file(stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = spec(TIMM, 32)
    _export(_trained(kind), kind, tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WispError, match=r"cannot write .*: No space"):
        _export(_trained(kind, seed=1), kind, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "encoder.safetensors"]
    assert (tmp_path / "encoder.safetensors").read_bytes() == (stock / "encoder.safetensors").read_bytes()


def _tampered(ours: Path, folder: Path, **changes: torch.Tensor | None) -> Path:
    tensors = read_weights(ours / "encoder.safetensors")
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor
    safetensors.torch.save_file(tensors, folder / "encoder.safetensors")
    (folder / "card.json").write_bytes((ours / "card.json").read_bytes())
    return folder


def test_a_missing_tensor_is_named(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"bn1\.running_mean is missing; nothing was loaded"):
        load_encoder(_tampered(ours, tmp_path, bn1__running_mean=None))


def test_an_unexpected_tensor_is_named(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"does not fit its encoder: fc\.weight is unexpected"):
        load_encoder(_tampered(ours, tmp_path, fc__weight=torch.zeros(10, 64)))


def test_a_tensor_of_another_shape_is_named(ours: Path, tmp_path: Path) -> None:
    with pytest.raises(WispError, match=r"conv1\.weight is \[16, 3, 1, 1\], not \[16, 3, 3, 3\]"):
        load_encoder(_tampered(ours, tmp_path, conv1__weight=torch.zeros(16, 3, 1, 1)))


def test_many_mismatches_stay_on_one_line(ours: Path, tmp_path: Path) -> None:
    folder = _tampered(ours, tmp_path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, folder / "encoder.safetensors")
    with pytest.raises(WispError, match=r"conv1\.weight is missing; .* and \d+ more; nothing was loaded") as found:
        load_encoder(folder)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.pt2", "card.json"])
def test_a_truncated_file_is_named(ours: Path, tmp_path: Path, name: str) -> None:
    for path in ours.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[: len(content) // 2] if path.name == name else content)
    with pytest.raises(WispError, match=name) as found:
        load_encoder(tmp_path / name if name == "encoder.pt2" else tmp_path)
    assert "\n" not in str(found.value)


def test_what_is_not_there_is_named(stock: Path, tmp_path: Path) -> None:
    with pytest.raises(WispError, match="nowhere does not exist"):
        load_encoder(tmp_path / "nowhere")
    with pytest.raises(WispError, match=r"no card\.json in"):
        load_encoder(tmp_path)
    (tmp_path / "card.json").write_bytes((stock / "card.json").read_bytes())
    with pytest.raises(WispError, match=r"encoder\.safetensors does not exist"):
        load_encoder(tmp_path)
    update_card(tmp_path, build=None)
    with pytest.raises(WispError, match=r"encoder\.pt2 does not exist"):
        load_encoder(tmp_path)


def test_a_card_runs_no_foreign_code(stock: Path, tmp_path: Path) -> None:
    for build, message in (
        ({"factory": "os.system", "kwargs": {"command": "true"}}, "unknown encoder factory 'os.system'"),
        ({"factory": "timm.create_model"}, "names no build call"),
        ("timm", "names no build call"),
    ):
        content = {**read_card(stock), "build": build}
        (tmp_path / "card.json").write_text(json.dumps(content))
        with pytest.raises(WispError, match=message):
            load_encoder(tmp_path)


def test_a_program_that_cannot_be_made_costs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("data-dependent branch\nand a long trace")

    monkeypatch.setattr(torch.export, "export", refuse)
    kind = spec("resnet8", 16)
    files, missing = export_encoder(_trained(kind), kind, tmp_path, card=card(kind, name="1x"))
    assert set(files) == {"safetensors", "card"}
    assert missing == ["torch.export cannot trace this encoder (data-dependent branch); use encoder.safetensors"]
    assert load_encoder(tmp_path).state_dict().keys() == kind.build().state_dict().keys()
