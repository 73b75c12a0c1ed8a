"""One training step beside another, on random views: SACL-XD sliced beside masked, XD beside Barlow Twins.

A step is forward, backward and the paper's LARS; fp32, ResNet-20 at 32 px. Both contenders start from the same
weights. The masked step multiplies the same channels by zero on a host at full width (`benchmarks/masked.py`): all
four passes cost the host's FLOPs, where wisp pays two hosts and two slim networks.

    python -m benchmarks.step [--repeats 9] [--threads 2] > results/benchmarks/step.jsonl

One JSON object a line: k, sliced_over_masked (at most 0.70 at K=2, 0.57 at K=4); xd_over_barlow (at most 1.10).
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.clock import confine, interleaved, line, ratio, seconds, surroundings
from benchmarks.masked import masked
from wisp import methods
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.methods.barlow_twins import SETTINGS
from wisp.methods.method import Method, Surroundings
from wisp.methods.sacl_xd import SaclXd
from wisp.session import method_class
from wisp.train.optimizers import build

PX = 32
LIMITS = {2: 0.70, 4: 0.57}
XD_LIMIT = 1.10


def method(name: str, batch: int, *, model: str = "resnet20", **settings: Any) -> Method:
    """A method with seed 0 in channels_last memory, its channels selected."""
    torch.manual_seed(0)
    spec, module = stock.spec(model, PX), methods.load(name)
    around = Surroundings(
        features=spec.features, image_size=PX, images=50_000, batch_size=batch, plan=PLANS["sacl_xd_cifar10"]
    )
    made = method_class(module)(module.Config(**settings), spec.build(), around)
    made.before_epoch(0)
    return made.to(memory_format=torch.channels_last).train()


def step(trained: Method, views: Batch) -> Callable[[], torch.Tensor]:
    """A whole training step; every call trains on."""
    paper = SETTINGS["small"]
    optimizer = build(
        paper.optimizer,
        trained,
        lr=paper.lr,
        weight_decay=paper.weight_decay,
        trust=paper.trust,
        clip=paper.clip,
    )

    def once() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.stack(list(trained(views, 0.5).values())).sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return once


def random_views(batch: int) -> Batch:
    """Two views as the loader delivers them: float32 [B,3,S,S], channels_last."""
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(batch, 3, PX, PX, generator=generator).contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    return Batch(views=tuple(views), index=torch.arange(batch))


def sliced_and_masked(width: float, batch: int, **settings: Any) -> tuple[SaclXd, SaclXd]:
    """SACL-XD as wisp trains it, and its masked twin with the same weights and channels."""
    sliced = method("sacl_xd", batch, width=width, **settings)
    assert isinstance(sliced, SaclXd)
    return sliced, masked(copy.deepcopy(sliced))


def slicing(width: int, *, batch: int, repeats: int, warmup: int) -> dict[str, Any]:
    """The row of one host width."""
    views = random_views(batch)
    sliced, twin = sliced_and_masked(width, batch)
    times = interleaved({"sliced": step(sliced, views), "masked": step(twin, views)}, repeats=repeats, warmup=warmup)
    return {
        "k": width,
        "sliced_over_masked": ratio(times, "sliced", "masked"),
        "limit": LIMITS[width],
        "batch": batch,
        "seconds": seconds(times),
    }


def xd(*, batch: int, repeats: int, warmup: int) -> dict[str, Any]:
    """The row of XD beside Barlow Twins."""
    views = random_views(batch)
    contenders = {"xd": method("xd", batch), "barlow_twins": method("barlow_twins", batch)}
    steps = {name: step(trained, views) for name, trained in contenders.items()}
    times = interleaved(steps, repeats=repeats, warmup=warmup)
    return {
        "xd_over_barlow": ratio(times, "xd", "barlow_twins"),
        "limit": XD_LIMIT,
        "batch": batch,
        "seconds": seconds(times),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="interleaved steps of each; 5 or more for a result")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--batch", type=int, default=128, help="the paper of SACL-XD has 256; xd runs at this and twice this"
    )
    options = parser.parse_args(arguments)
    confine(options.threads)
    turns = {"repeats": options.repeats, "warmup": options.warmup}

    def show(row: dict[str, Any]) -> None:
        about = {"precision": "fp32", "model": "resnet20", "px": PX}
        print(line(row | about, surroundings("step", repeats=options.repeats, packages=("timm",))), flush=True)

    for width in LIMITS:
        show(slicing(width, batch=options.batch, **turns))
    for batch in (options.batch, 2 * options.batch):
        show(xd(batch=batch, **turns))


if __name__ == "__main__":
    main()
