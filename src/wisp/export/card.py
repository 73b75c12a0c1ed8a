"""card.json: what an exported encoder or classifier is, how to load it, how to feed it, and how good it is.

A card holds plain values only: no path of the machine that made it, no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wisp.encoders.stock import EncoderSpec
from wisp.errors import WispError
from wisp.files import plain, write_json

SCHEMA = 1
CARD = "card.json"
LICENCE = "The weights are yours: wisp claims no right to what it trains. wisp itself is Apache-2.0."


def card(
    spec: EncoderSpec,
    *,
    name: str,
    classes: Sequence[str] | None = None,
    method: Any = None,
    data: Any = None,
    budget: Any = None,
    accuracy: Any = None,
    cost: Any = None,
) -> dict[str, Any]:
    """The card of the encoder `name` ("1x"), as far as it is known before its files are written.

    Args:
        spec: the architecture, its image size and normalisation.
        name: which of the method's encoders this is, or is the classifier of.
        classes: of a classifier: the name of each of its outputs.
        method: name and settings of the method; this and the next four are dataclasses, mappings or plain values.
        data: what it was trained on, without a path.
        budget: epochs, images, steps, batch size.
        accuracy: under which protocol which accuracy.
        cost: FLOPs, time, memory.

    Its preprocessing is that of `wisp.data.plain`: the shorter side is resized to image_size / crop_pct, then the
    centre is cut out. `files`, `load` and `checks` (on which images `wisp export` compared a twin, and how they agreed)
    are filled in by who writes the files.
    """
    return {
        "schema": SCHEMA,
        "name": name,
        "kind": "encoder" if classes is None else "classifier",
        "classes": None if classes is None else list(classes),
        "model": spec.name,
        "features": spec.features,
        "build": {"factory": spec.factory, "kwargs": dict(spec.kwargs)},
        "preprocessing": {
            "image_size": spec.image_size,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": "bilinear",
            "crop_pct": 0.875,
            "small_images": "images with a shorter side of 64 pixels or less are resized to image_size itself",
        },
        "method": plain(method),
        "data": plain(data),
        "budget": plain(budget),
        "accuracy": plain(accuracy),
        "cost": plain(cost),
        "licence": LICENCE,
        "files": {},
        "load": [],
        "checks": {},
    }


def load_lines(content: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """A few lines of Python, to be run by somebody who has no wisp; none if no file allows it.

    Args:
        content: of the card. Of its files the first that can be used is loaded: weights that timm takes, a loader, a
            program, an ONNX file.
        folder: that the network lies in, as seen from where the lines are run; they are run in it unless given.
    """
    kind, build, files, outputs = content["kind"], content["build"], content["files"], output_name(content)
    naming, json = _names(content, folder)
    if build is not None and str(build["factory"]).startswith("timm.") and "safetensors" in files:
        arguments = ", ".join(f"{key}={value!r}" for key, value in build["kwargs"].items())
        return [
            f"import {json}safetensors.torch, timm",
            f"{kind} = timm.create_model({arguments}).eval()",
            f"{kind}.load_state_dict(safetensors.torch.load_file({_placed(files['safetensors'], folder)}))",
            *naming,
        ]
    if "loader" in files:
        there = [] if folder is None else [f"import sys; sys.path.insert(0, {str(folder)!r})"]
        return [*there, "from load_narrow import load", f"{kind} = load()"]
    if "pt2" in files:
        shape, told = _shape(content)
        return [
            f"import {json}torch",
            f"{kind} = torch.export.load({_placed(files['pt2'], folder)}).module()",
            *naming,
            f"{outputs} = {kind}(torch.zeros{shape})  {told}",
        ]
    return onnx_lines(content, folder) if "onnx" in files else []


def onnx_lines(content: Mapping[str, Any], folder: Path | None = None) -> list[str]:
    """The lines that load the ONNX file with onnxruntime and numpy alone.

    Args:
        content: of a card with an `onnx` among its files.
        folder: as in `load_lines`.
    """
    kind, outputs, (shape, told) = content["kind"], output_name(content), _shape(content)
    naming, json = _names(content, folder)
    return [
        f"import {json}numpy, onnxruntime",
        f"{kind} = onnxruntime.InferenceSession({_placed(content['files']['onnx'], folder)})",
        *naming,
        f"{outputs} = {kind}.run(None, {{'images': numpy.zeros({shape}, 'float32')}})[0]  {told}",
    ]


def _names(content: Mapping[str, Any], folder: Path | None) -> tuple[list[str], str]:
    """The line that reads a classifier's class names, and what it imports; nothing of an encoder."""
    if content["kind"] == "encoder":
        return [], ""
    opened = f"open({_placed(CARD, folder)}, encoding='utf-8')"
    return [f"classes = json.load({opened})['classes']  # classes[i] is the name of output i"], "json, "


def _placed(name: str, folder: Path | None) -> str:
    """A file's name as Python writes it."""
    return repr(name if folder is None else str(folder / name))


def _shape(content: Mapping[str, Any]) -> tuple[str, str]:
    """Of one image, and a remark on what images are wanted."""
    side = content["preprocessing"]["image_size"]
    return f"(1, 3, {side}, {side})", f"# normalised images [B,3,{side},{side}]"


def file_name(content: Mapping[str, Any], form: str) -> str:
    """What a card's network is called as a file: `encoder.onnx`.

    Args:
        content: of the card.
        form: `safetensors`, `pt2` or `onnx`.
    """
    return f"{content['kind']}.{form}"


def output_name(content: Mapping[str, Any]) -> str:
    """What a card's network gives: `features`, or `logits`."""
    return "features" if content["kind"] == "encoder" else "logits"


def read_card(folder: Path) -> dict[str, Any]:
    """The card in `folder`.

    Raises:
        WispError: there is none, it is damaged, or a newer wisp wrote it.
    """
    path = folder / CARD
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WispError(f"no {CARD} in {folder}; name a folder that wisp exported (RUN/exported/NAME)") from None
    except (OSError, ValueError) as error:
        raise WispError(f"{path} cannot be read ({error}); export the encoder again") from None
    if not isinstance(content, dict) or not isinstance(content.get("schema"), int):
        raise WispError(f"{path} is not a card of wisp")
    if content["schema"] > SCHEMA:
        raise WispError(f"{path} has schema {content['schema']}, this wisp knows {SCHEMA}; update wisp")
    return {"kind": "encoder", **content}  # the first cards did not say it


def update_card(folder: Path, **fields: Any) -> dict[str, Any]:
    """Sets `fields` of the card in `folder` and returns it; a mapping adds to the mapping that is there.

    For what is known only after the export: `update_card(folder, accuracy={"knn": ...}, files={"onnx": ...})`.

    Raises:
        WispError: as `read_card`.
    """
    content = read_card(folder)
    for key, value in fields.items():
        old, new = content.get(key), plain(value)
        content[key] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
    write_json(folder / CARD, content)
    return content
