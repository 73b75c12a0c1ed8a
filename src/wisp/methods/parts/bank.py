"""Memory banks: what two networks made of each image when they last saw it (Wu et al. 2018; Tian et al. 2020).

An image's row is its number modulo the number of rows. With a row for every image nobody shares one, and these are the
papers' banks; with fewer a row belongs to the image that came last, and the banks hold the recent images, as a queue.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bank(nn.Module):
    """Rows for two networks, on the device, with whose they are; rows that were never written say so.

    Attributes:
        keys: [M,2,E], unit rows of either network, zeros where nothing was put yet.
        owners: int64 [M], the image of a row; -1 where nothing was put yet.
        labels: int64 [M], its class.
        full: somebody saw that every row was written, and none need be looked for.
    """

    keys: Tensor
    owners: Tensor
    labels: Tensor

    def __init__(self, size: int, width: int) -> None:
        """M = `size` rows of E = `width` numbers, twice."""
        super().__init__()
        self.full = False
        self.register_buffer("keys", torch.zeros(size, 2, width))
        self.register_buffer("owners", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("labels", torch.full((size,), -1, dtype=torch.int64))

    def of(self, index: Tensor, fresh: Tensor) -> Tensor:
        """The rows of images int64 [B], [B,2,E]; of one without a row `fresh` [B,2,E], which its row would become."""
        rows = index % len(self.owners)
        known = self.owners[rows] == index
        return self.keys.index_select(0, rows).to(fresh.dtype).where(known[:, None, None], fresh)

    def some(self, order: Tensor, most: int) -> Tensor:
        """The first `most` rows of an order int64 [M] that were written; where there are fewer, others come last."""
        if self.full or most >= len(order):
            return order[:most]
        there = self.owners[order] >= 0
        # Places in a stable partition: nothing waits for the number of rows that were written.
        places = torch.where(there, there.cumsum(dim=0) - 1, there.sum() + (~there).cumsum(dim=0) - 1)
        return torch.empty_like(order).index_copy_(0, places, order)[:most]

    def of_other_classes(self, labels: Tensor, most: int, order: Tensor) -> Tensor:
        """Which rows, in an order, are of another class than each image: bool [B,C], the first `most` of them.

        Args:
            labels: int64 [B].
            most: rows for an image; it takes all that there are where there are fewer.
            order: int64 [C], some of the rows in an order; column c is row order[c].
        """
        there = self.labels.index_select(0, order) != labels[:, None]
        if not self.full:
            there &= self.owners.index_select(0, order) >= 0
        return there & (there.cumsum(dim=1, dtype=torch.int32) <= most)

    @torch.no_grad()
    def put(self, index: Tensor, labels: Tensor, fresh: Tensor) -> None:
        """Writes the rows of the global batch; nothing waits for the device.

        Args:
            index: int64 [N], images.
            labels: int64 [N], their classes.
            fresh: unit rows [N,2,E] of either network.
        """
        rows = index % len(self.owners)
        places = torch.arange(len(rows), device=rows.device)
        # Who shares a row writes the same as the last of them: otherwise chance would decide.
        last = torch.where(rows == rows[:, None], places, -1).amax(dim=1)
        self.keys.index_copy_(0, rows, fresh[last].to(self.keys.dtype))
        self.owners.index_copy_(0, rows, index[last])
        self.labels.index_copy_(0, rows, labels[last])
