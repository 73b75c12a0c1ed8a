"""A host and the sub-network that is sliced out of it: what SACL does to any two-view loss.

Source: Meng et al. 2023, section 3.1. The mask of the paper is an index map here: input and output channels, tied
within a channel group (the slides; the text names output filters only), exactly the target's number of channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.frozen import frozen_pass
from wisp.subnet.channels import ChannelGroups, UnsupportedStructure, trace
from wisp.subnet.resize import resized
from wisp.subnet.subnet import Subnet

Selection = Literal["epoch", "once", "prefix"]


class HostAndSlim(nn.Module):
    """A host of `width` times the channels, and the slim network inside it.

    Args:
        target: encoder [B,3,H,W] -> [B,D], and heads -> [B,E]; of these only the first one's input is widened, so that
            the embeddings of both networks compare.
        width: K >= 1.
        image_size: side of the images with which the channels are traced.
        selection: by summed filter L1 at the start of every `epoch` or `once`, or always the `prefix`.
        statistics: `own` BatchNorm statistics for the slim network, or those of the host, `shared`.
    """

    def __init__(
        self,
        target: nn.Sequential,
        *,
        width: float,
        image_size: int,
        selection: Selection,
        statistics: Literal["own", "shared"],
    ) -> None:
        super().__init__()
        groups = traced(target, image_size, fixed=tuple(str(place) for place in range(1, len(target))))
        self.host = resized(target, groups, width)
        rule = "prefix" if selection == "prefix" else "by_magnitude"
        self.slim = Subnet(target, self.host, groups, select=rule, statistics=statistics)
        self.selection = selection
        self.statistics = statistics

    def gather(self) -> dict[str, Tensor]:
        """The slim network's weights, taken once a step."""
        return self.slim.gather(self.host)

    def frozen(self, x: Tensor, weights: dict[str, Tensor] | None = None) -> Tensor:
        """Embedding [B,E] that leaves no trace: of the host, or of the slim network with its `weights`."""
        if weights is None:
            return frozen_pass(self.host, x)
        with torch.no_grad():
            embedding: Tensor = self.slim(x, weights, frozen=True)
            return embedding

    def before_epoch(self, epoch: int) -> None:
        """Selects the channels of this epoch."""
        if self.selection == "epoch" or epoch == 0:
            self.slim.reselect(self.host)

    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Re-estimates the slim network's own statistics on the views of some training batches."""
        if self.statistics == "own":
            self.slim.reestimate(self.host, (view for batch in batches for view in batch.views))

    def encoders(self, width: float) -> dict[str, nn.Module]:
        """The exported slim encoder first, the dense host beside it."""
        slim = self.slim.export(self.host)
        assert isinstance(slim, nn.Sequential)
        assert isinstance(self.host, nn.Sequential)
        return {"1x": slim[0]} | ({f"{width:g}x": self.host[0]} if width > 1 else {})


def traced(network: nn.Sequential, image_size: int, fixed: tuple[str, ...]) -> ChannelGroups:
    """Channel groups of an encoder and its heads.

    Args:
        network: the encoder is its first part.
        image_size: side of the images with which the channels are traced.
        fixed: paths below which output widths stay.

    Raises:
        UnsupportedStructure: a layer whose channels cannot be sliced, by the name that the encoder itself has for it.
    """
    try:
        return trace(network, torch.zeros(2, 3, image_size, image_size), fixed=fixed)
    except UnsupportedStructure as error:
        layer = re.sub(r"^0: ", "the encoder itself: ", str(error).removeprefix("0."))
        raise UnsupportedStructure(
            f"{layer}; a method without a sub-network (barlow_twins, xd) takes any encoder"
        ) from error
