"""A classifier for a teacher that has none of a task: a linear probe of its features on the training images.

Source: Farhat and Chen 2023, section 3.1, who finetune a teacher in this way. The features are those that
`wisp.teachers.remembering` keeps, of plain images; they are brought to length 1, so that the layer stands behind a
normalisation.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wisp.data.sources import Source, labels_of
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.evaluate.linear import LEARNING_RATES, Protocol, fitted
from wisp.losses.contrastive import unit
from wisp.teachers.remembering import remember


class TeacherProbe(nn.Module):
    """A linear layer on features of length 1, [B,D] -> logits [B,C].

    Attributes:
        seconds: that fitting it took, without the features.
    """

    def __init__(self, layer: nn.Linear, seconds: float = 0.0) -> None:
        super().__init__()
        self.layer, self.seconds = layer, seconds

    def forward(self, features: Tensor) -> Tensor:
        """[B,D] of any length -> [B,C]."""
        logits: Tensor = self.layer(unit(features))
        return logits


def probe_teacher(
    teacher: Teacher, source: Source, *, tell: Callable[[str], None], device: torch.device, **looking: Any
) -> TeacherProbe:
    """The classifier of `source`'s classes on a teacher's features, on the CPU; the same images give the same one.

    Args:
        teacher: on the CPU.
        source: labelled training images.
        tell: takes a line on what takes time: the teacher's look at all images, and the probe.
        device: where both happen.
        looking: how it looks, as `remember` takes it.

    Raises:
        WispError: as `remember`, or fewer than two images can be read.
    """
    assert source.classes is not None, "a method that needs labels has classes"
    rows = unit(remember(teacher, source, "features", tell=tell, device=device, **looking).to(device).float())
    labels = torch.tensor(labels_of(source), device=device)
    readable = rows.any(dim=1)
    if not bool(readable.all()):
        rows, labels = rows[readable], labels[readable]
    if len(rows) < 2:
        raise WispError(f"the teacher {teacher.origin} can look at fewer than two images; wisp check names the others")
    tell(f"probing the teacher {teacher.origin}: {len(source.classes)} classes from {teacher.features} features")
    begun = time.perf_counter()
    layer, right = fitted(rows, labels, len(source.classes))
    tell(f"it names {right:.0f} % of a tenth of the images right, from the others")
    return TeacherProbe(layer.cpu(), time.perf_counter() - begun)


def flops(teacher: Teacher, images: int, classes: int) -> int:
    """Of the probe, forward and backward: all learning rates on the images that do not choose among them, and one."""
    protocol = Protocol()
    passes = protocol.epochs * (1 + (1 - protocol.held_out) * len(LEARNING_RATES[protocol.normalise]))
    return round(4 * images * teacher.features * classes * passes)
