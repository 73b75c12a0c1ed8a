"""`manifest.json` of a folder of generated pictures: what drew them, from which seeds, and what it cost."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wisp.data.extra import MANIFEST
from wisp.data.sources import EXTENSIONS, shown
from wisp.data.sources.folder import scan
from wisp.errors import WispError
from wisp.files import read_json, write_json

SCHEMA = 1
_SETTINGS = ("pipeline", "prompt", "classes", "steps", "guidance", "image_size", "seed", "precision")
"""What another command must agree in; `per_class` may grow."""


@dataclass(kw_only=True)
class Manifest:
    """The content of the file.

    Attributes:
        pipeline: its name on the hub, or that of its folder without the path.
        prompt: with `{class}` in it.
        classes: names; their folders are these, with `_` for a slash.
        per_class: pictures wanted of each class.
        steps: of denoising.
        guidance: scale of the classifier-free guidance; None where the pipeline has none.
        image_size: side in pixels, or (height, width) where they differ; None before the first picture.
        seed: of the whole set.
        precision: of weights and activations.
        defaults: those of `guidance` and `image_size` that nobody asked for: the pipeline's own.
        kind: class of the pipeline.
        weights: digest of a few numbers of every parameter, so that two models of one name are told apart.
        licence: what the model's card says; None where there is no card or it says nothing.
        hardware: what drew; None where several did, since their seconds are one number.
        versions: of the packages that drew last.
        seconds: spent drawing so far, pictures that were not kept included; loading is not.
        flops: spent likewise, a multiply-add is two; None when they could not be counted.
        drawn: pictures so far, kept or not.
        dropped: of them, so many were flagged or blacked out by a safety checker.
        duplicates: so many looked like an earlier one.
        left_out: paths of which every attempt was one or the other.
        images: path relative to the folder -> `{prompt, seed, bits}`; bits are those of `pictures.bits_of`, in hex.
    """

    schema: int = SCHEMA
    pipeline: str
    prompt: str
    classes: list[str]
    per_class: int
    steps: int
    guidance: float | None
    image_size: int | list[int] | None
    seed: int
    precision: str
    defaults: list[str] = field(default_factory=list)
    kind: str | None = None
    weights: str | None = None
    licence: str | None = None
    hardware: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    flops: int | None = 0
    drawn: int = 0
    dropped: int = 0
    duplicates: int = 0
    left_out: list[str] = field(default_factory=list)
    images: dict[str, dict[str, Any]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Replaces the file in one step."""
        write_json(folder / MANIFEST, dataclasses.asdict(self))

    def continued(self, folder: Path) -> Manifest:
        """The one that `folder` holds, with this one's `per_class`; this one where it holds none.

        Raises:
            WispError: the folder holds pictures without a manifest, a file that is none, or one of other settings.
        """
        if not (folder / MANIFEST).exists():
            _refuse_pictures(folder)
            return self
        there = _read(folder / MANIFEST)
        for setting in _SETTINGS:
            self._compare(there, setting, folder)
        if self.per_class < there.per_class:
            raise WispError(
                f"{folder} has {there.per_class} pictures of each class, and --per-class is {self.per_class}; "
                "it can only grow, or name another --out"
            )
        there.per_class = self.per_class
        return there

    def _compare(self, there: Manifest, setting: str, folder: Path) -> None:
        mine, its = getattr(self, setting), getattr(there, setting)
        own, its_own = setting in self.defaults, setting in there.defaults
        if (own and its_own) or (not own and mine == its):
            return
        if setting == "classes":
            raise WispError(f"{folder} holds pictures of other classes ({shown(its)}); name another --out")
        flag = f"--{setting.replace('_', '-')}"
        raise WispError(
            f"{folder} holds pictures of another command: {flag} is {_said(mine, own)} here and {_said(its, its_own)} "
            "there; give what it has, or name another --out"
        )


def _said(value: Any, own: bool) -> str:
    return "the pipeline's own" if own else f'"{value}"' if isinstance(value, str) else str(value)


def _refuse_pictures(folder: Path) -> None:
    found = scan(folder, EXTENSIONS) if folder.is_dir() else []
    if found:
        raise WispError(
            f"{folder} holds images and no {MANIFEST} that says where they are from ({shown(found)}); name another "
            "--out"
        )


def _read(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        WispError: it is none, or a later version's.
    """
    content = read_json(path)
    try:
        found = Manifest(**content)
        listed = all(isinstance(entry["seed"], int) and int(entry["bits"], 16) >= 0 for entry in found.images.values())
        complete = found.schema == SCHEMA and isinstance(found.per_class, int) and listed
        complete = complete and all(isinstance(text, str) for text in (*found.left_out, *found.classes))
        complete = complete and all(isinstance(n, (int, float)) for n in (found.seconds, found.drawn, found.dropped))
    except (TypeError, AttributeError, KeyError, ValueError):
        complete = False
    if not complete:
        raise WispError(f"{path} is no manifest of this version of wisp synthesize; name another --out")
    return found
