"""From a finished run to its diagnosis: how the networks that share its weights disturb each other."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.data.sources import Source
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner, evenly, labels_at
from wisp.export.stock import load_encoder
from wisp.files import read_json, write_json
from wisp.interference.conditions import condition
from wisp.interference.principal import principal_plane
from wisp.interference.record import Record, read_record, recorded_encoder
from wisp.interference.surface import knn_error, surface_around, trajectory_of
from wisp.report.page import write_report
from wisp.run import from_json
from wisp.session import Session, prepare
from wisp.train.folder import RunFolder
from wisp.train.screen import counting
from wisp.train.setup import device_kind

SCHEMA = 1
_IMAGES = 2048
"""Of Eq. 23; Zhao et al. 2022, appendix A."""
_LARGEST_GRID = 51


def diagnose(path: Path, *, images: int = 500, grid: int = 11) -> dict[str, Any]:
    """Writes `diagnosis.json` of a run, and its report again.

    Args:
        path: a finished run.
        images: in which neighbours are looked for, and as many that are asked about, at every point of the surface.
        grid: points along each side of the error surface; 0 leaves it out.

    Returns:
        The content of the file: of a recorded run `gradients` (with the cosine of every kept gradient and the one
        before), `trajectory` and, with labels, `surface`; of a run of several widths, with labels, `conditions`.

    Raises:
        WispError: no finished run there, data that has gone, or nothing to diagnose.
    """
    if images < 50:
        raise WispError(f"--images is {images}; a kNN error needs 50 or more")
    if grid and not 3 <= grid <= _LARGEST_GRID:
        raise WispError(f"--grid is {grid}; a surface has 3 to {_LARGEST_GRID} points a side, 0 leaves it out")
    folder = RunFolder(path)
    if not folder.finished:
        raise WispError(f"{path} holds no finished run; name a run folder whose training has ended")
    session = prepare(from_json(folder.run.read_text(encoding="utf-8"), str(folder.run)))
    examiner = session.examiner(torch.device(device_kind("auto")))
    receipt = read_json(folder.result)
    found: dict[str, Any] = {}
    record = read_record(folder.record)
    if record is not None:
        found |= _of_record(record, session, examiner, images, grid)
    if conditions := _conditions(list(receipt["encoders"]), folder, session, examiner):
        found["conditions"] = conditions
    if not found:
        raise WispError(
            f"{path} has nothing to diagnose: it was trained without --record, and has no widths to compare"
        )
    found = {"schema": SCHEMA, **{key: receipt[key] for key in ("recipe", "commit")}, **found}
    write_json(folder.diagnosis, found)
    write_report(path, None, folder.report)
    return found


def _of_record(record: Record, session: Session, examiner: Examiner, images: int, grid: int) -> dict[str, Any]:
    plane = principal_plane(record.directions)
    trajectory = trajectory_of(record.weights)
    method = session.method()
    found: dict[str, Any] = {
        "gradients": {
            "steps": record.gradient_steps,
            "norms": record.norms.tolist(),
            "share": record.share,
            "places": plane.places(record.directions - record.directions.mean(0)).tolist(),
            "explained": plane.explained,
            "cosines": F.cosine_similarity(record.directions[1:], record.directions[:-1]).tolist(),
            "phases": [round(begin * session.resolved.steps) for begin in method.phases()],
        },
        "trajectory": {
            "steps": record.weight_steps,
            "places": trajectory.places.tolist(),
            "explained": trajectory.plane.explained,
            "offset": trajectory.offset,
        },
    }
    if grid and session.neighbours is not None and session.questions is not None:
        encoder = recorded_encoder(method).to(examiner.device)
        last = {name: tensor.to(examiner.device) for name, tensor in record.weights[-1].items()}
        encoder.load_state_dict(last, strict=False)  # no statistics: the surface normalises by the batch
        shown = [_pictures(examiner, source, images) for source in (session.neighbours, session.questions)]
        error = partial(knn_error, known=shown[0][0], labels=shown[0][1], asked=shown[1][0], asked_labels=shown[1][1])
        with counting("error surface") as progress:
            drawn = surface_around(trajectory, last, encoder=encoder, error=error, points=grid, progress=progress)
        found["surface"] = {**dataclasses.asdict(drawn), "images": [len(labels) for _, labels in shown]}
    return found


def _pictures(examiner: Examiner, source: Source, most: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced images [N,3,S,S] and their labels [N], on the examiner's device."""
    images, seen = examiner.images(source, evenly(source, most))
    return images.to(examiner.device), labels_at(source, seen).to(examiner.device)


def _conditions(names: list[str], folder: RunFolder, session: Session, examiner: Examiner) -> dict[str, Any]:
    """Eq. 23 for every narrow width of a slimmable network; empty for other runs, and without labels."""
    source = session.neighbours
    if source is None or not hasattr(session.run.method, "widths") or len(names) < 2:
        return {}
    indices = evenly(source, _IMAGES)
    features, labels = {}, torch.empty(0)
    for name in names:
        encoder = load_encoder(folder.exported / name).to(examiner.device)
        features[name], seen = examiner.features(encoder, source, indices)
        labels = labels_at(source, seen)
    full = features[names[0]]
    if len(full) < full.shape[1]:
        return {}
    return {name: dataclasses.asdict(condition(full, features[name], labels)) for name in names[1:]}
