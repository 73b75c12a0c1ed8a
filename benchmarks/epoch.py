"""One epoch of a method on CIFAR-10, data included: wisp beside the same recipe of lightly's building blocks.

Both train a ResNet-20 with the method's view plan for small images, the same head sizes, optimizer and schedule, in
channels_last where lightly's blocks take it, and start from decoded images in memory. wisp runs its whole loop (rows,
checkpoint); lightly runs the loop of its published examples (`benchmarks/lightly_methods.py`): its BYOL view transform
with the plan's probabilities, `LightlyDataset`, torch's `DataLoader` with 0, 1 and 2 workers (the best counts), its
heads, losses and momentum update. A step alone, on the same views for both, has a line of its own. Needs the `bench`
extra.

    python -m benchmarks.epoch --data TRAIN.parquet [--method moco_v2] [--images 50000] > results/benchmarks/epoch.jsonl

One JSON object a line: method, step_over_lightly (fp32, at most 1.05); precision, wisp_over_lightly (Barlow Twins: at
most 0.90 for fp32, 0.40 for auto on a CPU with AMX; the others at most 1.05; lightly is always fp32). Without --data
the images are noise: the arithmetic is the same.
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

from benchmarks.clock import Times, confine, has_amx, interleaved, line, ratio, seconds, surroundings
from benchmarks.lightly_methods import METHODS, lightly_method, lightly_view, memory_format
from benchmarks.noise import noise_parquet
from wisp import methods
from wisp.data.loader import Batch, Loader
from wisp.data.plans import PLANS
from wisp.data.sources import Source
from wisp.dividing import data_name
from wisp.resolve import Resolved
from wisp.run import Run
from wisp.session import Session, prepare
from wisp.train import precision as formats
from wisp.train.journal import Journal
from wisp.train.loop import Plan, Progress, fit
from wisp.train.optimizers import build
from wisp.train.schedules import WarmupCosine
from wisp.train.setup import fabric_for

WORKERS = (0, 1, 2)
LIMITS = {"fp32": 0.90, "auto": 0.40}
"""Of an epoch of Barlow Twins."""
METHOD_LIMIT = 1.05
"""Of a step, and of an epoch of any other method."""
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

    def step(self, views: Sequence[Tensor], progress: float) -> Tensor:
        """One step without data, rows and checkpoint; its loss."""
        self.method.train()
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.method(Batch(views=tuple(views), index=torch.arange(len(views[0]))), progress)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        self.optimizer.step()
        self.method.after_step(progress)
        return loss.detach()


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
        from lightly.transforms.multi_view_transform import MultiViewTransform

        r, spec = session.resolved, session.spec
        views = MultiViewTransform([lightly_view(view, spec) for view in PLANS[r.plan].views])
        self.data = LightlyDataset.from_torch_dataset(pictures, transform=views)
        self.model = lightly_method(session)
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
            loss = self.step(views, step / r.steps)
        return loss.item()

    def step(self, views: Sequence[Tensor], progress: float) -> Tensor:
        """One step in float32; its loss."""
        laid = [view.contiguous(memory_format=memory_format(self.model)) for view in views]
        self.optimizer.zero_grad(set_to_none=True)
        loss: Tensor = self.model(laid, progress)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def optimizer(r: Resolved, module: nn.Module) -> torch.optim.Optimizer:
    """The paper's."""
    return build(r.optimizer, module, lr=r.lr, weight_decay=r.weight_decay, trust=r.trust, clip=r.clip)


def schedule(r: Resolved) -> WarmupCosine:
    """Of a run of one epoch."""
    return WarmupCosine(lr=r.lr, steps=r.steps_per_epoch, warmup=r.warmup_steps)


def decoded(source: Source) -> Pictures:
    """Every image of a source as PIL, and its label."""
    images = [Image.fromarray(source.read(i).permute(1, 2, 0).contiguous().numpy()) for i in range(len(source))]
    return Pictures(images, [source.label(i) or 0 for i in range(len(source))])


def run_of(method: str, data: Path, options: argparse.Namespace) -> Run[Any]:
    """One epoch of `method` with its defaults."""
    module = methods.load(method)
    return Run(
        data=str(data),
        method=module.Config(),
        subset=options.images,
        batch_size=options.batch,
        epochs=1,
        optimizer=module.SETTINGS["small"].optimizer,  # the paper's; so short a run would not take LARS by itself
    )


def step_row(ours: WispEpoch, theirs: LightlyEpoch, repeats: int) -> dict[str, Any]:
    """The row of a step alone, fp32, behind all slow starts: the same random views for both, several a repeat."""
    r, spec = ours.session.resolved, ours.session.spec
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(r.batch_size, 3, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
        for side in PLANS[r.plan].pixels(spec.image_size)
    ]
    contenders: dict[str, Callable[[], object]] = {
        "wisp": partial(ours.step, views, 0.5),
        "lightly": partial(theirs.step, views, 0.5),
    }
    times = interleaved(contenders, repeats=repeats, warmup=1)
    return {"step_over_lightly": ratio(times, "wisp", "lightly"), "limit": METHOD_LIMIT, "seconds": seconds(times)}


def measure(session: Session, name: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The rows: steps in turns, then one epoch of every contender a repeat."""
    method = session.run.method_name
    ours = {kind: WispEpoch(session, kind, folder / kind) for kind in LIMITS}
    theirs = LightlyEpoch(session, decoded(session.train))
    images = session.resolved.steps * session.resolved.batch_size
    about = {"batch": session.resolved.batch_size, "model": session.run.model, "data": name}
    rows = [{"method": method, "precision": "fp32", **step_row(ours["fp32"], theirs, options.steps), **about}]
    if not options.repeats:
        return rows
    contenders: dict[str, Callable[[], object]] = {f"wisp {kind}": epoch for kind, epoch in ours.items()}
    for workers in WORKERS:
        contenders[f"lightly {workers}"] = partial(theirs.run, workers)
    times = interleaved(contenders, repeats=options.repeats, warmup=0)
    best = min(WORKERS, key=lambda workers: statistics.median(times[f"lightly {workers}"]))
    return rows + [
        {
            "method": method,
            "precision": kind,
            "resolved": epoch.resolved,
            "wisp_over_lightly": ratio(times, f"wisp {kind}", f"lightly {best}"),
            "limit": limit(kind, method),
            "lightly_workers": best,
            "images_per_s": {
                "wisp": rate(times, f"wisp {kind}", images),
                **{f"lightly, {workers} workers": rate(times, f"lightly {workers}", images) for workers in WORKERS},
            },
            "data_wait": round(statistics.median(epoch.waits), 3),
            "decode_seconds": round(epoch.decoding, 1),
            "images": images,
            **about,
        }
        for kind, epoch in ours.items()
    ]


def limit(kind: str, method: str) -> float | None:
    """What `wisp_over_lightly` must reach; the limit of Barlow Twins in bf16 is for a CPU with AMX."""
    if method != "barlow_twins":
        return METHOD_LIMIT
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
    parser.add_argument("--repeats", type=int, default=5, help="interleaved epochs of each; 0 for steps alone")
    parser.add_argument("--steps", type=int, default=9, help="interleaved steps of each")
    parser.add_argument("--method", choices=tuple(METHODS), default="barlow_twins")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    confine(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = options.data or noise_parquet(folder / "noise.parquet", options.images)
        name = data_name(str(options.data)) if options.data else "noise"
        about = surroundings("epoch", repeats=options.repeats, packages=("torchvision", "lightly", "pillow"))
        for row in measure(prepare(run_of(options.method, data, options)), name, options, folder / "runs"):
            print(line(row, about), flush=True)


if __name__ == "__main__":
    main()
