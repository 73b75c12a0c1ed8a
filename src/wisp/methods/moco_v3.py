"""MoCo v3: each view's query finds the slow network's key of the other view among the keys of the whole batch.

Source: Chen, Xie and He 2021, Algorithm 1: symmetric, no queue, each direction times 2 tau, the directions summed.
Heads as in the released code for ResNets: two layers each, no biases, BatchNorm; the projector ends in one without
scale and shift, the predictor in none. CIFAR values: solo-learn. On ImageNet the code has temperature 1.0 for ResNets.

Cost: two passes without a gradient more than Barlow Twins, and a predictor.
Use: contrast with large batches and no queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.encoders.slow import SlowCopy, momentum_at
from wisp.losses.contrastive import Contrast, in_batch, info_nce, unit
from wisp.losses.global_batch import average, gather, rank
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.bases import Embed
from wisp.methods.parts.ranges import fractions, positive
from wisp.methods.parts.solo_learn import cifar


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of MoCo v3."""

    temperature: float = 0.2
    """Divides the cosines; solo-learn on CIFAR, and the paper for ViT (1.0 for ResNets in the released code)."""
    momentum: float = 0.99
    """Of the slow copy at the start; it grows to 1 along a cosine. The released code and solo-learn."""
    hidden: int = 4096
    """Hidden width of both heads; the released code and solo-learn."""
    out: int = 256
    """E, width of the embedding; the released code and solo-learn."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        positive(temperature=self.temperature)
        fractions(momentum=self.momentum)


SETTINGS = {
    "small": cifar("mocov3.yaml", plan="sacl_xd_cifar10", lr=0.3, weight_decay=1e-6),
    "large": Settings(
        plan="mocov3",
        epochs=100,
        batch_size=4096,
        optimizer="lars",
        lr=9.6,
        weight_decay=1e-6,
        warmup_epochs=10,
        lr_scale="linear",
        source="facebookresearch/moco-v3, ResNet-50, 100 epochs (0.6 for each 256 images)",
    ),
}


@final
class MocoV3(Method):
    """A network with a predictor, and a slow copy without one."""

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(
            encoder,
            mlp([surroundings.features, config.hidden, config.out], last="plain_norm"),
            mlp([config.out, config.hidden, config.out]),
        )
        self.slow = SlowCopy(self.network[:2])

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] -> InfoNCE in both directions over the global batch."""
        targets = self.targets(batch.views, progress)
        z = self.embeddings((self.network, self.network), batch.views)
        return {"contrast": self.loss(self.contrasts(z, targets))}

    def targets(self, views: tuple[Tensor, ...], progress: float) -> list[Tensor]:
        """For each view's queries, the slow network's keys [N,E] of the other view."""
        return [gather(unit(self.slow(view))) for view in reversed(views)]

    def embeddings(self, embeds: Sequence[Embed], views: tuple[Tensor, ...]) -> list[Tensor]:
        """Queries: each view through its network, as unit rows: [B,3,H,W] -> [B,E]."""
        return [unit(embed(view)) for embed, view in zip(embeds, views, strict=True)]

    def contrasts(self, z: Sequence[Tensor], targets: list[Tensor]) -> list[Contrast]:
        """The similarities in which the queries, unit rows [B,E], should find the keys [N,E]."""
        return [in_batch(query, keys, rank() * len(query)) for query, keys in zip(z, targets, strict=True)]

    def loss(self, contrasts: list[Contrast]) -> Tensor:
        """Mean over the global batch, sum over the directions."""
        t = self.config.temperature
        return average(2 * t * torch.stack([info_nce(*each, t) for each in contrasts]).sum())

    def after_step(self, progress: float) -> None:
        """The slow copy follows."""
        self.slow.follow(self.network[:2], momentum_at(self.config.momentum, progress))

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder that was trained, not its slow copy."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """The projector, without the predictor behind it."""
        return self.network[1]
