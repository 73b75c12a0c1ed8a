"""What the command line calls: pretrain, evaluate, export, load, report, compare, diagnose, check."""

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
from wisp.evaluate.examiner import Examiner
from wisp.evaluate.features import Features
from wisp.evaluate.knn import knn
from wisp.evaluate.linear import Normalise, Protocol, linear
from wisp.evaluate.widths import slimmable, switchable
from wisp.export.card import read_card
from wisp.export.classifier import CLASSIFIER
from wisp.export.forms import FORMS, write_form
from wisp.export.onnx import missing_extra
from wisp.export.stock import load_encoder
from wisp.files import read_json
from wisp.pretraining import pretrain as pretrain  # the main job, under the name that Python users look for
from wisp.report.comparison import compare as write_comparison
from wisp.report.comparison import comparison_table
from wisp.report.gallery import load_gallery
from wisp.report.page import write_report
from wisp.session import labelled
from wisp.train.folder import RunFolder, exported
from wisp.train.screen import counting
from wisp.train.setup import device_kind

PROTOCOLS = ("knn", "linear", "switchable", "distilled", "slimmable")
_OF_WIDTHS = PROTOCOLS[2:]
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


def evaluate(
    path: Path,
    *,
    data: str,
    val: str | None = None,
    protocol: str = "knn,linear",
    encoder: str | None = None,
    augmented: int = 0,
    normalise: Normalise = "standardise",
) -> dict[str, float]:
    """Accuracy in percent of an exported encoder on labelled images.

    Args:
        path: a run, an exported folder, or a file with the card beside it; of a file, these very weights.
        data: labelled images in which neighbours are looked for and on which the probe is trained.
        val: labelled images that are asked about; a tenth of `data` unless given.
        protocol: `knn`, `linear`, or, of all encoders of a run together, `switchable` (a linear layer each),
            `distilled` (which also learn the first one's prediction) or `slimmable` (one layer for all); several with
            commas.
        encoder: which encoder of a run.
        augmented: passes of random crops and flips over the training images; with 1 or more the probe is trained on
            their features, an epoch on each in turn, and not on those of the plain images.
        normalise: what stands between features and probe: `standardise`, `batchnorm` (affine-free) or `none`.

    Raises:
        WispError: an unknown word or number, an option of the linear probe alone without it, no labels, or nothing
            exported.
    """
    wanted = [word.strip() for word in protocol.split(",")]
    for word in wanted:
        if word not in PROTOCOLS:
            raise WispError(f"unknown protocol {word!r}; nearest: {', '.join(nearest(word, PROTOCOLS))}")
    probe = Protocol(normalise=normalise)
    if not 0 <= augmented <= probe.epochs:
        raise WispError(f"--augmented is {augmented}; it must be 0 to {probe.epochs}, one pass for an epoch at most")
    if "linear" not in wanted and (augmented or probe != Protocol()):
        given = "--augmented" if augmented else "--normalise"
        raise WispError(f"{given} is for the linear probe alone; leave it out, or add linear to --protocol")
    of_widths = [word for word in wanted if word in _OF_WIDTHS]
    if of_widths and encoder is not None:
        raise WispError(f"--protocol {of_widths[0]} probes all encoders of a run; leave --encoder out")
    names = _encoders(path) if of_widths else []
    subject = exported(path, encoder)
    card = read_card(subject.parent if subject.is_file() else subject)
    if card["kind"] != "encoder":
        raise WispError(f"{path} holds a classifier, whose accuracy is in its card; name the folder of its encoder")
    neighbours, questions = labelled(data, val)
    prepared = card["preprocessing"]
    examiner = Examiner(
        neighbours,
        questions,
        image_size=prepared["image_size"],
        mean=prepared["mean"],
        std=prepared["std"],
        device=torch.device(device_kind("auto")),
        batch_size=256,
    )

    def seen(place: Path) -> Features:
        features = examiner.both(load_encoder(place).to(examiner.device), augmented=augmented)
        assert features is not None
        return features

    found: dict[str, float] = {}
    if len(of_widths) < len(wanted):
        features = seen(subject)
        found |= {f"kNN-{k}": value for k, value in knn(features).items()} if "knn" in wanted else {}
        found |= {"linear": linear(features, probe).accuracy} if "linear" in wanted else {}
    if of_widths:
        found |= _probed({name: seen(exported(path, name)) for name in names}, of_widths)
    return found


def _encoders(path: Path) -> list[str]:
    """Names of a run's encoders.

    Raises:
        WispError: `path` is no finished run, or one with a single encoder.
    """
    result = RunFolder(path).result
    names = list(read_json(result)["encoders"]) if result.is_file() else []
    if len(names) < 2:
        raise WispError(f"{path} is no finished run of several encoders; a probe of widths needs one, as of slimclr")
    return names


def _probed(features: dict[str, Features], protocols: list[str]) -> dict[str, float]:
    """Accuracy by protocol and encoder."""
    found: dict[str, float] = {}
    for word in protocols:
        scores = slimmable(features) if word == "slimmable" else switchable(features, distill=word == "distilled")
        found |= {f"{word} {name}": value for name, value in scores.items()}
    return found


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
