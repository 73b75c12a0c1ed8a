"""An encoder and its classifier are the stock network with classes, where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from wisp.encoders import stock
from wisp.errors import WispError
from wisp.export.card import card, read_card, update_card
from wisp.export.classifier import CLASSIFIER, read_classifier, with_classifier
from wisp.export.stock import export_encoder, load_encoder

FAMILIES = [
    *("test_efficientnet", "test_vit", "test_convnext", "test_resnet", "test_byobnet", "mobilenetv3_small_050"),
    *("repvit_m0_9", "regnety_002", "resnet8", "resnet20_pad"),
]


def parts(name: str, size: int = 64, classes: int = 5) -> tuple[stock.EncoderSpec, nn.Module, nn.Linear]:
    torch.manual_seed(1)
    spec = stock.spec(name, size)
    return spec, spec.build().eval(), nn.Linear(spec.features, classes)


WITHOUT = ("repvit_m0_9",)
"""Have no single linear layer at their end."""


@pytest.mark.parametrize("name", FAMILIES)
def test_it_computes_what_both_compute_one_after_another(name: str) -> None:
    spec, encoder, classifier = parts(name)
    told, network = with_classifier(spec, encoder, classifier)
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(images), classifier(encoder(images)), atol=1e-6)
    assert told.features == 5
    assert hasattr(network, "encoder") == (name in WITHOUT)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "mobilenetv3_small_050"])
def test_plain_timm_loads_it(name: str) -> None:
    spec, encoder, classifier = parts(name)
    told, network = with_classifier(spec, encoder, classifier)
    plain = timm.create_model(**told.kwargs)
    plain.load_state_dict(network.state_dict(), strict=True)
    assert told.kwargs["num_classes"] == 5
    assert plain.num_classes == 5


def test_a_narrow_encoder_and_its_classifier_stay_two_parts(tmp_path: Path) -> None:
    """They have no build call, and come back as a program."""
    spec = stock.spec("resnet8", 16)
    narrow = nn.Sequential(nn.Conv2d(3, 7, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    told, network = with_classifier(spec, narrow, nn.Linear(7, 3))
    assert [name for name, _ in network.named_children()] == ["encoder", "classifier"]
    files, notes = export_encoder(network, told, tmp_path, card=card(told, name="1x", classes="abc"))
    assert not notes
    assert files["pt2"] == "classifier.pt2"
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(load_encoder(tmp_path)(images), network(images), atol=1e-6)


def test_neither_part_is_changed() -> None:
    spec, encoder, classifier = parts("resnet8", 16)
    encoder.train().to(torch.bfloat16, memory_format=torch.channels_last)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    _, network = with_classifier(spec, encoder, classifier)
    assert encoder.training
    assert not network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())


def test_what_is_written_can_be_taken_apart_again(tmp_path: Path) -> None:
    for name in ("test_efficientnet", "resnet8"):
        spec, encoder, classifier = parts(name)
        told, network = with_classifier(spec, encoder, classifier)
        place = tmp_path / name / CLASSIFIER
        export_encoder(network, told, place, card=card(told, name="1x", classes="abcde"))
        content = read_card(place)
        assert content["build"]["kwargs"]["num_classes"] == 5
        found = read_classifier(tmp_path / name)
        assert found is not None
        assert torch.equal(found[0]["weight"], classifier.weight)
        assert found[1] == list("abcde")
        update_card(place, classes=None)
        with pytest.raises(WispError, match=r"is no whole classifier .*; export it again"):
            read_classifier(tmp_path / name)
    assert read_classifier(tmp_path) is None
