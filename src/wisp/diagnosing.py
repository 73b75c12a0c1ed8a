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
from wisp.interference.surface import Trajectory, knn_error, surface_around, trajectory_of
from wisp.methods.method import Method
from wisp.report.page import write_report
from wisp.run import from_json
from wisp.session import prepare
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
        before), `trajectory` and, with labels, `surface`; of a run of several widths, with labels, `conditions`; and
        `notes`: what is left out, and why.

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
    receipt = read_json(folder.result)
    session = prepare(from_json(folder.run.read_text(encoding="utf-8"), str(folder.run)))
    method, examiner = session.method(), session.examiner(torch.device(device_kind("auto")))
    notes: list[str] = []
    found: dict[str, Any] = {}
    record = read_record(folder.record)
    if record is None:
        notes.append("it was trained without --record")
    else:
        found["gradients"] = gradients_of(record, method, session.resolved.steps)
        trajectory = trajectory_of(record.weights)
        if trajectory is None:
            notes.append("the kept weights span no plane, those of two epochs or more do")
        else:
            found["trajectory"] = {
                "steps": record.weight_steps,
                "places": trajectory.places.tolist(),
                "explained": trajectory.plane.explained,
                "offset": trajectory.offset,
            }
            if grid and examiner.train is None:
                notes.append("without labels there is no error surface")
            elif grid:
                found["surface"] = _surface(trajectory, record, method, examiner, images, grid)
    try:
        found |= _conditions(list(receipt["encoders"]), folder, method, examiner)
    except WispError as reason:
        notes.append(str(reason))
    if not found:
        raise WispError(f"{path} has nothing to diagnose: {'; '.join(notes)}")
    found = {"schema": SCHEMA, **{key: receipt[key] for key in ("recipe", "commit")}, **found, "notes": notes}
    write_json(folder.diagnosis, found)
    write_report(path, None, folder.report)
    return found


def gradients_of(record: Record, method: Method, steps: int) -> dict[str, Any]:
    """What a record says of gradients, as plain values.

    Args:
        record: of a training.
        method: of the same.
        steps: of the whole training.
    """
    plane = principal_plane(record.directions)
    places = None if plane is None else plane.places(record.directions - record.directions.mean(0)).tolist()
    return {
        "steps": record.gradient_steps,
        "norms": record.norms.tolist(),
        "share": record.share,
        "shared": method.sharing() is not None,
        "places": places,
        "explained": None if plane is None else plane.explained,
        "cosines": F.cosine_similarity(record.directions[1:], record.directions[:-1]).tolist(),
        "phases": [next(step for step in range(steps) if step / steps >= begin) for begin in method.phases()],
    }


def _surface(
    trajectory: Trajectory, record: Record, method: Method, examiner: Examiner, images: int, grid: int
) -> dict[str, Any]:
    assert examiner.train is not None
    assert examiner.test is not None
    encoder = recorded_encoder(method).to(examiner.device)
    last = {name: tensor.to(examiner.device) for name, tensor in record.weights[-1].items()}
    encoder.load_state_dict(last, strict=False)  # no statistics: the surface normalises by the batch
    known, asked = (_pictures(examiner, source, images) for source in (examiner.train, examiner.test))
    error = partial(knn_error, known=known[0], labels=known[1], asked=asked[0], asked_labels=asked[1])
    with counting("error surface") as progress:
        drawn = surface_around(trajectory, last, encoder=encoder, error=error, points=grid, progress=progress)
    return {**dataclasses.asdict(drawn), "images": [len(known[1]), len(asked[1])]}


def _pictures(examiner: Examiner, source: Source, most: int) -> tuple[Tensor, Tensor]:
    """Evenly spaced images [N,3,S,S] and their labels [N], on the examiner's device."""
    images, seen = examiner.images(source, evenly(source, most))
    return images.to(examiner.device), labels_at(source, seen).to(examiner.device)


def _conditions(names: list[str], folder: RunFolder, method: Method, examiner: Examiner) -> dict[str, Any]:
    """Eq. 23 for every narrow network of a run.

    Raises:
        WispError: there are none, no labels, or fewer images than features.
    """
    first = next(iter(method.encoders().values()))
    if len(names) < 2 or method.sharing() is None or recorded_encoder(method) is not first:
        raise WispError("it has no narrow networks, of which a linear layer would read the first features")
    if examiner.train is None:
        raise WispError("without labels there is no linear layer to compare")
    indices = evenly(examiner.train, _IMAGES)
    features, labels = {}, torch.empty(0)
    for name in names:
        encoder = load_encoder(folder.exported / name).to(examiner.device)
        features[name], seen = examiner.features(encoder, examiner.train, indices)
        labels = labels_at(examiner.train, seen)
    found = {name: condition(features[names[0]], features[name], labels) for name in names[1:]}
    return {"conditions": {name: dataclasses.asdict(each) for name, each in found.items()}}
