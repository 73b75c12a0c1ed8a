"""Projectors of a task distillation: they take a student's and its teacher's features to where the two meet.

Source: Farhat and Chen 2023, Figure 7 and released code. Both are trained; but a teacher of MoCo's keeps its own head
there, which the optimizer leaves alone.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

from wisp.encoders.heads import mlp
from wisp.encoders.teacher import Teacher
from wisp.methods.parts.taught import width_for

Kind = Literal["linear", "moco_v2", "simclr", "simclr_v2"]
OUT = 128
"""E of the paper's code."""


def projectors(
    kind: Kind, features: int, teacher: Teacher, out: int | None
) -> tuple[nn.Sequential, nn.Sequential | None]:
    """The student's, [B,D] -> [B,E], and the teacher's, [B,D'] -> [B,E]: None where it has a head of its own.

    Args:
        kind: of both.
        features: D of the student.
        teacher: with D' features and, where one was asked for, a head.
        out: E; that of the teacher's head, else `OUT`, unless given.

    Raises:
        WispError: E is below 1, or not that of the teacher's head.
    """
    if teacher.head is not None:
        return _projector(kind, features, width_for(out, teacher)), None
    out = OUT if out is None else out
    return _projector(kind, features, out), _projector(kind, teacher.features, out)


def _projector(kind: Kind, features: int, out: int) -> nn.Sequential:
    """[B,D] -> [B,E], not yet of length 1."""
    hidden = {"linear": 0, "moco_v2": 1, "simclr": 1, "simclr_v2": 2}[kind]
    norm = kind in ("simclr", "simclr_v2")
    return mlp([features] * (1 + hidden) + [out], norm=norm, last="plain_norm" if norm else "linear")
