"""What the verbs besides training take, as frozen dataclasses that the command line and its help are made of.

Imports no torch.
"""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Accuracy of an exported encoder or classifier, or of the weights in one file, on labelled images."""

    data: str | None = None
    """Labelled images for neighbours and for the probe's training; top1 alone does with --val."""
    val: str | None = None
    """Labelled images that are asked about; a tenth of --data unless given."""
    protocol: str | None = None
    """knn,linear, or top1 of a classifier, with --val alone, unless given; of all encoders switchable, distilled or
    slimmable."""
    encoder: str | None = None
    """Which exported encoder of a run; its first unless given."""
    augmented: int = 0
    """Train the probe on so many passes of random crops and flips over the training images, in turn, instead of on the
    plain ones. Not for what a flip turns into something else, as it does digits."""
    normalise: Literal["standardise", "batchnorm", "none"] = "standardise"
    """Before the probe: by the training set's mean and std; an affine-free BatchNorm; or nothing, as published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Files of a run's encoders, made again from its exported ones, and the card that says what is there."""

    to: Literal["timm", "onnx", "pt2"] = "timm"
    """timm: a state_dict as safetensors; onnx: its ONNX twin; pt2: a self-contained program; each with its card."""
    out: str | None = None
    """Folder to write to; RUN/exported/NAME unless given."""
    encoder: str | None = None
    """Which encoder of the run; its first unless given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Several runs beside each other; a folder of runs stands for all that it holds."""

    out: str = "comparison.html"
    """The page to write."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiagnoseOptions:
    """How the networks that share a run's weights disturb each other, and what their features keep; needs its data."""

    images: int = 500
    """Images in which neighbours are looked for, and as many that are asked about, at every point of the surface."""
    grid: int = 11
    """Points along each side of the error surface; 0 leaves it out."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Counts and opens the images of a data set, and names the bad ones."""

    sample: int | None = None
    """Open only so many, evenly spaced; all unless given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """Draws more images of a data set's classes with a text-to-image model, into class folders for --extra."""

    classes_from: str
    """Labelled images whose class names are drawn."""
    out: str
    """Folder to write to; the same command goes on where it holds a part."""
    per_class: int
    """Images of each class; may grow later. The paper's 1x is as many as a class has in training."""
    prompt: str = "a picture of a {class}"
    """A text with {class} in it, or one of the paper's: caltech-101 (the default), dtd ("{class} texture") or mit-67
    ("the inside of a {class}")."""
    pipeline: str = "CompVis/stable-diffusion-v1-4"
    """Any text-to-image pipeline of diffusers: its name on the hub, or a folder that has it."""
    steps: int = 50
    """Of denoising; the paper takes 50, and this pipeline."""
    guidance: float | None = None
    """Scale of the classifier-free guidance; the pipeline's own unless given."""
    image_size: int | None = None
    """Side in pixels; the pipeline's own unless given."""
    batch_size: int = 4
    """Images that are drawn at a time; changes no image's seed."""
    seed: int = 0
    """Of all images; each has its own, made of this, its class and its number."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto is bf16 where the device computes it natively, else fp32."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to draw."""
