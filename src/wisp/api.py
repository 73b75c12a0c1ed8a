"""What the command line calls: pretrain, evaluate, export, load, report, compare, check."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from torch import nn

from wisp.data.check import check as check_data
from wisp.errors import WispError, nearest
from wisp.evaluate.examiner import Examiner
from wisp.evaluate.knn import knn
from wisp.evaluate.linear import linear
from wisp.export.card import read_card
from wisp.export.onnx import export_onnx, missing_extra
from wisp.export.program import export_program
from wisp.export.stock import load_encoder
from wisp.files import read_json
from wisp.pretraining import pretrain as pretrain  # the main job, under the name that Python users look for
from wisp.report.comparison import compare as write_comparison
from wisp.report.comparison import comparison_table
from wisp.report.page import write_report
from wisp.session import labelled
from wisp.train.setup import device_kind

PROTOCOLS = ("knn", "linear")
FORMS = ("timm", "onnx", "pt2")


def load(path: Path | str) -> nn.Module:
    """An exported encoder, [B,3,H,W] normalised -> [B,D], rebuilt from its card.

    Args:
        path: `RUN/exported/NAME`, or a run folder (its first encoder).

    Raises:
        WispError: no card there, or a tensor that does not fit.
    """
    return load_encoder(exported(Path(path)))


def exported(path: Path, name: str | None = None) -> Path:
    """The folder of an exported encoder: `path` itself, or the one called `name` (else the first) of a run.

    Raises:
        WispError: nothing was exported there.
    """
    if path.is_file():
        path = path.parent
    if (path / "card.json").is_file():
        return path
    result = path / "result.json"
    if not result.is_file():
        raise WispError(f"{path} holds no finished run and no exported encoder; name a run folder or RUN/exported/NAME")
    names = list(read_json(result)["encoders"])
    if name is not None and name not in names:
        raise WispError(f"{path} has no encoder {name!r}; it has {', '.join(names)}")
    return path / "exported" / (name or names[0])


def evaluate(
    path: Path, *, data: str, val: str | None = None, protocol: str = "knn,linear", encoder: str | None = None
) -> dict[str, float]:
    """Accuracy in percent of an exported encoder on labelled images.

    Args:
        path: a run, an exported folder, or a file in one.
        data: labelled images in which neighbours are looked for and on which the probe is trained.
        val: labelled images that are asked about; a tenth of `data` unless given.
        protocol: `knn`, `linear`, or both with a comma.
        encoder: which encoder of a run.

    Raises:
        WispError: unknown protocol, no labels, or nothing exported.
    """
    wanted = [word.strip() for word in protocol.split(",")]
    for word in wanted:
        if word not in PROTOCOLS:
            raise WispError(f"unknown protocol {word!r}; nearest: {', '.join(nearest(word, PROTOCOLS))}")
    folder = exported(path, encoder)
    content = read_card(folder)
    neighbours, questions = labelled(data, val)
    images = content["preprocessing"]
    examiner = Examiner(
        neighbours,
        questions,
        image_size=images["image_size"],
        mean=images["mean"],
        std=images["std"],
        device=torch.device(device_kind("auto")),
        batch_size=256,
    )
    features = examiner.both(load_encoder(folder).to(examiner.device))
    assert features is not None
    found: dict[str, float] = {}
    if "knn" in wanted:
        found |= {f"kNN-{k}": value for k, value in knn(features).items()}
    if "linear" in wanted:
        found["linear"] = linear(features).accuracy
    return found


def export(path: Path, *, to: str = "timm", out: str | None = None, encoder: str | None = None) -> Path:
    """Writes a finished run's encoder again, in one form.

    Args:
        path: a run or an exported folder.
        to: `timm` (safetensors with its card), `onnx` or `pt2`.
        out: folder; the exported one unless given.
        encoder: which encoder of a run.

    Returns:
        The file.

    Raises:
        WispError: nothing exported, timm cannot build it, or an extra is missing.
    """
    if to not in FORMS:
        raise WispError(f"unknown form {to!r}; nearest: {', '.join(nearest(to, FORMS))}")
    folder = exported(path, encoder)
    target = Path(out) if out is not None else folder
    content, network = read_card(folder), load_encoder(folder)
    if to == "timm" and not (content["build"] or {}).get("factory", "").startswith("timm."):
        raise WispError(f"timm cannot build {content['model']} as trained; use --to pt2 or onnx")
    target.mkdir(parents=True, exist_ok=True)
    if to == "timm":
        for name in ("encoder.safetensors", "card.json"):
            if target != folder:
                shutil.copy2(folder / name, target / name)
        return target / "encoder.safetensors"
    size = content["preprocessing"]["image_size"]
    images = torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2
    if to == "pt2":
        export_program(network, images, target / "encoder.pt2")
        return target / "encoder.pt2"
    if export_onnx(network, images, target / "encoder.onnx") is None:
        raise WispError(str(missing_extra()))
    return target / "encoder.onnx"


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
    return "\n".join(check_data(data, sample=sample).lines())
