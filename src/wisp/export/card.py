"""card.json: what an exported encoder is, how to load it, how to feed it, and how good it is.

A card holds plain values only: no path of the machine that made it, no time.
"""

from __future__ import annotations

import json
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
    method: Any = None,
    data: Any = None,
    budget: Any = None,
    accuracy: Any = None,
    cost: Any = None,
    interpolation: str = "bilinear",
    crop_pct: float = 0.875,
) -> dict[str, Any]:
    """The card of the encoder `name` ("1x"), as far as it is known before its files are written.

    Args:
        spec: the architecture, its image size and normalisation.
        name: which of the method's encoders this is.
        method: name and settings of the method; this and the next four are dataclasses, mappings or plain values.
        data: what it was trained on, without a path.
        budget: epochs, images, steps, batch size.
        accuracy: under which protocol which accuracy.
        cost: FLOPs, time, memory.
        interpolation: of the resize of the shorter side to image_size / crop_pct, before the centre crop.
        crop_pct: see interpolation.
    """
    return {
        "schema": SCHEMA,
        "name": name,
        "model": spec.name,
        "features": spec.features,
        "build": {"factory": spec.factory, "kwargs": dict(spec.kwargs)},
        "preprocessing": {
            "image_size": spec.image_size,
            "mean": list(spec.mean),
            "std": list(spec.std),
            "interpolation": interpolation,
            "crop_pct": crop_pct,
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
    }


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
    return content


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
