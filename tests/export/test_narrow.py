"""Narrow networks: their sizes, and the loader that needs no wisp."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wisp.encoders import stock
from wisp.errors import WispError
from wisp.export.card import card, read_card
from wisp.export.stock import export_encoder, load_encoder
from wisp.subnet.channels import trace
from wisp.subnet.resize import resized

SIZE = 32
STRANGER = """
import sys, torch
sys.modules["wisp"] = None
from load_narrow import load
torch.set_num_threads(int(sys.argv[1]))  # another number of threads, another order of summation
images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    torch.save(load()(images), "features.pt")
"""


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    folder = tmp_path_factory.mktemp("narrow")
    spec = stock.spec("mobilenetv3_small_100", SIZE)
    encoder = spec.build().eval()
    network = resized(encoder, trace(encoder, torch.zeros(2, 3, SIZE, SIZE)), 0.5).eval()
    export_encoder(network, spec, folder, card=card(spec, name="0.5"))
    return network, folder


def features_of(network: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return network(torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)))


def test_the_folder_loads_without_wisp(narrow: tuple[torch.nn.Module, Path]) -> None:
    network, folder = narrow
    files = read_card(folder)["files"]
    assert files["narrow"] == "narrow.json"
    assert read_card(folder)["load"] == ["from load_narrow import load", "encoder = load()"]
    subprocess.run([sys.executable, "-c", STRANGER, str(torch.get_num_threads())], cwd=folder, check=True)
    assert torch.equal(torch.load(folder / "features.pt"), features_of(network))


def test_wisp_loads_it_too(narrow: tuple[torch.nn.Module, Path]) -> None:
    network, folder = narrow
    loaded = load_encoder(folder)
    assert torch.equal(features_of(loaded), features_of(network))
    assert loaded.conv_stem.out_channels == network.conv_stem.out_channels
    assert all(p.requires_grad for p in loaded.parameters()), "it can be trained on"


def test_sizes_are_only_what_differs(narrow: tuple[torch.nn.Module, Path]) -> None:
    content = json.loads((narrow[1] / "narrow.json").read_text())
    assert content["modules"]["conv_stem"] == {"out_channels": 8}
    assert "global_pool" not in content["modules"]


def test_a_stock_network_needs_no_sizes(tmp_path: Path) -> None:
    spec = stock.spec("resnet8", 16)
    export_encoder(spec.build(), spec, tmp_path, card=card(spec, name="1x"))
    assert not (tmp_path / "narrow.json").exists()


def test_a_damaged_list_says_so(narrow: tuple[torch.nn.Module, Path], tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(narrow[1], copy)
    (copy / "narrow.json").write_text("{}")
    with pytest.raises(WispError, match=r"narrow\.json cannot be read"):
        load_encoder(copy)
