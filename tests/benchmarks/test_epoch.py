"""The epoch benchmark around stand-ins for lightly's blocks: the recipe is the same on both sides."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from benchmarks import epoch, noise
from wisp.data.plans import PLANS
from wisp.encoders.stock import CIFAR_MEAN
from wisp.methods.barlow_twins import Config


class View:
    made: list[dict[str, Any]]

    def __init__(self, **settings: Any) -> None:
        View.made.append(settings)

    def __call__(self, image: Image.Image) -> Tensor:
        return to_tensor(image)


class Views:
    def __init__(self, views: list[View]) -> None:
        self.views = views

    def __call__(self, image: Image.Image) -> list[Tensor]:
        return [view(image) for view in self.views]


class Data:
    def __init__(self, pictures: epoch.Pictures, transform: Callable[[Any], Any]) -> None:
        self.pictures = pictures
        pictures.transform = transform

    @classmethod
    def from_torch_dataset(cls, pictures: epoch.Pictures, transform: Callable[[Any], Any]) -> Data:
        return cls(pictures, transform)

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int, str]:
        return *self.pictures[index], str(index)


class Loss(nn.Module):
    def __init__(self, lambda_param: float) -> None:
        super().__init__()
        assert lambda_param == Config().lam

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean() + a.square().mean()


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    View.made = []
    blocks = {
        "lightly": {},
        "lightly.data": {"LightlyDataset": Data},
        "lightly.loss": {"BarlowTwinsLoss": Loss},
        "lightly.models": {},
        "lightly.models.modules": {"BarlowTwinsProjectionHead": lambda *sizes: nn.Linear(sizes[0], sizes[2])},
        "lightly.transforms": {},
        "lightly.transforms.multi_view_transform": {"MultiViewTransform": Views},
        "lightly.transforms.byol_transform": {"BYOLView1Transform": View},
    }
    for name, content in blocks.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("lightly")
def test_an_epoch_beside_an_epoch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(epoch, "Config", partial(Config, hidden=16, out=24))
    monkeypatch.setattr(epoch, "confine", lambda threads: None)
    monkeypatch.setattr(epoch, "WORKERS", (0, 1))
    monkeypatch.setattr(epoch, "surroundings", lambda bench, **_: {"bench": bench})
    data = noise.noise_parquet(tmp_path / "noise.parquet", 40)
    epoch.main(["--data", str(data), "--images", "20", "--batch", "8", "--repeats", "1"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["precision"] for row in rows] == ["fp32", "auto"]
    for row in rows:
        assert row["images"] == 16  # the last, incomplete batch is left out on both sides
        assert row["wisp_over_lightly"] > 0
        assert row["lightly_workers"] in (0, 1)
        assert set(row["images_per_s"]) == {"wisp", "lightly, 0 workers", "lightly, 1 workers"}
        assert 0 < row["data_wait"] < 1
        assert str(tmp_path) not in json.dumps(row)
    assert rows[0]["resolved"] == "fp32"
    first, second = View.made
    assert first == {
        "input_size": 32,
        "cj_prob": 0.8,
        "cj_strength": 1.0,
        "cj_bright": 0.4,
        "cj_contrast": 0.4,
        "cj_sat": 0.2,
        "cj_hue": 0.1,
        "min_scale": 0.08,
        "random_gray_scale": 0.2,
        "gaussian_blur": 0.0,
        "sigmas": (0.1, 2.0),
        "solarization_prob": 0.0,
        "hf_prob": 0.5,
        "normalize": {"mean": list(CIFAR_MEAN), "std": first["normalize"]["std"]},
    }
    assert second == first | {"solarization_prob": 0.2}
    assert len(PLANS["sacl_xd_cifar10"].views) == 2


@pytest.mark.usefixtures("lightly")
def test_both_sides_start_from_the_same_encoder(tmp_path: Path) -> None:
    from wisp.run import Run
    from wisp.session import prepare

    data = str(noise.noise_parquet(tmp_path / "noise.parquet", 20))
    run = Run(data=data, method=Config(hidden=16, out=24), model="resnet8", batch_size=8, epochs=1)
    session = prepare(run)
    ours = epoch.WispEpoch(session, "fp32", tmp_path / "run")
    theirs = epoch.LightlyEpoch(session, epoch.decoded(session.train))
    one, two = ours.method.encoders()["1x"].state_dict(), theirs.model[0].state_dict()
    assert all(torch.equal(one[name], two[name]) for name in two)
    ours()
    ours()
    assert theirs.run(0) > 0
    assert len(ours.waits) == 2
    assert any(not torch.equal(one[name], value) for name, value in session.untrained().state_dict().items())
