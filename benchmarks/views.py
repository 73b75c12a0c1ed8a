"""Two augmented views of a batch: wisp beside torchvision on PIL images (one process) and kornia, on two CPU threads.

Needs the `bench` extra (kornia). Every library starts from decoded 8-bit images of the same content and ends with two
normalised float batches; operations, probabilities and strengths are the plan's. Repeats are interleaved: each runs
every library for a while, and a ratio is the median of the repeats' own ratios. Decoding is measured on its own line.

    python -m benchmarks.views [--repeats 7] [--threads 2] > results/benchmarks/views.jsonl

One JSON object a line: px, plan, images_per_s of each library (an image is two views), vs_torchvision, vs_kornia.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision.transforms import v2 as T

from benchmarks.clock import Times, confine, interleaved, line, ratio, surroundings
from wisp.data.ops import blur_size
from wisp.data.plans import PLANS
from wisp.data.views import View, ViewPlan, boxes, draw, render

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TURN = 0.3  # seconds of one contender in one repeat, at least
_CIFAR = PLANS["sacl_xd_cifar10"]
_ALL = replace(_CIFAR.views[0], blur=0.5, solarize=0.2)
# Sides, images of one repeat, plan: the two papers' plans, and one in which every operation is on in both views.
CASES = (
    (32, 256, _CIFAR),
    (32, 256, ViewPlan("every operation", "benchmarks/views.py: CIFAR-10 plan, blur 0.5, solarise 0.2", (_ALL, _ALL))),
    (224, 32, PLANS["sacl_xd_imagenet"]),
)


def pictures(px: int, count: int) -> list[Image.Image]:
    """Random squares of scikit-learn's two sample photos, made one size: real content without a network."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    generator = torch.Generator().manual_seed(0)
    out = []
    for i in range(count):
        photo = photos[i % len(photos)]
        side = int(torch.randint(100, 400, (), generator=generator))
        left = int(torch.randint(0, photo.width - side, (), generator=generator))
        top = int(torch.randint(0, photo.height - side, (), generator=generator))
        out.append(photo.crop((left, top, left + side, top + side)).resize((px, px), Image.Resampling.BICUBIC))
    return out


def wisp_views(plan: ViewPlan, px: int, images: Tensor) -> Callable[[], list[Tensor]]:
    step = iter(range(1 << 30))

    def make() -> list[Tensor]:
        drawn = draw(plan, seed=0, step=next(step), batch=len(images))
        return [
            render(images, boxes(draws, *images.shape[-2:]), view, draws, size=px, mean=MEAN, std=STD)
            for view, draws in zip(plan.views, drawn, strict=True)
        ]

    return make


def torchvision_views(plan: ViewPlan, px: int, images: list[Image.Image]) -> Callable[[], list[Tensor]]:
    def transform(view: View) -> T.Compose:
        side = view.pixels(px)
        strengths = (view.brightness, view.contrast, view.saturation, view.hue)
        steps = [
            T.RandomResizedCrop(side, scale=view.crop_scale, ratio=view.crop_ratio),
            T.RandomHorizontalFlip(view.flip),
            T.RandomApply([T.ColorJitter(*strengths)], view.jitter),
            T.RandomGrayscale(view.gray),
        ]
        if view.blur:
            steps.append(T.RandomApply([T.GaussianBlur(blur_size(side), view.blur_sigma)], view.blur))
        if view.solarize:
            steps.append(T.RandomSolarize(math.ceil(255 * view.solarize_threshold), view.solarize))
        return T.Compose([*steps, T.ToImage(), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)])

    transforms = [transform(view) for view in plan.views]
    return lambda: [torch.stack([one(image) for image in images]) for one in transforms]


def kornia_views(plan: ViewPlan, px: int, images: Tensor) -> Callable[[], list[Tensor]]:
    from kornia import augmentation as K

    def transform(view: View) -> nn.Sequential:
        side = view.pixels(px)
        steps = [
            K.RandomResizedCrop((side, side), scale=view.crop_scale, ratio=view.crop_ratio),
            K.RandomHorizontalFlip(p=view.flip),
            K.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue, p=view.jitter),
            K.RandomGrayscale(p=view.gray),
        ]
        if view.blur:
            steps.append(K.RandomGaussianBlur((blur_size(side),) * 2, view.blur_sigma, p=view.blur))
        if view.solarize:
            at = view.solarize_threshold
            steps.append(K.RandomSolarize(thresholds=(at, at), additions=(0.0, 0.0), p=view.solarize))
        return nn.Sequential(*steps, K.Normalize(torch.tensor(MEAN), torch.tensor(STD)))

    transforms = [transform(view) for view in plan.views]
    return lambda: [one(images.float() / 255) for one in transforms]


def steady(make: Callable[[], object]) -> int:
    """How many calls fill `TURN` seconds: a training loop makes batch after batch, and so does a repeat here."""
    make()
    start = time.perf_counter()
    make()
    return max(1, math.ceil(TURN / (time.perf_counter() - start)))


def timed(makers: dict[str, Callable[[], object]], repeats: int) -> Times:
    """Seconds a call, interleaved."""
    calls = {name: steady(make) for name, make in makers.items()}

    def some(name: str) -> None:
        for _ in range(calls[name]):
            makers[name]()

    times = interleaved({name: partial(some, name) for name in makers}, repeats=repeats, warmup=1)
    return {name: [t / calls[name] for t in values] for name, values in times.items()}


def compare(px: int, batch: int, plan: ViewPlan, repeats: int) -> dict[str, object]:
    images = pictures(px, batch)
    tensor = torch.stack([T.functional.pil_to_tensor(image) for image in images])
    makers: dict[str, Callable[[], object]] = {
        "wisp": wisp_views(plan, px, tensor),
        "torchvision": torchvision_views(plan, px, images),
        "kornia": kornia_views(plan, px, tensor),
    }
    times = timed(makers, repeats)
    return {
        "px": px,
        "plan": plan.name,
        "batch": batch,
        "views": len(plan.views),
        "vs_torchvision": ratio(times, "torchvision", "wisp"),
        "vs_kornia": ratio(times, "kornia", "wisp"),
        "images_per_s": {name: round(batch / statistics.median(values), 1) for name, values in times.items()},
    }


def decoding(px: int, batch: int, repeats: int) -> dict[str, object]:
    files = []
    for image in pictures(px, batch):
        file = io.BytesIO()
        image.save(file, "jpeg", quality=90)
        files.append(file.getvalue())

    def decode() -> list[Tensor]:
        return [T.functional.pil_to_tensor(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]

    times = timed({"decode": decode}, repeats)["decode"]
    return {"px": px, "decode": "JPEG of quality 90, PIL", "images_per_s": round(batch / statistics.median(times), 1)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="5 or more for a result")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    confine(options.threads)
    # glibc learns from the first large block that it frees to keep freed memory; a training process has taught it that
    # long before, a fresh benchmark process would pay for page faults instead. It helps all three.
    torch.empty(31 << 20, dtype=torch.uint8)
    about = surroundings("views", repeats=options.repeats, packages=("torchvision", "pillow", "kornia"))
    about["precision"] = "fp32"
    for px, batch, plan in CASES:
        print(line(compare(px, batch, plan, options.repeats), about), flush=True)
    for px, batch in ((32, 256), (224, 32)):
        print(line(decoding(px, batch, options.repeats), about), flush=True)


if __name__ == "__main__":
    main()
