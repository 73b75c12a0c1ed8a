"""A sub-network is a differentiable view of a host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from wisp.errors import WispError
from wisp.subnet.caches import caches_of, clear
from wisp.subnet.groups import ChannelGroups
from wisp.subnet.indexmap import IndexMap
from wisp.subnet.select import rule
from wisp.subnet.statistics import BatchNorm, Statistics

NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


class Subnet(nn.Module):
    """The target architecture, run on weights gathered from a host; gradients flow back into the host.

        weights = subnet.gather(host)          # once per step
        z = subnet(x, weights)                 # [B,3,H,W] -> [B,E], at the target's cost

    The host is an argument, never an attribute: the method that owns both counts and saves its parameters once. The
    template of the target lives on the meta device, outside the module tree. So a Subnet has no parameters, but for
    private norms; its buffers are the index map and its own BatchNorm statistics.

    With `norms="private"` scale and shift of every norm are the sub-network's own, at the target's size, and start from
    the host's (slimmable networks; Yu et al. 2019). A selection that moves would tear them from their channels, so that
    only `select="prefix"` goes with them.

    BatchNorm in training mode, which `train()` and `eval()` set for the template too:

    * `statistics="own"`: running statistics belong to the sub-network and are kept at host channel indices.
    * `statistics="shared"`: they are read from, and written back to, the buffers of the host that `gather` was given.
    * a frozen pass uses batch statistics and moves nothing.

    In evaluation mode the running statistics are used. For DistributedDataParallel wrap the method that owns host and
    sub-network, with `broadcast_buffers=False`: broadcasting in the forward pass is a copy per step that nobody needs,
    and an error where one step makes two forward calls. For SyncBatchNorm convert the host as usual after tracing, and
    the template through `convert`.
    """

    def __init__(
        self,
        target: nn.Module,
        host: nn.Module,
        groups: ChannelGroups,
        *,
        select: str,
        statistics: Literal["own", "shared"] = "own",
        norms: Literal["gathered", "private"] = "gathered",
    ) -> None:
        """Make a view of `host` that has the sizes of `target`.

        Args:
            target: a network with the topology that `groups` was traced from; only its structure is used.
            host: a network of the same topology that is at least as wide in every group.
            groups: the result of `trace`.
            select: name of a rule in `wisp.subnet.select`: prefix, by_magnitude or random.
            statistics: whose BatchNorm running statistics the sub-network uses, see the class.
            norms: whose scale and shift the norms use, see the class.

        Raises:
            WispError: the networks do not belong to `groups`, the host is too narrow, `select` is unknown, or norms are
                private where the selection moves or the statistics are shared.
        """
        super().__init__()
        if statistics not in ("own", "shared"):
            raise WispError(f"statistics must be 'own' or 'shared', got {statistics!r}")
        if norms == "private" and (select != "prefix" or statistics == "shared"):
            raise WispError("norms='private' goes with select='prefix' and statistics='own' only")
        self.groups = groups
        self.shared = statistics == "shared"
        self._rule = rule(select)
        self._sizes = groups.sizes_in(target)
        stock = copy.deepcopy(target).to("meta")
        clear(caches_of(stock))
        # In tuples, so that nn.Module does not register them: not in state_dict, parameters() or named_modules().
        self._stock = (stock,)
        self._template = (copy.deepcopy(stock).train(self.training),)
        self._caches = caches_of(self._template[0])
        self._parameter_names = [name for name, _ in stock.named_parameters()]
        self.maps = IndexMap(groups, groups.sizes_in(host), self._rule(host, groups, self._sizes))
        self.statistics = Statistics(stock, host, self.maps)
        own = _norm_parameters(stock) if norms == "private" else []
        self._private = {name: name.replace(".", "__") for name in own}
        present = dict(host.named_parameters())
        self.norms = nn.ParameterDict(
            {key: self.maps.gather(name, present[name]).detach().clone() for name, key in self._private.items()}
        )
        self._norm_names = [f"{prefix}{kind}" for prefix in self.statistics.prefixes for kind in NORM_BUFFERS]
        self._constant_names = [name for name, _ in stock.named_buffers() if name not in set(self._norm_names)]

    def gather(self, host: nn.Module) -> dict[str, Tensor]:
        """The sub-network's parameters by name, differentiable views of those of `host`; once per step is enough.

        Also holds what else the host lends: constant buffers, and its BatchNorm buffers if statistics are shared.
        """
        parameters = dict(host.named_parameters())
        weights = {
            name: self.norms[self._private[name]] if name in self._private else self.maps.gather(name, parameters[name])
            for name in self._parameter_names
        }
        lent = self._constant_names + (self._norm_names if self.shared else [])
        if lent:
            buffers = dict(host.named_buffers(remove_duplicate=False))  # a meta copy unties what two modules share
            weights.update({name: buffers[name] for name in lent})
        return weights

    def forward(self, x: Tensor, weights: dict[str, Tensor], frozen: bool = False) -> Tensor:
        """[B,3,H,W] -> [B,E] with the `weights` from `gather`.

        Args:
            x: images.
            weights: the result of `gather`; may serve many passes.
            frozen: in training mode, normalise by batch statistics and leave all running statistics as they are.
                Gradients are not affected: a pass without them is the caller's `torch.no_grad()`.
        """
        return self._run(x, weights, updates=self.training and not frozen)

    def _run(self, x: Tensor, weights: dict[str, Tensor], updates: bool) -> Tensor:
        own = self.statistics
        clear(self._caches)
        with torch.no_grad():
            # Every pass gets new tensors: autograd keeps them for the backward pass, where later updates must not show,
            # and a frozen pass throws them away.
            full_mean, full_variance = own.read(weights) if self.shared else (own.mean, own.variance)
            mean, variance = full_mean.index_select(0, own.where), full_variance.index_select(0, own.where)
            batches = own.batches.clone()
        output: Tensor = functional_call(
            self._template[0], {**weights, **own.views(mean, variance, batches)}, (x,), tie_weights=False
        )
        if updates:
            with torch.no_grad():
                if self.shared:
                    own.write(weights, mean, variance)
                else:
                    own.mean.index_copy_(0, own.where, mean)
                    own.variance.index_copy_(0, own.where, variance)
                own.batches.copy_(batches)
        return output

    @torch.no_grad()
    def reselect(self, host: nn.Module) -> None:
        """Choose the channels again from the weights of `host`; for the start of an epoch.

        Newly selected channels start from the host's running statistics, the others keep their own. In a process group,
        every rank gets the choice of rank 0, so all ranks must call this.
        """
        self.maps.update(self._rule(host, self.groups, self._sizes))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for indices in self.maps.buffers():
                torch.distributed.broadcast(indices, 0)
        self.statistics.move(self.maps, host)

    def reestimate(self, host: nn.Module, batches: Iterable[Tensor]) -> None:
        """Replace the own running statistics by the average over `batches` of [B,3,H,W], with the present weights.

        Raises:
            WispError: `batches` is empty, or the statistics are shared with the host.
        """
        with self.reestimating(host) as see:
            for x in batches:
                see(x)

    @contextmanager
    def reestimating(self, host: nn.Module) -> Iterator[Callable[[Tensor], None]]:
        """Inside, the function that it gives takes batches [B,3,H,W] one at a time; as `reestimate`.

        Dropout is off. The average is the cumulative one of BatchNorm with `momentum=None`.
        """
        if self.shared:
            raise WispError("statistics='shared' leaves nothing to re-estimate: the running statistics are the host's")
        template = self._template[0].eval()
        norms = [module.train() for module in template.modules() if isinstance(module, BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        seen = 0

        @torch.no_grad()
        def see(x: Tensor) -> None:
            nonlocal seen
            seen += 1
            if seen == 1:
                self.statistics.reset()
            for norm in norms:
                norm.momentum = 1.0 / seen
            self._run(x, weights, updates=True)

        try:
            with torch.no_grad():
                weights = self.gather(host)
            yield see
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
            template.train(self.training)
        if not seen:
            raise WispError("re-estimating statistics needs at least one batch")

    @torch.no_grad()
    def export(self, host: nn.Module) -> nn.Module:
        """A stand-alone target network, in evaluation mode, with copies of the selected weights and the statistics.

        It loads strictly into the target's constructor, and computes exactly what this sub-network computes.
        """
        own = self.statistics
        weights = self.gather(host)
        mean, variance = own.read(weights) if self.shared else (own.mean, own.variance)
        tensors = {**weights, **own.views(mean[own.where], variance[own.where], own.batches)}
        network = copy.deepcopy(self._stock[0]).eval()
        for path, module in network.named_modules():
            prefix = f"{path}." if path else ""
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(tensors[prefix + name].clone(), parameter.requires_grad))
            for name, _ in list(module.named_buffers(recurse=False)):
                setattr(module, name, tensors[prefix + name].clone())
        return network

    def train(self, mode: bool = True) -> Subnet:
        """Set training or evaluation mode, of the template too."""
        super().train(mode)
        self._template[0].train(mode)
        return self

    def convert(self, function: Callable[[nn.Module], nn.Module]) -> None:
        """Replace layers of the template, for instance by `timm.layers.convert_sync_batchnorm`; exports stay stock.

        Parameter and buffer names must not change.
        """
        self._template = (function(self._template[0]),)
        self._caches = caches_of(self._template[0])


def _norm_parameters(network: nn.Module) -> list[str]:
    """Names of the scales and shifts of all norms."""
    kinds = (BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
    found = []
    for path, module in network.named_modules():
        if isinstance(module, kinds):
            found += [f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)]
    return found
