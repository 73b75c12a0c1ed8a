"""A network and its narrow versions: what SlimCLR does to any contrast.

Source: Zhao et al. 2022 (SlimCLR), section 3, after Yu et al. 2019: a narrow network is the prefix of every channel
group, with BatchNorm of its own; the outputs of the heads keep their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal

from torch import Tensor, nn

from wisp.errors import WispError
from wisp.methods.parts.branches import traced
from wisp.subnet.resize import resized
from wisp.subnet.subnet import Subnet

Reweighting = Literal["sum", "max", "proportional", "cumulative", "none"]


class Widths(nn.Module):
    """The narrow networks of a host, each with norms of its own; the host is an argument, never an attribute.

    Args:
        host: encoder [B,3,H,W] -> [B,D] and heads, one behind the other.
        widths: 1 and the others, each in (0, 1].
        image_size: side of the images with which the channels are traced.
    """

    def __init__(self, host: nn.Sequential, widths: Sequence[float], image_size: int) -> None:
        super().__init__()
        groups = traced(host, image_size, fixed=_outputs(host))
        self.widths = tuple(sorted(widths, reverse=True))
        self.narrow = nn.ModuleList(
            Subnet(resized(host, groups, width), host, groups, select="prefix", norms="private")
            for width in self.widths[1:]
        )

    def embedders(self, host: nn.Module) -> list[Callable[[Tensor], Tensor]]:
        """[B,3,H,W] -> [B,E] at every width but the first, with weights taken from the host once a step."""
        return [partial(subnet, weights=subnet.gather(host)) for subnet in self._subnets()]

    def part(self, host: nn.Sequential, place: int) -> dict[str, nn.Module]:
        """What stands at one place of the host at every width, the full one first; at 0 the encoder."""
        found: dict[str, nn.Module] = {str(float(self.widths[0])): host[place]}
        for width, subnet in zip(self.widths[1:], self._subnets(), strict=True):
            exported = subnet.export(host)
            assert isinstance(exported, nn.Sequential)
            found[str(float(width))] = exported[place]
        return found

    def sharing(self, host: nn.Sequential) -> tuple[nn.Sequential, Subnet] | None:
        """The host and the narrowest network, if there is one."""
        subnets = self._subnets()
        return (host, subnets[-1]) if subnets else None

    def calibrate(self, host: nn.Module, views: Iterable[Tensor]) -> None:
        """Re-estimates the statistics of the narrow networks, on the same training views in one pass."""
        with ExitStack() as stack:
            seers = [stack.enter_context(subnet.reestimating(host)) for subnet in self._subnets()]
            for view in views:
                for see in seers:
                    see(view)

    def _subnets(self) -> list[Subnet]:
        return [subnet for subnet in self.narrow if isinstance(subnet, Subnet)]


def check_widths(widths: Sequence[float]) -> None:
    """Raises WispError where a width lies outside (0, 1], two are equal, or there is no 1."""
    wrong = [width for width in widths if not 0 < width <= 1]
    if wrong:
        raise WispError(f"width {wrong[0]:g} is outside (0, 1]; a narrow network is a part of the full one")
    if len(set(widths)) < len(widths):
        repeated = next(width for width in widths if widths.count(width) > 1)
        raise WispError(f"width {repeated:g} is named twice; every width is one network")
    if 1 not in widths:
        raise WispError("widths need 1, the full network that the others are parts of")


def weights_of(widths: Sequence[float], scheme: Reweighting) -> list[float]:
    """The weight of each network's loss, the full one first (Zhao et al. 2022, Table 3e).

    Of its fourth scheme the printed sum starts at the network itself, the printed weights [1.54, 1.08, 0.77, 0.62] are
    those of a sum that starts at the next one: followed here.
    """
    w = sorted(widths, reverse=True)
    if scheme == "sum":
        return [1 + sum(w[1:]), *[1.0] * (len(w) - 1)]
    if scheme == "max":
        return [1 + max(w[1:], default=0.0), *[1.0] * (len(w) - 1)]
    if scheme == "proportional":
        return [len(w) * width / sum(w) for width in w]
    if scheme == "cumulative":
        confidence = [1 + sum(w[i + 1 :]) for i in range(len(w))]
        return [len(w) * each / sum(confidence) for each in confidence]
    return [1.0] * len(w)


def _outputs(host: nn.Sequential) -> tuple[str, ...]:
    """Paths of the layers whose outputs compare between widths: the last linear layer of every head."""
    paths = []
    for place, head in enumerate(host):
        if place:
            last = [path for path, module in head.named_modules() if isinstance(module, nn.Linear)][-1]
            paths.append(f"{place}.{last}".rstrip("."))  # a head may be that layer itself
    return tuple(paths)
