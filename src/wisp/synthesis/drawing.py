"""From places without a picture to files: draw a batch, judge it, draw again what may not stay, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from wisp.data.extra import MANIFEST
from wisp.errors import WispError
from wisp.files import atomic
from wisp.synthesis.manifest import Manifest
from wisp.synthesis.pictures import Seen, bits_of, black, seed_of
from wisp.synthesis.pipeline import Painter
from wisp.synthesis.prompts import filled
from wisp.train.screen import counting

ATTEMPTS = 6
"""Seeds that are tried for one picture."""
_HOPELESS = 3
"""So many places without a picture, and none with one, end the work."""


@dataclass(frozen=True)
class Place:
    """One picture that is wanted: its class, and its number in the class."""

    name: str
    number: int

    @property
    def path(self) -> str:
        """Of the file, relative to the folder."""
        return f"{folder_of(self.name)}/{self.number:05}.png"


def folder_of(name: str) -> str:
    """The folder of a class: its name, and `_` for what would be a folder in a folder (`door/inside`)."""
    return name.replace("/", "_")


def missing_places(record: Manifest, folder: Path) -> list[Place]:
    """Places without a picture, the first of every class before the second of any: a part is balanced, and can grow.

    Raises:
        WispError: a file of another origin in such a place.
    """
    places = [Place(name, number) for number in range(record.per_class) for name in record.classes]
    left_out = set(record.left_out)
    missing = [place for place in places if place.path not in left_out and not (folder / place.path).exists()]
    there = {place.path for place in places} - {place.path for place in missing} - left_out
    foreign = sorted(there - set(record.images))
    if foreign:
        raise WispError(f"{folder / foreign[0]} is not in {MANIFEST}; move it away, or name another --out")
    return missing


class Drawing:
    """Draws pictures, judges them, and keeps folder and manifest in step: no picture is there that is not listed."""

    def __init__(self, record: Manifest, painter: Painter, folder: Path) -> None:
        self._record, self._painter, self._folder = record, painter, folder
        self._before = (record.seconds, record.drawn, record.flops)
        self._hopeless = _HOPELESS
        self._seen = Seen()
        for path, entry in record.images.items():
            self._seen.add(path.rpartition("/")[0], int(entry["bits"], 16))

    def all_of(self, missing: Sequence[Place], batch_size: int) -> None:
        """Draws and writes a picture for each place, a batch at a time.

        Raises:
            WispError: the pipeline cannot draw, none of its pictures may be kept, or a file cannot be written.
        """
        self._hopeless = min(_HOPELESS, len(missing))
        with counting("drawing pictures") as progress:
            progress(0, len(missing))
            for start in range(0, len(missing), batch_size):
                batch = missing[start : start + batch_size]
                self._write(self._kept(batch))
                progress(start + len(batch), len(missing))

    def _kept(self, batch: Sequence[Place]) -> dict[str, Image.Image]:
        """A picture for each place that gets one. They are judged in order, as they would be one at a time."""
        listed = self._record.images
        seeds = [listed[place.path]["seed"] if place.path in listed else self._seed(place, 0) for place in batch]
        drawn = self._painter.draw([self._prompt(place) for place in batch], seeds)
        kept = {}
        for place, seed, first in zip(batch, seeds, drawn, strict=True):
            if place.path in listed:  # it was judged when it was listed, and has gone since
                kept[place.path] = first.image
                continue
            picture, attempt = first, 0
            while not self._good(place, picture.flagged, picture.image):
                attempt += 1
                if attempt == ATTEMPTS:
                    break
                seed = self._seed(place, attempt)
                picture = self._painter.draw([self._prompt(place)], [seed])[0]
            else:
                bits = bits_of(picture.image)
                self._seen.add(folder_of(place.name), bits)
                listed[place.path] = {"prompt": self._prompt(place), "seed": seed, "bits": f"{bits:016x}"}
                kept[place.path] = picture.image
                continue
            self._record.left_out.append(place.path)
            if not listed and len(self._record.left_out) == self._hopeless:
                raise WispError(
                    f"all of {self._painter.pictures} pictures were flagged or black; try --precision fp32, another "
                    "--prompt or another --pipeline"
                )
        return kept

    def _good(self, place: Place, flagged: bool, image: Image.Image) -> bool:
        """Whether a picture may stay; counts it where not."""
        if flagged or black(image):
            self._record.dropped += 1
            return False
        if (folder_of(place.name), bits_of(image)) in self._seen:
            self._record.duplicates += 1
            return False
        return True

    def _write(self, kept: dict[str, Image.Image]) -> None:
        """The manifest first, then the pictures that it lists: what a kill leaves out is drawn from the same seed."""
        record, painter = self._record, self._painter
        seconds, drawn, operations = self._before
        record.seconds, record.drawn = seconds + painter.seconds, drawn + painter.pictures
        record.flops = None if operations is None or painter.flops is None else operations + painter.flops
        if not record.images:
            return  # a folder without a picture would only refuse the next, better command
        if kept and "image_size" in record.defaults:
            width, height = next(iter(kept.values())).size
            record.image_size = width if width == height else [height, width]
        record.save(self._folder)
        for path, image in kept.items():
            with atomic(self._folder / path) as file:
                image.save(file, "PNG")

    def _seed(self, place: Place, attempt: int) -> int:
        return seed_of(self._record.seed, place.name, place.number, attempt)

    def _prompt(self, place: Place) -> str:
        return filled(self._record.prompt, place.name)
