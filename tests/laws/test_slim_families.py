"""SlimCLR with a transformer and with a network of LayerNorms: what is exported at every width is what was trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from small_methods import total
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.export import stock as exports
from wisp.export.card import card, read_card
from wisp.export.stock import export_encoder, read_weights
from wisp.methods.method import Surroundings
from wisp.methods.slimclr import Config, SlimCLR

SIZE = 32
# A ViT-Tiny has three heads, which no width may divide.
WIDTHS = {"vit_tiny_patch16_224": (1.0, 2 / 3, 1 / 3), "convnext_atto": (1.0, 0.5, 0.25)}
STRANGER = """
import importlib.util, sys, torch
sys.modules["wisp"] = None
torch.set_num_threads(int(sys.argv[1]))  # another number of threads, another order of summation
images = torch.load("images.pt")
for folder in sys.argv[2:]:
    place = importlib.util.spec_from_file_location(folder, f"{folder}/load_narrow.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    with torch.inference_mode():
        torch.save(module.load()(images), f"{folder}/features.pt")
"""


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(views=tuple(torch.randn(2, 4, 3, SIZE, SIZE, generator=generator)), index=torch.arange(4))


def trained(model: str) -> SlimCLR:
    """Two steps, so that neither weights nor norms nor statistics are those of a fresh network."""
    torch.manual_seed(0)
    spec = stock.spec(model, SIZE)
    surroundings = Surroundings(
        features=spec.features, image_size=SIZE, images=8, batch_size=4, plan=PLANS["sacl_xd_cifar10"]
    )
    # Of MoCo v3, whose heads have BatchNorm: these encoders have none, but what follows them has statistics.
    config = Config(base="moco_v3", widths=WIDTHS[model], slow_start=0.0, hidden=32, out=16)
    method = SlimCLR(config, spec.build(), surroundings)
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2)
    for step in range(2):
        method.before_epoch(step)
        optimizer.zero_grad()
        total(method(batch(step), step / 2)).backward()
        optimizer.step()
        method.after_step(step / 2)
    method.calibrate([batch(2)])
    return method.eval()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="module")
def methods(root: Path) -> dict[str, SlimCLR]:
    """Both families, trained; every width exported below `root`, and loaded by a process that has no wisp."""
    found = {model: trained(model) for model in WIDTHS}
    folders = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exports, "export_program", lambda network, images, path: path.write_bytes(b"left out"))
        for model, method in found.items():
            spec = stock.spec(model, SIZE)
            for name, encoder in method.encoders().items():
                export_encoder(encoder, spec, root / model / name, card=card(spec, name=name))
                folders += [] if name == "1.0" else [f"{model}/{name}"]
    torch.save(batch(3).views[0], root / "images.pt")
    command = [sys.executable, "-c", STRANGER, str(torch.get_num_threads()), *folders]
    subprocess.run(command, cwd=root, check=True)
    return found


@torch.no_grad()
def features(encoder: nn.Module) -> Tensor:
    return encoder(batch(3).views[0])


@pytest.mark.parametrize("model", WIDTHS)
def test_a_stranger_computes_what_the_sub_network_computes(methods: dict[str, SlimCLR], root: Path, model: str) -> None:
    method, host = methods[model], methods[model].base.network
    full = stock.spec(model, SIZE).features
    for width, subnet in zip(WIDTHS[model][1:], method.narrow.narrow, strict=True):
        folder = root / model / str(width)
        assert read_card(folder)["files"]["loader"] == "load_narrow.py"
        loaded = torch.load(folder / "features.pt")
        assert loaded.shape == (4, round(width * full))
        assert torch.equal(loaded, features(method.encoders()[str(width)]))
        # The sub-network itself has heads behind its encoder: the same ones, behind the stranger's features.
        with torch.no_grad():
            embedding = subnet(batch(3).views[0], subnet.gather(host))
            assert torch.equal(subnet.export(host)[1:](loaded), embedding)


@pytest.mark.parametrize("model", WIDTHS)
def test_the_full_width_is_plain_timm(methods: dict[str, SlimCLR], root: Path, model: str) -> None:
    folder = root / model / "1.0"
    assert not (folder / "narrow.json").exists()
    sized = {"img_size": SIZE} if model.startswith("vit") else {}
    plain = timm.create_model(model, num_classes=0, **sized).eval()
    plain.load_state_dict(read_weights(folder / "encoder.safetensors"), strict=True)
    assert torch.equal(features(plain), features(methods[model].base.network[0]))


@pytest.mark.parametrize("model", WIDTHS)
def test_every_width_has_moved_norms_and_statistics_of_its_own(methods: dict[str, SlimCLR], model: str) -> None:
    """Or the equalities above would hold for networks that share, or have never changed, what should differ."""
    host = dict(methods[model].base.network.named_parameters())
    for subnet in methods[model].narrow.narrow:
        norms = {name: subnet.norms[key] for name, key in subnet._private.items()}
        encoder = [name for name in norms if name.startswith("0.")]
        assert len(encoder) > 20
        for name in encoder:
            assert not torch.equal(norms[name], host[name][: len(norms[name])]), name
            assert bool((norms[name] != float(name.endswith("weight"))).any()), name
        own = subnet.statistics
        assert len(own.where)
        assert not (own.variance[own.where] == 1).any()
