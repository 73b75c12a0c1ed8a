"""SimSiam: from one view, predict the network's own embedding of the other, which gets no gradient.

Source: Chen and He 2021, Eq. 1-4 and Algorithm 1: -cos, mean of both directions. The projector has three layers with
BatchNorm behind each (the last without scale and shift, as in the released code), the predictor a bottleneck. The
predictor's learning rate stays constant (section 4.2 with Table 1c; the released code's --fix-pred-lr). CIFAR values:
solo-learn.

Cost: as Barlow Twins, and a predictor.
Use: the least machinery without negatives; it hangs on its learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.losses.alignment import alignment
from wisp.losses.global_batch import average
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.solo_learn import cifar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of SimSiam."""

    bottleneck: int = 512
    """Hidden width of the predictor; the paper, section 3."""
    hidden: int = 2048
    """Hidden width of the projector; the paper, section 3."""
    out: int = 2048
    """E, width of the embedding; the paper, section 3."""


SETTINGS = {
    "small": cifar("simsiam.yaml", plan="simsiam_cifar", lr=0.5, weight_decay=1e-5, optimizer="sgd"),
    "large": Settings(
        plan="mocov2",
        epochs=100,
        batch_size=512,
        optimizer="sgd",
        lr=0.1,
        weight_decay=1e-4,
        warmup_epochs=0,
        lr_scale="linear",
        source="Chen and He 2021, section 3 (0.05 for each 256 images)",
    ),
}


@final
class SimSiam(Method):
    """One network, a predictor behind it."""

    constant_lr: ClassVar[tuple[str, ...]] = ("predictor",)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        projector = mlp([surroundings.features, config.hidden, config.hidden, config.out], last="plain_norm")
        self.network = nn.Sequential(encoder, projector)
        self.predictor = mlp([config.out, config.bottleneck, config.out], last="biased")

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> -cos between predictions and detached embeddings, mean of both directions."""
        za, zb = (self.network(view) for view in batch.views)
        distance = alignment(self.predictor(za), zb.detach()) + alignment(self.predictor(zb), za.detach())
        return {"alignment": average(distance / 4 - 1)}

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projector, without the predictor behind it."""
        return self.network[1]
