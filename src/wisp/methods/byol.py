"""BYOL: from one view, predict what a slow copy of the network makes of the other; no negatives.

Source: Grill et al. 2020, Eq. 2 and section 3.2: 2 - 2 cos, summed over both directions; projector and predictor of two
layers with BatchNorm behind the first. CIFAR values: solo-learn. The paper's first momentum is 0.996.

Cost: two passes without a gradient more than Barlow Twins, and a predictor.
Use: long trainings without negatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.encoders.slow import SlowCopy, momentum_at
from wisp.losses.alignment import alignment
from wisp.losses.contrastive import unit
from wisp.losses.global_batch import average
from wisp.methods.barlow_twins import usual_redundancy
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed, directions, weighted
from wisp.methods.parts.ranges import fractions
from wisp.methods.parts.solo_learn import cifar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of BYOL."""

    momentum: float = 0.99
    """Of the slow copy at the start; it grows to 1 along a cosine. solo-learn on CIFAR (0.996 in the paper)."""
    hidden: int = 4096
    """Hidden width of both heads; the paper, section 3.2."""
    out: int = 256
    """E, width of the embedding; the paper, section 3.2."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        fractions(momentum=self.momentum)


SETTINGS = {
    "small": cifar("byol.yaml", plan="sacl_xd_cifar10", lr=1.0, weight_decay=1e-5),
    "large": Settings(
        plan="byol",
        epochs=300,
        batch_size=4096,
        optimizer="lars",
        lr=4.8,
        weight_decay=1e-6,
        warmup_epochs=10,
        lr_scale="linear",
        source="Grill et al. 2020, appendix C (300 epochs, 0.3 for each 256 images)",
    ),
}


@final
class BYOL(Method):
    """A network with a predictor, and a slow copy without one."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(
            encoder,
            mlp([surroundings.features, config.hidden, config.out]),
            mlp([config.out, config.hidden, config.out]),
        )
        self.slow = SlowCopy(self.network[:2])

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> the distance between predictions and targets, both directions."""
        targets = self.targets(batch.views, progress)
        return weighted(self.terms(self.embeddings((self.network, self.network), batch.views), targets))

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """For each view's prediction, what the slow network makes of the other view: [B,E]."""
        return [self.slow(view) for view in reversed(views)]

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Predictions: each view through its network, [B,3,H,W] -> [B,E]."""
        return [embed(view) for embed, view in zip(embeds, views, strict=True)]

    def terms(self, z: Sequence[Tensor], targets: list[Tensor]) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of the distance of predictions [B,E] and targets [B,E], both directions."""
        one, other = (alignment(prediction, target) for prediction, target in zip(z, targets, strict=True))
        return {"alignment": (1.0, average(one + other))}

    def standard(self, z: Tensor) -> Tensor:
        """The directions of the predictions [B,E] over the global batch and standardised, [N,E]."""
        return directions(unit(z))

    def worth(self) -> float:
        """2 - 2 cos in both directions."""
        return 2 / self.config.out

    def redundancy(self) -> float:
        """The loss has no such term."""
        return usual_redundancy(self.config.out)

    def after_step(self, progress: float) -> None:
        """The slow copy follows."""
        self.slow.follow(self.network[:2], momentum_at(self.config.momentum, progress))

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained, not its slow copy."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projector, without the predictor behind it."""
        return self.network[1]
