"""Two augmented views of a batch: wisp beside torchvision on PIL images (one process) and kornia, on two CPU threads.

Needs the `bench` extra (kornia). Every library starts from decoded 8-bit images of the same content and ends with two
normalised float batches; operations, probabilities and strengths are the plan's. Repeats are interleaved: each runs
every library for a while, and a ratio is the median of the repeats' own ratios. Decoding is measured on its own line.

    python benchmarks/views.py [--repeats 7] [--threads 2] > views.jsonl

One JSON object a line: px, plan, images_per_s of each library (an image is two views), vs_torchvision, vs_kornia.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import kornia
import torch
import torchvision
from kornia import augmentation as K
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torchvision.transforms import v2 as T

from wisp.data.ops import blur_size
from wisp.data.plans import PLANS
from wisp.data.views import View, ViewPlan, boxes, draw, render

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
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
        strengths = (view.brightness, view.contrast, view.saturation, view.hue)
        steps = [
            T.RandomResizedCrop(px, scale=view.crop_scale, ratio=view.crop_ratio),
            T.RandomHorizontalFlip(view.flip),
            T.RandomApply([T.ColorJitter(*strengths)], view.jitter),
            T.RandomGrayscale(view.gray),
        ]
        if view.blur:
            steps.append(T.RandomApply([T.GaussianBlur(blur_size(px), view.blur_sigma)], view.blur))
        if view.solarize:
            steps.append(T.RandomSolarize(math.ceil(255 * view.solarize_threshold), view.solarize))
        return T.Compose([*steps, T.ToImage(), T.ToDtype(torch.float32, scale=True), T.Normalize(MEAN, STD)])

    transforms = [transform(view) for view in plan.views]
    return lambda: [torch.stack([one(image) for image in images]) for one in transforms]


def kornia_views(plan: ViewPlan, px: int, images: Tensor) -> Callable[[], list[Tensor]]:
    def transform(view: View) -> nn.Sequential:
        steps = [
            K.RandomResizedCrop((px, px), scale=view.crop_scale, ratio=view.crop_ratio),
            K.RandomHorizontalFlip(p=view.flip),
            K.ColorJitter(view.brightness, view.contrast, view.saturation, view.hue, p=view.jitter),
            K.RandomGrayscale(p=view.gray),
        ]
        if view.blur:
            steps.append(K.RandomGaussianBlur((blur_size(px),) * 2, view.blur_sigma, p=view.blur))
        if view.solarize:
            at = view.solarize_threshold
            steps.append(K.RandomSolarize(thresholds=(at, at), additions=(0.0, 0.0), p=view.solarize))
        return nn.Sequential(*steps, K.Normalize(torch.tensor(MEAN), torch.tensor(STD)))

    transforms = [transform(view) for view in plan.views]
    return lambda: [one(images.float() / 255) for one in transforms]


def seconds(make: Callable[[], object], at_least: float = 0.3) -> float:
    """Mean time of a call over at least `at_least` seconds, as a training loop makes batch after batch."""
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < at_least:
        make()
        calls += 1
    return spent / calls


def compare(px: int, batch: int, plan: ViewPlan, repeats: int) -> dict[str, object]:
    images = pictures(px, batch)
    tensor = torch.stack([T.functional.pil_to_tensor(image) for image in images])
    makers = {
        "wisp": wisp_views(plan, px, tensor),
        "torchvision": torchvision_views(plan, px, images),
        "kornia": kornia_views(plan, px, tensor),
    }
    for make in makers.values():
        make()
    times = [{name: seconds(make) for name, make in makers.items()} for _ in range(repeats)]
    return {
        "bench": "views",
        "px": px,
        "plan": plan.name,
        "views": len(plan.views),
        "batch": batch,
        "images_per_s": {name: round(batch / statistics.median(t[name] for t in times), 1) for name in makers},
        "vs_torchvision": round(statistics.median(t["torchvision"] / t["wisp"] for t in times), 2),
        "vs_kornia": round(statistics.median(t["kornia"] / t["wisp"] for t in times), 2),
    }


def decoding(px: int, batch: int, repeats: int) -> dict[str, object]:
    files = []
    for image in pictures(px, batch):
        file = io.BytesIO()
        image.save(file, "jpeg", quality=90)
        files.append(file.getvalue())
    times = [
        seconds(lambda: [T.functional.pil_to_tensor(Image.open(io.BytesIO(f)).convert("RGB")) for f in files])
        for _ in range(repeats)
    ]
    return {
        "bench": "decode",
        "px": px,
        "format": "JPEG 90",
        "images_per_s": round(batch / statistics.median(times), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # glibc learns from the first large block that it frees to keep freed memory; a training process has taught it that
    # long before, a fresh benchmark process would pay for page faults instead. It helps all three.
    torch.empty(31 << 20, dtype=torch.uint8)
    about = {
        "repeats": options.repeats,
        "threads": options.threads,
        "precision": "fp32",
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "versions": {m.__name__: m.__version__ for m in (torch, torchvision, kornia)},
    }
    for px, batch, plan in CASES:
        print(json.dumps(compare(px, batch, plan, options.repeats) | about), flush=True)
    for px, batch in ((32, 256), (224, 32)):
        print(json.dumps(decoding(px, batch, options.repeats) | about), flush=True)


if __name__ == "__main__":
    main()
