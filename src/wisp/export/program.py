"""encoder.pt2: a network with its weights as one self-contained program that only torch is needed to run."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO, Self

import torch
from torch import Tensor, nn

from wisp.errors import WispError, one_line
from wisp.export.twin import USE_WEIGHTS, compare
from wisp.files import write_bytes

TOLERANCE = 1e-5


class Program(nn.Module):
    """A loaded program, [B,3,H,W] -> [B,D] for any B and the exported H, W; always in eval mode.

    Attributes:
        network: the program's own module. Its tensors have the names that they had before the export. (It must not be
            called `graph`: torch.export would look for the weights in the attribute of that name of its own graph.)
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        for part in self.modules():  # the loader leaves them in training mode, whatever the program computes
            part.training = False

    def forward(self, images: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,D]."""
        features: Tensor = self.network(images)
        return features

    def train(self, mode: bool = True) -> Self:
        """Changes nothing: the program was traced in eval mode, and an exported graph raises when asked."""
        return self


def export_program(network: nn.Module, images: Tensor, path: Path) -> dict[str, float]:
    """Writes `network` (on the CPU, eval mode) as a program with a dynamic batch, if what is to be written proves it.

    Args:
        network: maps images [B,3,H,W] to [B,D].
        images: [B,3,H,W] with B >= 2; they fix H and W, and both compute on them.
        path: of the file; an earlier one stays until the new one has passed.

    Returns:
        `max_difference` over all outputs and the `tolerance` that it met, 1e-5 * max(1, max|y|).

    Raises:
        WispError: the network cannot be exported, the program cannot be run or computes something else, or the file
            cannot be written.
    """
    with one_line("torch.export cannot trace this encoder", USE_WEIGHTS):
        program = torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # holds the paths of this machine
    with one_line("torch cannot run the program of this encoder", USE_WEIGHTS):
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
        buffer.seek(0)
        found = compare(path.name, network, _loaded(buffer), images, TOLERANCE)
    write_bytes(path, buffer.getvalue())
    return found


def load_program(path: Path) -> Program:
    """The program in the file `path`.

    Raises:
        WispError: the file is missing or damaged.
    """
    if not path.is_file():
        raise WispError(f"{path} does not exist; wisp export RUN --to pt2 makes it")
    try:
        with path.open("rb") as file:
            return _loaded(file)
    except Exception as error:  # zip, JSON and version errors have no common class
        raise WispError(f"{path} is not a whole torch.export program; export the encoder again") from error


def _loaded(file: IO[bytes]) -> Program:
    return Program(torch.export.load(file).module())
