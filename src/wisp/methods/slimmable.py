"""Slimmable: one supervised training gives a network that runs at several widths; SlimCLR's comparison with labels.

Source: Yu et al. 2019, Algorithm 1: the sum of the widths' cross-entropies, unweighted, with norms of each width's own
and one classifier, of which a narrow width reads the first columns. Zhao et al. 2022 compare with it in Fig. 1 and 5.
Trained as the supervised reference row, whose values they took over.

Cost: supervised, and one more pass with a gradient at every narrow width.
Use: a reference row: how much the widths disturb each other where labels tell all of them the same; it needs labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.losses.global_batch import gather
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.widths import Widths, check_widths
from wisp.methods.supervised import SETTINGS as SETTINGS  # the same training, of more than one width
from wisp.methods.supervised import classifier_of, cross_entropy
from wisp.subnet.subnet import Subnet


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of a supervised slimmable network."""

    widths: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    """1 and the narrow ones; Yu et al. 2019, section 4, and Fig. 1 of SlimCLR."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        check_widths(self.widths)


@final
class Slimmable(Method):
    """An encoder with a linear classifier, and narrow versions of both."""

    needs_labels: ClassVar[bool] = True
    view_count: ClassVar[tuple[int, int | None]] = (1, None)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config = config
        self.network = nn.Sequential(encoder, classifier_of(surroundings))
        self.narrow = Widths(self.network, config.widths, surroundings.image_size)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """All views [B,3,H,W] and labels [B] -> the full network's cross-entropy, and the sum of the others'."""
        assert batch.labels is not None
        labels = gather(batch.labels)

        def loss(classify: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.stack([cross_entropy(gather(classify(view)), labels) for view in batch.views]).mean()

        terms = {"cross_entropy": loss(self.network)}
        if narrow := [loss(classify) for classify in self.narrow.embedders(self.network)]:
            terms["narrow"] = torch.stack(narrow).sum()
        return terms

    def sharing(self) -> tuple[nn.Sequential, Subnet] | None:
        """The full network and the narrowest."""
        return self.narrow.sharing(self.network)

    def encoders(self) -> dict[str, nn.Module]:
        """The encoder at every width without the classifier, the full one first."""
        return self.narrow.part(self.network, 0)

    def classifiers(self) -> dict[str, nn.Linear]:
        """The classifier at every width: the columns that its encoder gives."""
        return {width: part for width, part in self.narrow.part(self.network, 1).items() if isinstance(part, nn.Linear)}
