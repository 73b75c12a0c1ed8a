"""From a finished run to its diagnosis: how networks that share weights disturb each other, and what features keep."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from wisp.data.sources import Source
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner, evenly, labels_at
from wisp.evaluate.features import extract
from wisp.evaluate.information import ceiling, entropy, place
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
_PLACED = 1000
"""Images of the information plane, as many as the monitor asks about."""
_NORMALISED = 256
"""Training images of which BatchNorm takes its statistics for it."""


def diagnose(path: Path, *, images: int = 500, grid: int = 11) -> dict[str, Any]:
    """Writes `diagnosis.json` of a run, and its report again.

    Args:
        path: a finished run.
        images: in which neighbours are looked for, and as many that are asked about, at every point of the surface.
        grid: points along each side of the error surface; 0 leaves it out.

    Returns:
        The content of the file: of a recorded run `gradients` (with the cosine of every kept gradient and the one
        before), `trajectory` and, with labels, `surface`; of a run of several widths, with labels, `conditions`; of
        every run `information`, without a record of its last epoch alone; and `notes`: what is left out, and why.

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
    names = list(receipt["encoders"])
    try:
        found |= _conditions(names, folder, method, examiner)
    except WispError as reason:
        notes.append(str(reason))
    if examiner.test is None:
        notes.append("without labels the information plane has no I(T;Y)")
    try:
        ways = {name: _kept(name, method, record) or _exported(name, folder, session.resolved.steps) for name in names}
        found["information"] = _information(ways, session.task, examiner)
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


Way = list[tuple[int, nn.Module, Mapping[str, Tensor]]]
"""An encoder in the course of a training: step, module, and the parameters that it takes there."""


def _kept(name: str, method: Method, record: Record | None) -> Way:
    """What a record has of an encoder."""
    if record is None:
        return []
    encoder = method.encoders()[name]
    if encoder is recorded_encoder(method):
        return [(step, encoder, weights) for step, weights in zip(record.weight_steps, record.weights, strict=True)]
    return [(step, encoder, weights) for step, weights in record.others.get(name, {}).items()]


def _exported(name: str, folder: RunFolder, steps: int) -> Way:
    return [(steps, load_encoder(folder.exported / name), {})]


def _information(ways: Mapping[str, Way], train: Source, examiner: Examiner) -> dict[str, Any]:
    """The places of every encoder in the information plane.

    The statistics of BatchNorm are taken anew, of the same images for every place: a record has none, those of a first
    step mean nothing, and the last place is that of the exported encoder with a record and without one.

    Raises:
        WispError: features that are not finite.
    """
    source = train if examiner.test is None else examiner.test
    asked, seen = examiner.images(source, evenly(source, _PLACED))
    labels = labels_at(source, seen) if examiner.test is not None else None
    usual, _ = examiner.images(train, evenly(train, _NORMALISED))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    points = [(name, *point) for name, way in ways.items() for point in way]
    with counting("information plane") as progress:
        for done, (name, step, encoder, weights) in enumerate(points):
            encoder.to(examiner.device).load_state_dict(dict(weights), strict=False)  # a record has no statistics
            update_bn(_batches(usual, examiner), encoder, examiner.device)
            features = extract(encoder, _batches(asked, examiner), examiner.device)
            found[name].append({"step": step, **dataclasses.asdict(place(features, labels))})
            progress(done + 1, len(points))
    return {
        "images": len(seen),
        "label_entropy": None if labels is None else entropy(labels),
        "ceiling": ceiling(len(seen)),
        "ways": found,
    }


def _batches(images: Tensor, examiner: Examiner) -> Sequence[Tensor]:
    """Of nearly the same size, for BatchNorm has no variance of one image."""
    return images.tensor_split(-(-len(images) // examiner.batch_size))


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
