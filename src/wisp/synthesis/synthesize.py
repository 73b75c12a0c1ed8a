"""Pictures of every class of a data set, one file each, in class folders that any `--data` or `--extra` reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote
from typing import Literal

import torch
from rich.console import Console

from wisp.data.sources import open_source
from wisp.errors import WispError
from wisp.files import at_home
from wisp.synthesis import pipeline as pipelines
from wisp.synthesis.drawing import ATTEMPTS, Drawing, folder_of, missing_places
from wisp.synthesis.manifest import Manifest
from wisp.synthesis.pipeline import Painter
from wisp.synthesis.prompts import PRESETS, filled, template
from wisp.train.blocks import flops
from wisp.train.environment import hardware
from wisp.train.folder import RunFolder
from wisp.train.precision import Precision, resolve
from wisp.train.screen import duration, say
from wisp.train.setup import device_kind


def synthesize(
    classes_from: str,
    *,
    out: str,
    per_class: int,
    prompt: str = PRESETS["caltech-101"],
    pipeline: str = "CompVis/stable-diffusion-v1-4",
    steps: int = 50,
    guidance: float | None = None,
    image_size: int | None = None,
    batch_size: int = 4,
    seed: int = 0,
    precision: Precision = "auto",
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto",
    console: Console | None = None,
) -> Path:
    """Draws pictures of the classes of a data set into `out`, or those that are still missing there.

    A picture's seed follows from `seed`, its class and its number alone, so that neither the batch nor an interruption
    changes it (beyond the rounding of kernels, which may depend on the batch). One that a safety checker flags or
    blacks out, and one that looks like an earlier one, is drawn again from the next seed, six times at most.

    Args:
        classes_from: as in `open_source`; its class names are drawn, and become folders of `out`.
        out: folder; beside the class folders it holds `manifest.json` (`Manifest`).
        per_class: pictures of each class.
        prompt: with `{class}` where the name goes (underscores become spaces), or a name of `PRESETS`.
        pipeline: a text-to-image pipeline of diffusers: a name on the hub, or a folder.
        steps: of denoising.
        guidance: scale; the pipeline's own unless given.
        image_size: side in pixels; the pipeline's own unless given.
        batch_size: pictures that are drawn at a time.
        seed: of the whole set.
        precision: of weights and activations; `auto` as in training.
        accelerator: where to draw.
        console: where to write; standard output unless given.

    Returns:
        `out`.

    Raises:
        WispError: bad input, before anything is written; or a pipeline that cannot go on.
    """
    console = console or Console(highlight=False)
    for flag, value in (("--per-class", per_class), ("--steps", steps), ("--batch-size", batch_size)):
        if value < 1:
            raise WispError(f"{flag} is {value}; it must be 1 or more")
    if image_size is not None and image_size < 8:
        raise WispError(f"--image-size is {image_size}; a picture has 8 pixels a side or more")
    text = template(prompt)
    names = _classes(classes_from)
    folder = Path(out)
    _refuse_place(folder, classes_from)
    device = torch.device(device_kind(accelerator))
    wanted = Manifest(
        pipeline=pipelines.called(pipeline),
        prompt=text,
        classes=names,
        per_class=per_class,
        steps=steps,
        guidance=guidance,
        image_size=image_size,
        seed=seed,
        precision=resolve(precision, device.type),
        defaults=[name for name, value in (("guidance", guidance), ("image_size", image_size)) if value is None],
    )
    record = wanted.continued(folder)
    if missing_places(record, folder):
        pipelines.require_extra()
        say(console, f"loading {record.pipeline}")
        painter = Painter(
            pipeline,
            steps=steps,
            guidance=guidance,
            image_size=image_size,
            precision=resolve(precision, device.type),
            device=device,
        )
        with _held(folder):
            record = wanted.continued(folder)  # another process may have drawn in the meantime
            missing = missing_places(record, folder)
            _agree(record, painter, folder)
            here = hardware(device)
            record.hardware = here if record.hardware == here or not record.images else None
            record.versions = pipelines.versions()
            say(console, _summary(record, len(missing), batch_size, device))
            Drawing(record, painter, folder).all_of(missing, batch_size)
    else:
        say(console, f"{folder} is complete: nothing is left to draw")
    say(console, _closing(record, folder, classes_from))
    return folder


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, for this process alone; what was made of it and stays empty is removed again."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        with RunFolder(folder).held():
            yield
    finally:
        with suppress(OSError):  # the first that is not empty ends it
            for place in made:
                place.rmdir()


# what is wanted ------------------------------------------------------------------------------------------------------


def _classes(data: str) -> list[str]:
    """Names of the classes, each with a folder of its own.

    Raises:
        WispError: there are none, or one cannot have a folder.
    """
    names = open_source(data).classes
    if names is None:
        raise WispError(
            f'"{data}" has no classes to name in a prompt: use one sub-folder per class, or a data set with labels'
        )
    owner: dict[str, str] = {}
    for name in names:
        place = folder_of(name)
        if not place or place.startswith(".") or len(place.encode(errors="replace")) > 255:
            raise WispError(f'the class "{name}" of "{data}" cannot be the name of a folder; rename it')
        if place in owner:
            raise WispError(f'the classes "{owner[place]}" and "{name}" of "{data}" would share a folder; rename one')
        owner[place] = name
    return list(names)


def _refuse_place(out: Path, data: str) -> None:
    """Raises WispError where nothing can be written, or where pictures would become part of the data set itself."""
    ground = next(place for place in (out, *out.absolute().parents) if place.exists())
    if not ground.is_dir():
        raise WispError(f"--out {out} cannot be made: {ground} is a file; name another folder")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise WispError(f"--out {out} cannot be written: no permission in {ground}; name another folder")
    source = at_home(data)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise WispError(f"--out {out} lies in the data set {data}, and would become part of it; name another folder")


def _agree(record: Manifest, painter: Painter, folder: Path) -> None:
    """Writes down what the pipeline turned out to be, and compares it with what drew the pictures that are there.

    Raises:
        WispError: another model drew them, under the same name.
    """
    if record.weights is not None and record.weights != painter.weights:
        raise WispError(
            f"{folder} holds pictures of a pipeline {record.pipeline} with other weights; name another --out"
        )
    record.kind, record.weights, record.guidance = painter.kind, painter.weights, painter.guidance
    record.licence = painter.licence or record.licence


# words ---------------------------------------------------------------------------------------------------------------


def _summary(record: Manifest, missing: int, batch_size: int, device: torch.device) -> str:
    guidance = "no guidance" if record.guidance is None else f"guidance {record.guidance:g}"
    wanted = len(record.classes) * record.per_class
    return "\n".join(
        [
            f"pictures  {len(record.classes)} classes x {record.per_class}"
            + (f", {wanted - missing} of them are there" if missing < wanted else ""),
            f'prompt    "{record.prompt}", as in "{filled(record.prompt, record.classes[0])}"',
            f"pipeline  {record.pipeline} ({record.kind}), licence {record.licence or 'not known'}",
            f"sampling  {record.steps} steps, {guidance}, seed {record.seed}, {batch_size} at a time, "
            f"{record.precision} on {device.type}",
        ]
    )


def _closing(record: Manifest, folder: Path, data: str) -> str:
    count = len(record.images)
    each = "" if record.flops is None or not record.drawn else f", {flops(record.flops / record.drawn)}"
    again = record.dropped + record.duplicates
    lines = [
        "",
        f"{folder}: {count} pictures of {len(record.classes)} classes, {duration(record.seconds)} of drawing, "
        f"{record.seconds / max(record.drawn, 1):.2g} s{each} each",
    ]
    if again:
        lines.append(
            f"not kept: {again} ({record.dropped} flagged or black, {record.duplicates} like an earlier one); "
            f"places left empty after {ATTEMPTS} attempts: {len(record.left_out)}"
        )
    if record.licence is None:
        lines.append("licence: the model's card is not here; look it up before you pass pictures on")
    return "\n".join(
        [
            *lines,
            f"next: wisp distill au --data {quote(data)} --extra {quote(str(folder))} --teacher TEACHER --model NAME",
        ]
    )
