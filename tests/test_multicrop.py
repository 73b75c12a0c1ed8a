"""A whole run with views of several sides, from images in memory and from large ones, and with a transformer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from small_runs import SMALL, Wisp, write_classes
from wisp.encoders import stock
from wisp.errors import WispError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(("side", "options"), [(18, []), (80, ["--workers", "2"])], ids=["in memory", "by workers"])
def test_it_trains_and_says_what_it_shows(wisp: Wisp, tmp_path: Path, side: int, options: list[str]) -> None:
    data, run = write_classes(tmp_path / "data", side), tmp_path / "run"
    general = SMALL[: SMALL.index("--method.hidden")]
    answer = wisp(
        *("pretrain", "supervised", "--data", data, *general, "--plan", "multicrop_small", "--out", run, *options)
    )
    assert (answer.code, answer.err) == (0, "")
    assert "images, views multicrop_small at 2 x 16 + 4 x 8 px" in answer.out
    assert json.loads((run / "result.json").read_text())["resolved"]["plan"] == "multicrop_small"


def test_a_transformer_sees_local_crops_and_stays_stock(
    wisp: Wisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its positions are resampled for the crops; at the full size nothing of that shows."""
    twins = []
    monkeypatch.setattr("wisp.finishing.missing_extra", lambda: None)
    monkeypatch.setattr("wisp.finishing.export_onnx", lambda encoder, *_: twins.append(encoder) or stop())
    data, run = write_classes(tmp_path / "data", 40), tmp_path / "run"
    answer = wisp(
        *("pretrain", "dino", "--data", data, "--model", "vit_tiny_patch16_224", "--image-size", "32"),
        *("--plan", "multicrop_small", "--batch-size", "8", "--epochs", "1", "--out", run),
        *("--method.prototypes", "2", "--method.hidden", "32", "--method.out", "16"),
    )
    assert (answer.code, answer.err) == (0, "")
    assert "views multicrop_small at 2 x 32 + 4 x 16 px" in answer.out
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).eval()
    card = json.loads((run / "exported" / "1x" / "card.json").read_text())
    assert card["build"]["kwargs"] == {"model_name": "vit_tiny_patch16_224", "num_classes": 0, "img_size": 32}
    weights = safetensors.torch.load_file(run / "exported" / "1x" / "encoder.safetensors")
    plain.load_state_dict(weights, strict=True)
    fresh = stock.spec("vit_tiny_patch16_224", 32)
    torch.manual_seed(0)
    assert not torch.equal(weights["pos_embed"], fresh.build().pos_embed)
    loose = replace(fresh, any_size=True).build().eval()
    loose.load_state_dict(weights, strict=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = plain(images)
        assert torch.equal(loose(images), expected)
        assert torch.equal(twins[0](images), expected)


def stop() -> None:
    raise WispError("no ONNX twin: left out by the test")


def test_resampled_positions_take_no_draw() -> None:
    """The same seed gives the same weights, whatever the views."""
    spec, networks = stock.spec("vit_tiny_patch16_224", 32), []
    for any_size in (False, True):
        torch.manual_seed(0)
        networks.append(replace(spec, any_size=any_size).build().state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])
