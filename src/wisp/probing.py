"""A classifier for a teacher that has none of a task: a linear probe of its features on the training images.

Source: Farhat and Chen 2023, section 3.1, who finetune a teacher in this way. The features are those that
`wisp.remembering` keeps, of plain images and of length 1, so that the layer stands behind a normalisation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from wisp.data.sources import Source, labels_of
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.evaluate.linear import fitted
from wisp.losses.contrastive import unit
from wisp.remembering import remember


class Probe(nn.Module):
    """A linear layer on features of length 1, [B,D] -> logits [B,C]."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        """[B,D] of any length -> [B,C]."""
        logits: Tensor = self.layer(unit(features))
        return logits


def probe(teacher: Teacher, source: Source, *, tell: Callable[[str], None], **looking: Any) -> Probe:
    """The classifier of `source`'s classes on a teacher's features; the same images give the same one.

    Args:
        teacher: on the CPU.
        source: labelled training images.
        tell: takes one line on what takes time: the teacher's look at all images.
        looking: how it looks, as `remember` takes it.

    Raises:
        WispError: as `remember`, or fewer than two images can be read.
    """
    assert source.classes is not None, "a method that needs labels has classes"
    rows = remember(teacher, source, "features", tell=tell, **looking).float()
    readable = rows.abs().sum(dim=1) > 0
    if int(readable.sum()) < 2:
        raise WispError(f"the teacher {teacher.origin} can look at fewer than two images; wisp check names the others")
    labels = torch.tensor(labels_of(source))
    return Probe(fitted(rows[readable], labels[readable], len(source.classes)))
