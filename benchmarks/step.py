"""One training step beside another, on random views: sliced and masked, XD and Barlow Twins, SEED, A/U and KD.

A step is forward, backward and the optimizer of the method's small setting, and what moves after a step, of ResNet-20
at 32 px; `--precision bf16` has the forward pass under autocast. Freed memory is kept, as `wisp` keeps it. Both
contenders start from the same weights. The masked step multiplies the same channels by zero on a host at full width
(`benchmarks/masked.py`): all passes cost the host's FLOPs, where wisp pays two hosts and two slim networks (SACL-XD),
or one network of each width (SlimCLR over MoCo v2, after its slow start). SEED's parts are one pass of its teacher,
ResNet-20x4, and one pass of its student forward and backward. A/U and KD have that teacher and ten classes.

    python -m benchmarks.step [--repeats 9] [--only seed] [--precision bf16] > results/benchmarks/step.jsonl

One JSON object a line: k, sliced_over_masked (at most 0.70 at K=2, 0.57 at K=4); xd_over_barlow (at most 1.10);
widths, widths_over_masked (at most 0.60 at 1/.75/.5/.25); seed_over_parts (at most 1.05); au_over_kd (at most 1.05).
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from benchmarks.clock import Times, confine, interleaved, line, ratio, seconds, surroundings
from benchmarks.masked import masked, masked_widths
from wisp import methods
from wisp.allocator import keep_freed_memory
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.encoders.heads import mlp
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.methods.method import Method, Surroundings
from wisp.methods.sacl_xd import SaclXd
from wisp.methods.seed import SEED
from wisp.methods.slimclr import SlimCLR
from wisp.session import method_class
from wisp.train.optimizers import build

PX = 32
IMAGES = 50_000
"""Of CIFAR-10: they set the length of a queue."""
LIMITS = {2: 0.70, 4: 0.57}
XD_LIMIT = 1.10
SEED_LIMIT = 1.05
AU_LIMIT = 1.05
WIDTHS_LIMIT = 0.60
MODEL = "resnet20"
TEACHER = "resnet20x4"
"""Of the rows of SEED and A/U, with random weights."""
CLASSES = 10
"""Of CIFAR-10, for methods with labels."""
SLIMMED = ("resnet20", "resnet20x2", "resnet20x4")
"""Networks of the rows of SlimCLR; the paper's on CIFAR-10 is the last."""
PROGRESS = 0.75
"""Behind every slow start."""


class Turns(NamedTuple):
    """How contenders are timed.

    Attributes:
        repeats: turns of each that count.
        warmup: turns of each before them.
        precision: `fp32` or `bf16`, of the networks.
    """

    repeats: int
    warmup: int
    precision: str

    def taken(self, contenders: Mapping[str, Callable[[], object]]) -> Times:
        """Seconds of every contender, in turns."""
        return interleaved(contenders, repeats=self.repeats, warmup=self.warmup)


def forward(precision: str) -> torch.autocast:
    """Where a forward pass computes in `fp32` or `bf16`; as in `wisp`, the backward pass is outside."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def method(name: str, batch: int, *, model: str = MODEL, **settings: Any) -> Method:
    """A method with seed 0 in channels_last memory, its channels selected; its teacher, if it needs one, is random."""
    torch.manual_seed(0)
    spec, module = stock.spec(model, PX), methods.load(name)
    plan, kind = PLANS[module.SETTINGS["small"].plan], method_class(module)
    around = Surroundings(
        features=spec.features,
        image_size=PX,
        images=IMAGES,
        batch_size=batch,
        plan=plan,
        classes=CLASSES if kind.needs_labels else None,
        teacher=None if kind.taught == "no" else teacher(),
    )
    made = kind(module.Config(**settings), spec.build(), around)
    made.before_epoch(0)
    return made.to(memory_format=torch.channels_last).train()


def teacher() -> Teacher:
    """Sixteen times the student's operations, with the head of MoCo v2 and a classifier."""
    spec = stock.spec(TEACHER, PX)
    sight = Sight(image_size=PX, mean=spec.mean, std=spec.std)
    bill = Bill(flops=None, certainty="unknown", note="random weights")
    head = mlp([spec.features, 2048, 128], norm=False)
    on_top = torch.nn.Linear(spec.features, CLASSES)
    sizes = {"features": spec.features, "width": 128}
    return Teacher(spec.build(), head, on_top, **sizes, own=sight, student=sight, origin=TEACHER, bill=bill)


def step(trained: Method, views: Batch, precision: str = "fp32") -> Callable[[], torch.Tensor]:
    """A whole training step; every call trains on with the same views."""
    return partial(trainer(trained, precision), views)


def trainer(trained: Method, precision: str = "fp32") -> Callable[[Batch], torch.Tensor]:
    """A whole training step on any views."""
    paper = sys.modules[type(trained).__module__].SETTINGS["small"]
    optimizer = build(
        paper.optimizer,
        trained,
        lr=paper.lr,
        weight_decay=paper.weight_decay,
        trust=paper.trust,
        clip=paper.clip,
    )

    def once(views: Batch) -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with forward(precision):
            loss = torch.stack(list(trained(views, PROGRESS).values())).sum()
        loss.backward()
        optimizer.step()
        trained.after_step(PROGRESS)
        return loss.detach()

    return once


def random_views(batch: int) -> Batch:
    """Two views and labels as the loader delivers them: float32 [B,3,S,S], channels_last; int64 [B]."""
    generator = torch.Generator().manual_seed(0)
    views = [
        torch.randn(batch, 3, PX, PX, generator=generator).contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    ]
    index = torch.arange(batch)
    return Batch(views=tuple(views), index=index, labels=index % CLASSES)


def sliced_and_masked(width: float, batch: int, **settings: Any) -> tuple[SaclXd, SaclXd]:
    """SACL-XD as wisp trains it, and its masked twin with the same weights and channels."""
    sliced = method("sacl_xd", batch, width=width, **settings)
    assert isinstance(sliced, SaclXd)
    return sliced, masked(copy.deepcopy(sliced))


def slicing(width: int, *, batch: int, turns: Turns) -> dict[str, Any]:
    """The row of one host width."""
    views = random_views(batch)
    sliced, twin = sliced_and_masked(width, batch)
    times = turns.taken({"sliced": step(sliced, views, turns.precision), "masked": step(twin, views, turns.precision)})
    return {
        "k": width,
        "sliced_over_masked": ratio(times, "sliced", "masked"),
        "limit": LIMITS[width],
        "model": MODEL,
        "batch": batch,
        "seconds": seconds(times),
    }


def slimclr_and_masked(batch: int, **settings: Any) -> tuple[SlimCLR, SlimCLR]:
    """SlimCLR as wisp trains it, and its masked twin with the same weights."""
    sliced = method("slimclr", batch, **settings)
    assert isinstance(sliced, SlimCLR)
    return sliced, masked_widths(copy.deepcopy(sliced))


def slimming(model: str, *, batch: int, turns: Turns) -> dict[str, Any]:
    """The row of SlimCLR with one network at its default widths."""
    views = random_views(batch)
    sliced, twin = slimclr_and_masked(batch, model=model)
    times = turns.taken({"sliced": step(sliced, views, turns.precision), "masked": step(twin, views, turns.precision)})
    return {
        "widths": "/".join(f"{width:g}" for width in sliced.config.widths),
        "widths_over_masked": ratio(times, "sliced", "masked"),
        "limit": WIDTHS_LIMIT,
        "model": model,
        "batch": batch,
        "seconds": seconds(times),
    }


def xd(*, batch: int, turns: Turns) -> dict[str, Any]:
    """The row of XD beside Barlow Twins."""
    views = random_views(batch)
    contenders = {"xd": method("xd", batch), "barlow_twins": method("barlow_twins", batch)}
    steps = {name: step(trained, views, turns.precision) for name, trained in contenders.items()}
    times = turns.taken(steps)
    return {
        "xd_over_barlow": ratio(times, "xd", "barlow_twins"),
        "limit": XD_LIMIT,
        "model": MODEL,
        "batch": batch,
        "seconds": seconds(times),
    }


def seed_parts(trained: SEED, views: Batch, precision: str) -> Callable[[], torch.Tensor]:
    """What no step of SEED can be without: a pass of the teacher, and one of the student forward and backward."""

    def once() -> torch.Tensor:
        trained.zero_grad(set_to_none=True)
        with forward(precision):
            trained.teacher(views.views)
            output = trained.network(views.views[0]).square().mean()
        output.backward()
        return output.detach()

    return once


def seed(*, batch: int, turns: Turns) -> dict[str, Any]:
    """The row of SEED beside its parts."""
    views = random_views(batch)
    views = views._replace(views=views.views[:1])
    whole, parts = method("seed", batch), method("seed", batch)
    assert isinstance(parts, SEED)
    times = turns.taken(
        {"seed": step(whole, views, turns.precision), "parts": seed_parts(parts, views, turns.precision)}
    )
    return {
        "seed_over_parts": ratio(times, "seed", "parts"),
        "limit": SEED_LIMIT,
        "model": MODEL,
        "teacher": TEACHER,
        "batch": batch,
        "seconds": seconds(times),
    }


def au(*, batch: int, turns: Turns) -> dict[str, Any]:
    """The row of A/U beside KD with the same teacher."""
    views = random_views(batch)
    views = views._replace(views=views.views[:1])
    steps = {name: step(method(name, batch), views, turns.precision) for name in ("au", "kd")}
    times = turns.taken(steps)
    return {
        "au_over_kd": ratio(times, "au", "kd"),
        "limit": AU_LIMIT,
        "model": MODEL,
        "teacher": TEACHER,
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
    parser.add_argument(
        "--only", choices=("sacl_xd", "xd", "slimclr", "seed", "au"), help="whose rows; all when absent"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args(arguments)
    confine(options.threads)
    keep_freed_memory()
    turns = Turns(options.repeats, options.warmup, options.precision)

    def show(row: dict[str, Any]) -> None:
        about = {"precision": options.precision, "px": PX}
        print(line(row | about, surroundings("step", repeats=options.repeats, packages=("timm",))), flush=True)

    if options.only in (None, "sacl_xd"):
        for width in LIMITS:
            show(slicing(width, batch=options.batch, turns=turns))
    if options.only in (None, "xd"):
        for batch in (options.batch, 2 * options.batch):
            show(xd(batch=batch, turns=turns))
    if options.only in (None, "slimclr"):
        for model in SLIMMED:
            show(slimming(model, batch=options.batch, turns=turns))
    if options.only in (None, "seed"):
        show(seed(batch=2 * options.batch, turns=turns))
    if options.only in (None, "au"):
        show(au(batch=options.batch, turns=turns))


if __name__ == "__main__":
    main()
