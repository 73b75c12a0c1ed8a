"""One epoch of Barlow Twins on CIFAR-10, data included: wisp beside the same recipe of lightly's building blocks.

Both train a ResNet-20 with the plan `sacl_xd_cifar10`, the same head sizes, LARS and schedule, in channels_last, and
start from decoded images in memory. wisp runs its whole loop (rows, checkpoint); lightly runs the loop of its
published example: its two BYOL view transforms with the plan's probabilities, `LightlyDataset`, torch's `DataLoader`
with 0, 1 and 2 workers (the best counts), `BarlowTwinsProjectionHead`, `BarlowTwinsLoss`. Needs the `bench` extra.

    python -m benchmarks.epoch --data TRAIN.parquet [--images 50000] [--repeats 5] > results/benchmarks/epoch.jsonl

One JSON object a line: precision, wisp_over_lightly (at most 0.90 for fp32; 0.40 for auto on a CPU with AMX; lightly
is always fp32). Without --data the images are noise: the arithmetic is the same.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.clock import Times, confine, has_amx, interleaved, line, ratio, surroundings
from benchmarks.noise import noise_parquet
from wisp.data.loader import Loader
from wisp.data.plans import PLANS
from wisp.data.sources import Source
from wisp.data.views import View
from wisp.encoders.stock import EncoderSpec
from wisp.methods.barlow_twins import Config
from wisp.resolve import Resolved
from wisp.run import Run
from wisp.session import Session, data_name, prepare
from wisp.train import precision as formats
from wisp.train.journal import Journal
from wisp.train.loop import Plan, Progress, fit
from wisp.train.optimizers import build
from wisp.train.schedules import WarmupCosine
from wisp.train.setup import fabric_for

WORKERS = (0, 1, 2)
LIMITS = {"fp32": 0.90, "auto": 0.40}
Precision = Literal["fp32", "auto"]


class Silent:
    """A screen that nobody watches."""

    def on_step(self, step: int, loss: float, images_per_s: float, data_wait: float) -> None:
        """Nothing."""

    def on_epoch(self, row: dict[str, Any]) -> None:
        """Nothing."""


class WispEpoch:
    """wisp's own loop over one epoch; every call trains one more."""

    def __init__(self, session: Session, precision: Precision, folder: Path) -> None:
        r, spec = session.resolved, session.spec
        self.session, self.folder = session, folder
        self.resolved = formats.resolve(precision, "cpu")
        self.fabric = fabric_for(
            kind="cpu", precision=self.resolved, devices=1, nodes=1, deterministic=False, idle_parameters=False
        )
        self.method = session.method().to(memory_format=torch.channels_last)
        self.optimizer = optimizer(r, self.method)
        start = time.perf_counter()
        self.loader = Loader(
            session.train,
            self.method.views,
            image_size=spec.image_size,
            mean=spec.mean,
            std=spec.std,
            batch_size=r.batch_size,
            seed=0,
        )
        self.decoding = time.perf_counter() - start
        self.waits: list[float] = []
        folder.mkdir(parents=True)

    def __call__(self) -> None:
        """One epoch, rows and checkpoint included, evaluation not."""
        r = self.session.resolved
        journal = Journal(self.folder, "none")
        progress = fit(
            fabric=self.fabric,
            method=self.method,
            optimizer=self.optimizer,
            loader=self.loader,
            plan=Plan(epochs=1, batch_size=r.batch_size, schedule=schedule(r), seed=0, monitor_every=2),
            folder=self.folder,
            journal=journal,
            screen=Silent(),
            monitor=lambda epoch: {},
            progress=Progress(),
        )
        journal.close()
        self.waits.append(progress.waited / progress.seconds)


class Pictures(torch.utils.data.Dataset[tuple[Any, int]]):
    """Decoded PIL images as torchvision's data sets give them; lightly puts its transform in."""

    def __init__(self, images: list[Image.Image], labels: list[int]) -> None:
        self.images, self.labels = images, labels
        self.transform: Callable[[Image.Image], Any] = lambda image: image

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), self.labels[index]


class LightlyEpoch:
    """The same recipe of lightly's building blocks; every call trains one more epoch with `workers` processes."""

    def __init__(self, session: Session, pictures: Pictures) -> None:
        from lightly.data import LightlyDataset
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules import BarlowTwinsProjectionHead
        from lightly.transforms.multi_view_transform import MultiViewTransform

        r, spec, config = session.resolved, session.spec, session.run.method
        views = MultiViewTransform([lightly_view(view, spec) for view in PLANS[r.plan].views])
        self.data = LightlyDataset.from_torch_dataset(pictures, transform=views)
        head = BarlowTwinsProjectionHead(spec.features, config.hidden, config.out)
        network = nn.Sequential(session.untrained(), head)
        self.model = network.to(memory_format=torch.channels_last).train()
        self.criterion, self.scale = BarlowTwinsLoss(lambda_param=config.lam), config.scale
        self.resolved, self.optimizer = r, optimizer(r, self.model)

    def run(self, workers: int) -> float:
        """One epoch in float32; the last loss."""
        r, rates = self.resolved, schedule(self.resolved)
        loader = torch.utils.data.DataLoader(
            self.data, batch_size=r.batch_size, shuffle=True, drop_last=True, num_workers=workers
        )
        loss = torch.zeros(())
        for step, (views, _, _) in enumerate(loader):
            for group in self.optimizer.param_groups:
                group["lr"] = rates.at(step)
            xa, xb = (view.contiguous(memory_format=torch.channels_last) for view in views)
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.scale * self.criterion(self.model(xa), self.model(xb))
            loss.backward()
            self.optimizer.step()
        return loss.item()


def lightly_view(view: View, spec: EncoderSpec) -> Callable[[Image.Image], Tensor]:
    """A BYOL view of lightly with the probabilities and strengths of ours."""
    from lightly.transforms.byol_transform import BYOLView1Transform

    made: Callable[[Image.Image], Tensor] = BYOLView1Transform(
        input_size=view.pixels(spec.image_size),
        cj_prob=view.jitter,
        cj_strength=1.0,
        cj_bright=view.brightness,
        cj_contrast=view.contrast,
        cj_sat=view.saturation,
        cj_hue=view.hue,
        min_scale=view.crop_scale[0],
        random_gray_scale=view.gray,
        gaussian_blur=view.blur,
        sigmas=view.blur_sigma,
        solarization_prob=view.solarize,
        hf_prob=view.flip,
        normalize={"mean": list(spec.mean), "std": list(spec.std)},
    )
    return made


def optimizer(r: Resolved, module: nn.Module) -> torch.optim.Optimizer:
    """The paper's LARS."""
    return build("lars", module, lr=r.lr, weight_decay=r.weight_decay, trust=r.trust, clip=r.clip)


def schedule(r: Resolved) -> WarmupCosine:
    """Of a run of one epoch."""
    return WarmupCosine(lr=r.lr, steps=r.steps_per_epoch, warmup=r.warmup_steps)


def decoded(source: Source) -> Pictures:
    """Every image of a source as PIL, and its label."""
    images = [Image.fromarray(source.read(i).permute(1, 2, 0).contiguous().numpy()) for i in range(len(source))]
    return Pictures(images, [source.label(i) or 0 for i in range(len(source))])


def measure(data: Path, name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows: one epoch of every contender a repeat."""
    run = Run(
        data=str(data),
        method=Config(),
        subset=options.images,
        batch_size=options.batch,
        epochs=1,
        optimizer="lars",  # the paper's; so short a run would not take it by itself
    )
    session = prepare(run)
    ours = {kind: WispEpoch(session, kind, folder / kind) for kind in LIMITS}
    theirs = LightlyEpoch(session, decoded(session.train))
    contenders: dict[str, Callable[[], object]] = {f"wisp {kind}": epoch for kind, epoch in ours.items()}
    for workers in WORKERS:
        contenders[f"lightly {workers}"] = partial(theirs.run, workers)
    times = interleaved(contenders, repeats=options.repeats, warmup=0)
    best = min(WORKERS, key=lambda workers: statistics.median(times[f"lightly {workers}"]))
    images = session.resolved.steps * session.resolved.batch_size
    about = {"images": images, "batch": session.resolved.batch_size, "model": run.model, "data": name}
    return [
        {
            "precision": kind,
            "resolved": epoch.resolved,
            "wisp_over_lightly": ratio(times, f"wisp {kind}", f"lightly {best}"),
            "limit": limit(kind),
            "lightly_workers": best,
            "images_per_s": {
                "wisp": rate(times, f"wisp {kind}", images),
                **{f"lightly, {workers} workers": rate(times, f"lightly {workers}", images) for workers in WORKERS},
            },
            "data_wait": round(statistics.median(epoch.waits), 3),
            "decode_seconds": round(epoch.decoding, 1),
            **about,
        }
        for kind, epoch in ours.items()
    ]


def limit(kind: str) -> float | None:
    """What `wisp_over_lightly` must reach; bf16 needs AMX for its limit."""
    return LIMITS[kind] if kind == "fp32" or has_amx() else None


def rate(times: Times, contender: str, images: int) -> float:
    """Median images per second."""
    return round(images / statistics.median(times[contender]), 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="a CIFAR-10 parquet file; noise when absent")
    parser.add_argument("--images", type=int, default=50_000, help="at most, of one epoch; the ratio is per image")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5, help="interleaved epochs of each; 5 or more for a result")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    confine(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = options.data or noise_parquet(folder / "noise.parquet", options.images)
        name = data_name(str(options.data)) if options.data else "noise"
        about = surroundings("epoch", repeats=options.repeats, packages=("torchvision", "lightly", "pillow"))
        for row in measure(data, name, options, folder / "runs"):
            print(line(row, about), flush=True)


if __name__ == "__main__":
    main()
