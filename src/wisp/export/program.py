"""encoder.pt2: a network with its weights as one self-contained program that only torch is needed to run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.files import write_bytes


class Program(nn.Module):
    """A loaded program, [B,3,H,W] -> [B,D] for any B and the exported H, W; always in eval mode."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.graph = graph
        for part in self.modules():  # the loader leaves them in training mode, whatever the program computes
            part.training = False

    def forward(self, images: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,D]."""
        features: Tensor = self.graph(images)
        return features

    def train(self, mode: bool = True) -> Self:
        """Changes nothing: the program was traced in eval mode, and an exported graph raises when asked."""
        return self


def export_program(network: nn.Module, images: Tensor, path: Path) -> None:
    """Writes `network` (on the CPU, eval mode) as a program with a dynamic batch, and runs the file to prove it.

    Args:
        network: maps images [B,3,H,W] to [B,D].
        images: [B,3,H,W] with B >= 2; they fix H and W.
        path: of the file.

    Raises:
        WispError: the network cannot be exported, the file cannot be written, or the program differs from the network.
    """
    try:
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # torch.export raises what the traced code raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WispError(f"torch.export cannot trace this encoder ({reason}); use encoder.safetensors") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds the paths of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_bytes(path, buffer.getvalue())
    reloaded = load_program(path)
    with torch.inference_mode():
        for batch in (images, images[:1]):
            wanted, got = network(batch), reloaded(batch)
            difference = float((wanted - got).abs().max())
            if wanted.shape != got.shape or not difference <= 1e-5 * max(1.0, float(wanted.abs().max())):
                path.unlink()
                raise WispError(f"{path.name} was not kept: it differs from the encoder by {difference:.1e}")


def load_program(path: Path) -> Program:
    """The program in the file `path`.

    Raises:
        WispError: the file is missing or damaged.
    """
    if not path.is_file():
        raise WispError(f"{path} does not exist; export the encoder again")
    try:
        return Program(torch.export.load(path).module())
    except Exception as error:  # zip, JSON and version errors have no common class
        raise WispError(f"{path} is not a whole torch.export program; export the encoder again") from error
