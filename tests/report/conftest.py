"""Run folders and galleries as a run would leave them, without running one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from wisp.report.gallery import Gallery

STEPS_PER_EPOCH = 12


def make_run(
    folder: Path,
    *,
    epochs: int = 20,
    finished: bool = True,
    labels: bool = True,
    nan: bool = False,
    exported: bool = True,
    warning: str | None = None,
    gain: float = 0.0,
    **settings: Any,
) -> Path:
    """A SACL-XD run of two encoders; `settings` replace entries of run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    run = {
        "schema": 1,
        "method_name": "sacl_xd",
        "model": "resnet20",
        "data": "digits",
        "val": None,
        "epochs": epochs,
        "batch_size": 128,
        "image_size": 32,
        "lr": 0.3,
        "seed": 0,
        "precision": "fp32",
        "method": {"width": 2.0, "alpha": 0.6, "lambda_": 0.0051, "projector": {"hidden": 2048, "layers": 3}},
        **settings,
    }
    write(folder / "run.json", run)
    write(folder / "env.json", {"python": "3.11.2", "torch": "2.15.0", "platform": "Linux", "threads": 2})
    (folder / "train.log").write_text("started\n", encoding="utf-8")
    rows = [*step_rows(epochs, nan), *epoch_rows(epochs, finished, labels, nan, warning, gain)]
    rows.sort(key=lambda row: (row["step"], row["kind"] == "epoch"))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not finished:
        return folder
    knn = {"20": 95.1 + gain, "200": 90.2 + gain}
    health = {"std": 0.11, "effective_rank": 31.4, "alignment": 0.42, "uniformity": -2.9, "warning": warning}
    sizes = {"1x": 272_000, "2x": 1_080_000}
    encoders = {
        name: {
            "parameters": sizes[name],
            "features": 64 * (1 + order),
            "forward_flops": 4.1e7 * (1 + order) ** 2,
            "knn": {k: value + 0.8 * order for k, value in knn.items()} if labels else None,
            "linear": 96.8 + gain + 0.6 * order if labels else None,
            "health": health,
            "files": {},
            "onnx": {"max_difference": 2e-6, "tolerance": 1e-4},
        }
        for order, name in enumerate(sizes)
    }
    result = {
        "schema": 1,
        "recipe": run,
        "commit": "0123abc",
        "hardware": {"device": "cpu", "name": "AMD EPYC", "threads": 2, "cores": 2, "system": "Linux"},
        "seed": run["seed"],
        "budget": {"epochs": epochs, "images": 1617, "steps": epochs * STEPS_PER_EPOCH, "batch_size": 128},
        "protocol": {"knn": {"k": [20, 200], "temperature": 0.07}, "linear": {"epochs": 100}},
        "encoders": encoders,
        "untrained": {"knn": {"20": 88.0, "200": 80.1}, "linear": 93.1} if labels else None,
        "cost": {
            "branches": {"host": 8.1e10, "sub-network": 2.1e10, "frozen": 3.4e10, "backward": 2.04e11},
            "step_flops": 3.4e11,
            "total_flops": 3.4e11 * epochs * STEPS_PER_EPOCH,
            "parameters": 1_080_000 + 8_400_000,
            "activations": 41_000_000,
            "peak_memory": 612_000_000,
            "images_per_s": 1873.2,
            "seconds": 13.4 * epochs,
            "data_wait": 0.021,
        },
        "resolved": {"warmup_steps": 24, "queue": 0},
        "finished": "2025-11-20T21:30:00+00:00",
    }
    write(folder / "result.json", result)
    for name in encoders if exported else ():
        target = folder / "exported" / name
        target.mkdir(parents=True)
        (target / "encoder.safetensors").write_bytes(b"0" * 1000)
        (target / "encoder.pt2").write_bytes(b"0" * 1000)
        load = ["import torch", "encoder = torch.export.load('encoder.pt2').module()", "features = encoder(images)"]
        write(target / "card.json", {"schema": 1, "name": name, "build": None, "load": load})
    return folder


def step_rows(epochs: int, nan: bool) -> list[dict[str, Any]]:
    """Falling terms with a little noise."""
    noise = np.random.default_rng(0).normal(size=epochs * STEPS_PER_EPOCH)
    rows = []
    for step, wobble in enumerate(noise.tolist()):
        fall = math.exp(-step / (4 * STEPS_PER_EPOCH))
        terms = {
            "host": 40 * fall + 12 + 0.5 * wobble,
            "sub-network": 55 * fall + 15 + 0.5 * wobble,
            "inner": 8 * fall + 1.5,
        }
        rows.append(
            {
                "kind": "step",
                "step": step,
                "epoch": step // STEPS_PER_EPOCH,
                "loss": math.nan if nan and step % 5 == 3 else sum(terms.values()),
                "terms": terms,
                "lr": 0.3 * math.cos(math.pi / 2 * step / len(noise)),
                "images_per_s": 1870 + 40 * wobble,
                "data_wait": 0.02,
            }
        )
    return rows


def epoch_rows(
    epochs: int, finished: bool, labels: bool, nan: bool, warning: str | None, gain: float
) -> list[dict[str, Any]]:
    """What the monitor writes."""
    rows = []
    for epoch in range(epochs):
        last = finished and epoch == epochs - 1  # the loop leaves the last epoch to the final evaluation
        risen = 1 - math.exp(-(epoch + 1) / 5)
        knn = {
            "1x": {"20": 86 + (9 + gain) * risen, "200": 79 + (11 + gain) * risen},
            "2x": {"20": 87 + (9 + gain) * risen, "200": 80 + (11 + gain) * risen},
        }
        rows.append(
            {
                "kind": "epoch",
                "epoch": epoch,
                "step": (epoch + 1) * STEPS_PER_EPOCH,
                "knn": knn if labels and not last else None,
                "health": None
                if last
                else {
                    "std": 0.05 + 0.06 * risen,
                    "effective_rank": math.nan if nan else 8 + 24 * risen,
                    "alignment": 0.8 - 0.4 * risen,
                    "uniformity": -1.2 - 1.8 * risen,
                    "warning": warning,
                },
                "diagnostics": {
                    "inner_correlation": 0.35 + 0.5 * risen,
                    "inner_decorrelation": 0.12 - 0.08 * risen,
                    "kept_channels_changed": 0.3 * (1 - risen),
                },
                "seconds": 13.4,
            }
        )
    return rows


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def digits_gallery(count: int = 300, labels: bool = True) -> Gallery:
    """scikit-learn's digits at 32 px, their pixels as features."""
    digits = load_digits()
    pixels = np.kron(digits.images[:count] * 15.9, np.ones((4, 4))).astype(np.uint8)
    return Gallery(
        images=np.repeat(pixels[:, None], 3, axis=1),
        features=digits.data[:count].astype(np.float32),
        names=[f"digit-{index:04d}.png" for index in range(count)],
        labels=digits.target[:count] if labels else None,
        classes=[str(name) for name in digits.target_names],
    )


@pytest.fixture
def run_folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run folder below tmp_path: `run_folder("name", epochs=3, ...)`."""
    return lambda name="run", **options: make_run(tmp_path / name, **options)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run, to be read by many tests and changed by none."""
    return make_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture(scope="session")
def gallery() -> Gallery:
    """120 digits."""
    return digits_gallery(120)
