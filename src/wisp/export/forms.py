"""An exported encoder once more, in one form: beside the files that are there, or in a folder of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from wisp.errors import WispError
from wisp.export.card import CARD, file_name, load_lines, output_name, read_card
from wisp.export.onnx import export_onnx, missing_extra
from wisp.export.program import export_program
from wisp.export.stock import load_encoder, standalone
from wisp.files import write_bytes, write_json

FORMS = ("timm", "onnx", "pt2")


def write_form(folder: Path, to: str, target: Path, images: Tensor, described: str) -> Path:
    """Writes the encoder of an exported folder as `to`, and a card that tells what `target` then holds.

    Nothing is written, and no folder made, before the new file's content has been computed and compared.

    Args:
        folder: the exported one.
        to: one of `FORMS`.
        target: `folder` itself, another one with a card of the same encoder, or one without a card.
        images: normalised [B,3,S,S], on which a twin is compared with the encoder.
        described: what these images are, for the card's `checks`.

    Returns:
        The file.

    Raises:
        WispError: timm cannot build the encoder, an extra is missing, `target` holds another encoder, the twin cannot
            be made or differs, or something cannot be written.
    """
    content, network = read_card(folder), standalone(load_encoder(folder))
    same = target.resolve() == folder.resolve()
    card = content if same else _card_for(target, content)
    found: dict[str, float] | None = None
    if to == "timm":
        if not str((content["build"] or {}).get("factory")).startswith("timm."):
            raise WispError(f"timm cannot build {content['model']} as trained; use --to pt2 or onnx")
        if "safetensors" not in content["files"]:
            weights = file_name(content, "safetensors")
            raise WispError(f"{folder} holds no {weights}; name the run that its files come from")
        kind, file = "safetensors", target / file_name(content, "safetensors")
        if same:
            return file
        write_bytes(file, (folder / file.name).read_bytes())
    elif to == "onnx":
        kind, file = "onnx", target / file_name(content, "onnx")
        found = export_onnx(network, images, file, output_name(content))
        if found is None:
            raise WispError(str(missing_extra()))
    else:
        kind, file = "pt2", target / file_name(content, "pt2")
        found = export_program(network, images, file)
    files = {**card["files"], kind: file.name, "card": CARD}
    checks = dict(card.get("checks", {}))
    if found is not None:
        checks[kind] = {"images": described, **found}
    card |= {"files": files, "checks": checks}
    write_json(target / CARD, {**card, "load": load_lines(card)})
    return file


def _card_for(target: Path, content: dict[str, Any]) -> dict[str, Any]:
    """The card of this encoder in `target`, or one for a folder where nothing is yet.

    Raises:
        WispError: the card there is of another encoder, which the new file would be taken for.
    """
    new = {**content, "files": {}, "load": [], "checks": {}}
    if not (target / CARD).is_file():
        return new
    there = read_card(target)
    if {**there, "files": {}, "load": [], "checks": {}} != new:
        raise WispError(f"--out {target} holds another encoder; name another folder")
    return there
