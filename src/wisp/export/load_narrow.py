"""Loads the narrow network that lies beside this file, with torch, timm and safetensors alone.

    from load_narrow import load
    encoder = load()          # [B,3,H,W] normalised -> [B,D], in evaluation mode

`narrow.json` names timm's build call and, for every layer and tensor of another size than timm's, its sizes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def load(folder: Path | str | None = None) -> torch.nn.Module:
    """The network in `folder`, which is this file's own unless given."""
    import timm

    place = Path(__file__).parent if folder is None else Path(folder)
    narrow = json.loads((place / "narrow.json").read_text(encoding="utf-8"))
    network = timm.create_model(**narrow["kwargs"])
    return fit(network, narrow, load_file(place / "encoder.safetensors")).eval()


def fit(network: torch.nn.Module, sizes: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """Gives `network` other sizes and other tensors, in place.

    Args:
        network: of the same structure.
        sizes: `modules`, path of a layer -> its numbers, such as `out_channels`, by the name of the attribute; and
            `shapes`, name of a tensor -> its shape; of what is not in them the network's own holds.
        tensors: every parameter and buffer by name.

    Raises:
        ValueError: a tensor is missing, unexpected, or of another shape.
    """
    wanted = {name: list(tensor.shape) for name, tensor in network.state_dict().items()} | sizes["shapes"]
    found = {name: list(tensor.shape) for name, tensor in tensors.items()}
    for full_name in sorted(wanted.keys() | found.keys()):
        if wanted.get(full_name) != found.get(full_name):
            raise ValueError(f"{full_name} is {found.get(full_name)}, not {wanted.get(full_name)}")
    for path, numbers in sizes["modules"].items():
        for name, value in numbers.items():
            setattr(network.get_submodule(path), name, tuple(value) if isinstance(value, list) else value)
    for full_name, tensor in tensors.items():
        path, _, name = full_name.rpartition(".")
        module = network.get_submodule(path)
        if name in module._parameters:
            module._parameters[name] = torch.nn.Parameter(tensor)
        else:
            module._buffers[name] = tensor
    return network
