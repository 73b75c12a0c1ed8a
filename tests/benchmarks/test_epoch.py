"""The epoch benchmark around stand-ins for lightly's blocks: the recipe is the same on both sides."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
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
from wisp.methods import barlow_twins, byol, dino, moco_v2
from wisp.run import Run
from wisp.session import Session, prepare

BarlowConfig = barlow_twins.Config


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
        assert lambda_param == BarlowConfig().lam

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean() + a.square().mean()


class Apart(nn.Module):
    """Stands for every loss of an online and a slow side; keeps what it was made with."""

    made: dict[str, Any]

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        Apart.made = settings

    def forward(self, ours: Any, theirs: Any, **_: Any) -> Tensor:
        sides = [torch.stack(list(side)) for side in (ours, theirs)]
        assert any(side.requires_grad for side in sides)
        assert not all(side.requires_grad for side in sides), "the slow side has no gradient"
        return (sides[0] - sides[1]).square().mean()


class Split(nn.BatchNorm2d):
    def __init__(self, features: int, splits: int, **settings: Any) -> None:
        super().__init__(features, **settings)
        self.splits = splits


def update_momentum(model: nn.Module, slow: nn.Module, m: float) -> None:
    with torch.no_grad():
        for one, other in zip(model.parameters(), slow.parameters(), strict=True):
            other.mul_(m).add_(one, alpha=1 - m)


HEADS = ("BarlowTwinsProjectionHead", "MoCoProjectionHead", "BYOLProjectionHead", "BYOLPredictionHead")


@pytest.fixture
def lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    View.made = []
    heads = {name: lambda *sizes: nn.Linear(sizes[0], sizes[2]) for name in HEADS}
    dino = {"DINOProjectionHead": lambda *sizes, batch_norm: nn.Linear(sizes[0], sizes[3])}
    losses = dict.fromkeys(("NTXentLoss", "NegativeCosineSimilarity", "DINOLoss"), Apart)
    blocks = {
        "lightly": {},
        "lightly.data": {"LightlyDataset": Data},
        "lightly.loss": {"BarlowTwinsLoss": Loss, **losses},
        "lightly.models": {},
        "lightly.models.batchnorm": {"SplitBatchNorm": Split},
        "lightly.models.modules": heads | dino,
        "lightly.models.utils": {
            "deactivate_requires_grad": lambda module: module.requires_grad_(False),
            "update_momentum": update_momentum,
            "batch_shuffle": lambda x: (x.flip(0), None),
            "batch_unshuffle": lambda x, order: x.flip(0),
        },
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
    monkeypatch.setattr(barlow_twins, "Config", partial(BarlowConfig, hidden=16, out=24))
    monkeypatch.setattr(epoch, "confine", lambda threads: None)
    monkeypatch.setattr(epoch, "WORKERS", (0, 1))
    monkeypatch.setattr(epoch, "surroundings", lambda bench, **_: {"bench": bench})
    data = noise.noise_parquet(tmp_path / "noise.parquet", 40)
    epoch.main(["--data", str(data), "--images", "20", "--batch", "8", "--repeats", "1", "--steps", "1"])
    alone, *rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (alone["method"], alone["limit"], alone["batch"]) == ("barlow_twins", 1.05, 8)
    assert alone["step_over_lightly"] > 0
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


SMALL = {
    "barlow_twins": BarlowConfig(hidden=16, out=24),
    "moco_v2": moco_v2.Config(hidden=16, out=24, splits=4),
    "byol": byol.Config(hidden=16, out=24),
    "dino": dino.Config(hidden=16, out=24, prototypes=32),
}


def session_of(method: str, tmp_path: Path) -> Session:
    data = str(noise.noise_parquet(tmp_path / "noise.parquet", 40))
    kind = sys.modules[type(SMALL[method]).__module__].SETTINGS["small"].optimizer
    return prepare(Run(data=data, method=SMALL[method], model="resnet8", batch_size=8, epochs=1, optimizer=kind))


@pytest.mark.usefixtures("lightly")
@pytest.mark.parametrize("method", list(SMALL))
def test_both_sides_start_from_the_same_encoder(method: str, tmp_path: Path) -> None:
    session = session_of(method, tmp_path)
    ours = epoch.WispEpoch(session, "fp32", tmp_path / "run")
    theirs = epoch.LightlyEpoch(session, epoch.decoded(session.train))
    one, two = ours.method.encoders()["1x"].state_dict(), theirs.model.encoder.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in two)
    ours()
    ours()
    assert theirs.run(0) > 0
    assert len(ours.waits) == 2
    assert any(not torch.equal(one[name], value) for name, value in session.untrained().state_dict().items())
    row = epoch.step_row(ours, theirs, repeats=1)
    assert row["step_over_lightly"] > 0
    assert set(row["seconds"]) == {"wisp", "lightly"}


@pytest.mark.usefixtures("lightly")
def test_settings_and_limits_are_those_of_the_method(tmp_path: Path) -> None:
    session = session_of("moco_v2", tmp_path)
    theirs = epoch.lightly_method(session)
    queue = session.method().chosen()["queue"]
    assert Apart.made == {"temperature": 0.2, "memory_bank_size": (queue, 24)}
    splits = [module.splits for module in theirs.encoder.modules() if isinstance(module, Split)]
    assert splits
    assert set(splits) == {4}
    assert epoch.memory_format(theirs) is torch.contiguous_format
    epoch.lightly_method(session_of("dino", tmp_path))
    assert Apart.made == {"output_dim": 32, "student_temp": 0.1, "center_momentum": 0.9}
    assert epoch.limit("fp32", "barlow_twins") == 0.90
    assert epoch.limit("auto", "dino") == 1.05
    options = Namespace(images=40, batch=8)
    assert {name: epoch.run_of(name, tmp_path, options).optimizer for name in epoch.METHODS} == {
        "barlow_twins": "lars",
        "moco_v2": "sgd",
        "byol": "lars",
        "dino": "lars",
    }


@pytest.mark.usefixtures("lightly")
def test_slow_copies_of_the_stand_ins_follow(tmp_path: Path) -> None:
    """What makes the comparison one of equals: both sides move their slow copy in every step."""
    theirs = epoch.LightlyEpoch(session_of("byol", tmp_path), epoch.Pictures([], []))
    before = [p.clone() for p in theirs.model.slow_encoder.parameters()]
    views = [torch.randn(8, 3, 32, 32) for _ in range(2)]
    theirs.step(views, 0.0)
    theirs.step(views, 0.0)
    assert any(not torch.equal(a, b) for a, b in zip(before, theirs.model.slow_encoder.parameters(), strict=True))
