"""Networks with the structure of a stock one and other sizes: what their layers are called and how large they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wisp.errors import WispError
from wisp.export import load_narrow
from wisp.files import write_bytes, write_json

NARROW = "narrow.json"
LOADER = "load_narrow.py"


Sizes = dict[str, dict[str, Any]]
"""`modules`: path of a layer -> its numbers by attribute; `shapes`: name of a tensor -> its shape."""


def sizes_of(network: nn.Module, stock: nn.Module) -> Sizes | None:
    """In which numbers and shapes a network differs from `stock`.

    None where the two do not have the same layers and tensors by name.
    """
    tensors, theirs = network.state_dict(), stock.state_dict()
    if set(tensors) != set(theirs):
        return None
    layers = dict(network.named_modules())
    found: dict[str, dict[str, Any]] = {}
    for path, module in stock.named_modules():
        if path not in layers or type(layers[path]) is not type(module):
            return None
        sizes = {
            name: value
            for name, value in vars(layers[path]).items()
            if _is_size(value) and value != vars(module).get(name)
        }
        if sizes:
            found[path] = sizes
    shapes = {name: list(t.shape) for name, t in tensors.items() if t.shape != theirs[name].shape}
    return {"modules": found, "shapes": shapes}


def write_narrow(folder: Path, factory: str, kwargs: dict[str, Any], sizes: Sizes) -> dict[str, str]:
    """Writes `narrow.json` and, where timm builds the structure, the loader that needs no wisp.

    Returns:
        Kind of file -> its name.
    """
    write_json(folder / NARROW, {"factory": factory, "kwargs": kwargs, **sizes})
    if factory.startswith("timm."):
        write_bytes(folder / LOADER, Path(str(load_narrow.__file__)).read_bytes())
        return {"narrow": NARROW, "loader": LOADER}
    return {"narrow": NARROW}


def read_narrow(folder: Path) -> tuple[str, dict[str, Any], Sizes]:
    """Factory, its arguments and the sizes in `folder`.

    Raises:
        WispError: the file is damaged.
    """
    try:
        content = json.loads((folder / NARROW).read_text(encoding="utf-8"))
        sizes = {key: dict(content[key]) for key in ("modules", "shapes")}
        return str(content["factory"]), dict(content["kwargs"]), sizes
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WispError(f"{folder / NARROW} cannot be read ({error}); export the encoder again") from None


def fitted(network: nn.Module, sizes: Sizes, tensors: dict[str, Tensor], source: str) -> nn.Module:
    """`network` with other sizes and tensors.

    Raises:
        WispError: a tensor is missing, unexpected, or of another shape.
    """
    try:
        return load_narrow.fit(network, sizes, tensors)
    except (ValueError, AttributeError) as error:
        raise WispError(f"{source} does not fit its encoder: {error}; nothing was loaded") from None


def _is_size(value: object) -> bool:
    return type(value) is int or (isinstance(value, tuple) and bool(value) and all(type(v) is int for v in value))
