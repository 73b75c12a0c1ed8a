"""head.safetensors: the projection head beside an exported encoder, for those who will teach with both."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from wisp.encoders.heads import read_mlp
from wisp.errors import WispError
from wisp.export.stock import read_weights, standalone
from wisp.files import write_bytes

HEAD = "head.safetensors"
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


def export_head(head: nn.Module, folder: Path) -> dict[str, str]:
    """Writes the layers of a head.

    Args:
        head: made by `wisp.encoders.heads.mlp`.
        folder: of the exported encoder.

    Returns:
        Kind of file -> its name.
    """
    kind = next(
        (name for name, kind in _ACTIVATIONS.items() for part in head.modules() if isinstance(part, kind)), "relu"
    )
    tensors = {name: tensor.clone() for name, tensor in standalone(head).state_dict().items()}
    write_bytes(folder / HEAD, safetensors.torch.save(tensors, metadata={"format": "pt", "activation": kind}))
    return {"head": HEAD}


def read_head(folder: Path) -> nn.Sequential | None:
    """The head beside an exported encoder, in eval mode; None where there is none.

    Raises:
        WispError: it is damaged.
    """
    path = folder / HEAD
    if not path.is_file():
        return None
    tensors = read_weights(path)
    with safetensors.safe_open(path, framework="pt") as file:
        kind = (file.metadata() or {}).get("activation", "relu")
    if kind not in _ACTIVATIONS:
        raise WispError(f"{path} has layers of kind {kind!r}, which this wisp does not know; update wisp")
    return read_mlp(tensors, _ACTIVATIONS[kind]).eval()
