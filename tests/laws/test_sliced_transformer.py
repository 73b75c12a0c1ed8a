"""SACL-XD with a vision transformer: one step, and a slim encoder that loads into stock timm."""

from pathlib import Path

import pytest
import timm
import torch

from small_methods import config_of, total
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.export.card import card
from wisp.export.stock import export_encoder, read_weights
from wisp.methods.method import Surroundings
from wisp.methods.sacl_xd import SaclXd

SPEC = stock.spec("vit_tiny_patch16_224", 32)


def build(width: float) -> SaclXd:
    torch.manual_seed(0)
    surroundings = Surroundings(features=192, image_size=32, images=8, batch_size=4, plan=PLANS["digits"])
    method = SaclXd(config_of("sacl_xd", width=width), SPEC.build(), surroundings)
    method.before_epoch(0)
    return method


def test_a_step_reaches_every_weight_and_the_slim_encoder_is_stock(tmp_path: Path) -> None:
    method = build(2.0)
    batch = Batch(views=tuple(torch.randn(2, 4, 3, 32, 32)), index=torch.arange(4))
    optimizer = torch.optim.AdamW(method.parameters(), 1e-3)
    total(method(batch, 0.5)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in method.parameters())
    optimizer.step()
    method.before_epoch(1)
    method.eval()
    slim = method.encoders()["1x"]
    assert method.encoders()["2x"].blocks[0].attn.num_heads == 6
    export_encoder(slim, SPEC, tmp_path, card=card(SPEC, name="1x"))
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32).eval()
    plain.load_state_dict(read_weights(tmp_path / "encoder.safetensors"), strict=True)
    with torch.no_grad():
        x, pair = batch.views[0], method.pair
        assert torch.equal(plain(x), slim(x))
        assert torch.equal(pair.slim(x, pair.gather()), pair.slim.export(pair.host)(x))


def test_a_width_between_two_numbers_of_heads_is_refused() -> None:
    with pytest.raises(
        WispError, match=r"^width 1.5 gives no whole .* the nearest widths that do are 1.333 and 1.667$"
    ):
        build(1.5)
