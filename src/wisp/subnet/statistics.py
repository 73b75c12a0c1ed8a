"""A sub-network's BatchNorm statistics, kept at the host's channel indices."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from wisp.subnet.groups import tensors_of
from wisp.subnet.indexmap import IndexMap

BatchNorm = nn.modules.batchnorm._BatchNorm


class Statistics(nn.Module):
    """Running mean and variance of every BatchNorm of a sub-network, for all channels of the *host*.

    All layers lie one behind the other in two flat buffers, [sum of host channels]: one gather and one scatter serve
    the whole network. Channels that are not selected keep their values, which nothing reads.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor
    where: Tensor

    def __init__(self, template: nn.Module, host: nn.Module, maps: IndexMap) -> None:
        """Start from the statistics of `host`."""
        super().__init__()
        named = [
            (path, m) for path, m in template.named_modules() if isinstance(m, BatchNorm) and m.track_running_stats
        ]
        self.prefixes = [f"{path}." if path else "" for path, _ in named]
        self.features = [module.num_features for _, module in named]
        tensors = tensors_of(host)
        self.host_features = [tensors[f"{prefix}running_mean"].numel() for prefix in self.prefixes]
        mean, variance = self.read(tensors)
        batches = [tensors[f"{prefix}num_batches_tracked"] for prefix in self.prefixes]
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)
        self.register_buffer("batches", torch.stack(batches) if batches else torch.zeros(0, dtype=torch.int64))
        self.register_buffer("where", self.positions(maps).to(mean.device))

    def positions(self, maps: IndexMap) -> Tensor:
        """Positions of the selected channels in the flat buffers, int64 [sum of sub-network channels]."""
        parts, offset = [torch.zeros(0, dtype=torch.int64)], 0
        for prefix, size in zip(self.prefixes, self.host_features, strict=True):
            selected = maps.positions(f"{prefix}running_mean", 0)
            parts.append((torch.arange(size) if selected is None else selected.cpu()) + offset)
            offset += size
        return torch.cat(parts)

    def read(self, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Flat copies of the host's mean and variance, from its buffers by name."""
        if not self.prefixes:
            return torch.zeros(0), torch.zeros(0)
        mean = torch.cat([tensors[f"{prefix}running_mean"] for prefix in self.prefixes])
        return mean, torch.cat([tensors[f"{prefix}running_var"] for prefix in self.prefixes])

    def write(self, tensors: Mapping[str, Tensor], mean: Tensor, variance: Tensor) -> None:
        """Put the selected channels' `mean` and `variance`, [sum of sub-network channels], into the host's buffers."""
        full_mean, full_variance = self.read(tensors)
        means = torch.split(full_mean.index_copy_(0, self.where, mean), self.host_features)
        variances = torch.split(full_variance.index_copy_(0, self.where, variance), self.host_features)
        for prefix, one, other in zip(self.prefixes, means, variances, strict=True):
            # Through `.data`, unseen by autograd: the host's own pass has kept these tensors for its backward pass,
            # which in training mode does not read them.
            tensors[f"{prefix}running_mean"].data.copy_(one)
            tensors[f"{prefix}running_var"].data.copy_(other)
            tensors[f"{prefix}num_batches_tracked"].add_(1)

    def views(self, mean: Tensor, variance: Tensor, batches: Tensor) -> dict[str, Tensor]:
        """The BatchNorm buffers of the sub-network by name, as views of flat tensors [sum of sub-network channels]."""
        named: dict[str, Tensor] = {}
        means, variances = torch.split(mean, self.features), torch.split(variance, self.features)
        for prefix, one, other, count in zip(self.prefixes, means, variances, batches.unbind(), strict=True):
            named[f"{prefix}running_mean"] = one
            named[f"{prefix}running_var"] = other
            named[f"{prefix}num_batches_tracked"] = count
        return named

    def move(self, maps: IndexMap, host: nn.Module) -> None:
        """Follow a new selection: channels that were not selected before start from the statistics of `host`."""
        known = torch.zeros(self.mean.shape, dtype=torch.bool, device=self.mean.device)
        known[self.where] = True
        self.where.copy_(self.positions(maps))
        fresh = self.where[~known[self.where]]
        mean, variance = self.read(tensors_of(host))
        self.mean[fresh] = mean[fresh]
        self.variance[fresh] = variance[fresh]

    def reset(self) -> None:
        """Forget the statistics of the selected channels: mean 0, variance 1, no batch seen."""
        self.mean[self.where] = 0.0
        self.variance[self.where] = 1.0
        self.batches.zero_()
