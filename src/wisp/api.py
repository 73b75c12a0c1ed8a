"""What the command line calls: pretrain, distill, evaluate, export, load, report, compare, diagnose and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from wisp.data.check import check as check_data
from wisp.data.views import normalize
from wisp.diagnosing import diagnose as diagnose
from wisp.errors import WispError, nearest
from wisp.evaluating import evaluate as evaluate
from wisp.export.card import read_card
from wisp.export.classifier import CLASSIFIER
from wisp.export.forms import FORMS, write_form
from wisp.export.onnx import missing_extra
from wisp.export.stock import load_encoder
from wisp.pretraining import distill as distill
from wisp.pretraining import pretrain as pretrain  # the main job, under the name that Python users look for
from wisp.report.comparison import compare as write_comparison
from wisp.report.comparison import comparison_table
from wisp.report.gallery import load_gallery
from wisp.report.page import write_report
from wisp.synthesis.synthesize import synthesize as synthesize
from wisp.train.folder import RunFolder, exported
from wisp.train.screen import counting

_COMPARED = 16
"""Images on which a twin is compared with its encoder."""


def load(path: Path | str) -> nn.Module:
    """An exported encoder, [B,3,H,W] normalised -> [B,D], rebuilt from its card.

    Args:
        path: a run folder (its first encoder), `RUN/exported/NAME`, or a `.safetensors` or `.pt2` file; of a file,
            these very weights.

    Raises:
        WispError: no card there, or a tensor that does not fit.
    """
    return load_encoder(exported(Path(path)))


def export(path: Path, *, to: str = "timm", out: str | None = None, encoder: str | None = None) -> Path:
    """Writes a finished run's encoder again, in one form, with a card that says which files are there.

    A twin (`onnx`, `pt2`) is compared with the encoder on 16 images before it is written. Where `path` is or lies in a
    run they are the run's own, from its gallery: real, but thumbnails that are resized. Elsewhere they are noise. The
    card says which it was (`checks`).

    Args:
        path: a run or an exported folder.
        to: `timm` (safetensors), `onnx` or `pt2`.
        out: folder; the exported one unless given.
        encoder: which encoder of a run.

    Returns:
        The file.

    Raises:
        WispError: nothing exported, timm cannot build it, an extra is missing, the twin differs, or `out` holds
            another encoder; nothing is left behind then.
    """
    if to not in FORMS:
        raise WispError(f"unknown form {to!r}; nearest: {', '.join(nearest(to, FORMS))}")
    if to == "onnx" and (absent := missing_extra()) is not None:
        raise WispError(absent)
    folder = exported(path, encoder)
    if folder.is_file():
        raise WispError(f"{path} is a file; name the run or the exported folder that it lies in")
    target = Path(out) if out is not None else folder
    return write_form(folder, to, target, *_pictures(folder, read_card(folder)["preprocessing"]))


def _pictures(folder: Path, prepared: dict[str, Any]) -> tuple[Tensor, str]:
    """What a twin is compared on: images [16,3,S,S], normalised, and in words what they are.

    Args:
        folder: the exported one of an encoder or its classifier; its run's gallery is looked for further up.
        prepared: the card's preprocessing.
    """
    size = int(prepared["image_size"])
    inner = folder.resolve().parent if folder.name == CLASSIFIER else folder.resolve()  # the encoder's own folder
    run = RunFolder(inner.parent.parent)
    if inner.parent != run.exported or not run.gallery.is_file():
        noise = torch.rand(_COMPARED, 3, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2
        return noise, "noise, because no run with images is near"
    gallery = load_gallery(run.gallery)
    rows = [place * len(gallery) // _COMPARED for place in range(_COMPARED)]  # of all classes, where they are sorted
    thumbnails = torch.from_numpy(gallery.images[rows])
    resized = F.resize_image(thumbnails, [size, size], antialias=True)
    images = normalize(resized.float().div_(255), prepared["mean"], prepared["std"]).contiguous()
    kind = "held-out" if gallery.held_out else "training"
    return images, f"{kind} images of the run: thumbnails of {thumbnails.shape[-1]} px, resized to {size}"


def report(path: Path) -> Path:
    """Writes `report.html` of a run again.

    Raises:
        WispError: no run there.
    """
    return write_report(path, None, path / "report.html")


def compare(paths: list[Path], out: Path) -> str:
    """Writes one page over several runs and returns their table as text."""
    write_comparison(paths, out)
    return comparison_table(paths)


def check(data: str, sample: int | None = None) -> str:
    """Counts and opens the images of a data set.

    Returns:
        A report in words.

    Raises:
        WispError: nothing there.
    """
    with counting("looking at images") as progress:
        found = check_data(data, sample=sample, progress=progress)
    return "\n".join(found.lines())
