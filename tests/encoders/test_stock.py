"""Names to encoders: what a network refuses is one line, before anything is trained."""

from __future__ import annotations

import pytest
import timm
from torch import nn

from wisp.encoders import stock
from wisp.errors import WispError


@pytest.mark.parametrize(
    ("name", "size", "why", "own"),
    [
        ("levit_128s", 96, "The size of tensor a (36) must match", 224),
        ("coat_lite_tiny", 100, "Input height (100) doesn't match model (224)", 224),
        ("maxvit_rmlp_pico_rw_256", 100, "height (25) must be divisible by window (8)", 256),
    ],
)
def test_a_size_that_the_network_refuses(name: str, size: int, why: str, own: int) -> None:
    with pytest.raises(WispError) as found:
        stock.spec(name, size)
    line = str(found.value)
    assert line.startswith(f"{name} does not take --image-size {size} ({why}")
    assert f"; use its own {own} " in line
    assert "\n" not in line


def test_a_size_that_is_built_in_is_probed_at_that_size() -> None:
    """A vision transformer of 16 px takes images of 16 px only, so it cannot be asked with 32."""
    found = stock.spec("vit_tiny_patch16_224", 16)
    assert (found.image_size, found.features, found.kwargs["img_size"]) == (16, 192, 16)


def test_a_network_that_cannot_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(**_: object) -> nn.Module:
        raise ImportError("it needs another package\nsomewhere")

    monkeypatch.setattr(timm, "create_model", build)
    with pytest.raises(WispError, match=r"^resnet26 cannot be built \(it needs another package\); choose another"):
        stock.spec("resnet26")


@pytest.mark.parametrize("name", stock.OURS)
def test_a_small_stem_where_it_is_small_already(name: str) -> None:
    with pytest.raises(WispError, match=f"--stem small has nothing to do: the stem of {name} is small already"):
        stock.spec(name, stem="small")


def test_a_stem_that_cannot_be_made_small() -> None:
    with pytest.raises(WispError, match=r"^--stem small needs one stem convolution of stride 2; vit_tiny"):
        stock.spec("vit_tiny_patch16_224", stem="small")
