"""A sub-network as a view of its host: against masks, against a plain network, in every mode."""

import copy

import pytest
import torch
from torch import Tensor, nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.encoders.heads import projector
from wisp.errors import WispError
from wisp.subnet.channels import ChannelGroups, trace
from wisp.subnet.resize import resized
from wisp.subnet.subnet import Subnet

X = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def target() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(resnet8(), projector(64, 24, 16))


@pytest.fixture(scope="module")
def groups(target: nn.Module) -> ChannelGroups:
    return trace(target, X[:2], fixed=("1",))


@pytest.fixture
def host(target: nn.Module, groups: ChannelGroups) -> nn.Module:
    torch.manual_seed(1)
    host = resized(target, groups, 1.5)
    for module in host.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return host


def norms(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.named_buffers() if "running" in name}


class Masked(nn.Module):
    """conv - bn - relu - conv - bn - relu - pool - linear; `forward` can zero all channels but the chosen ones."""

    def __init__(self, a: int = 6, b: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, a, 3, padding=1), nn.BatchNorm2d(a)
        self.conv2, self.bn2 = nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)
        self.head = nn.Linear(b, 5)
        self.masks: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu() * self.masks[0]
        x = self.bn2(self.conv2(x)).relu() * self.masks[1]
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_masked_host(training: bool) -> None:
    torch.manual_seed(0)
    target, x = Masked(), X.double()
    groups = trace(target, X)
    host = resized(target, groups, 2.0).double()
    for module in (host.bn1, host.bn2):
        for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
            nn.init.uniform_(tensor, 0.5, 1.5)
    subnet = Subnet(target.double(), host, groups, select="random").train(training)
    masked = copy.deepcopy(host).train(training)
    masked.masks = tuple(
        torch.zeros(size, 1, 1, dtype=torch.float64).index_fill(0, subnet.maps[name], 1.0)
        for name, size in groups.sizes_in(host).items()
    )
    weights = subnet.gather(host)
    loss = subnet(x, weights).pow(3).sum()
    loss.backward()
    expected = masked(x).pow(3).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    for (name, parameter), other in zip(host.named_parameters(), masked.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-9, atol=1e-9, msg=name)
    if training:  # the masked host updates all channels, the sub-network its own
        where, start = subnet.statistics.where, subnet.statistics.mean.clone()
        flat = torch.cat([masked.bn1.running_mean, masked.bn2.running_mean])
        torch.testing.assert_close(start[where], flat[where], rtol=1e-12, atol=1e-12)
        assert not torch.equal(start, flat)


def test_trains_like_the_exported_network(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    """Three SGD steps on the view and on its export: same losses, weights and statistics."""
    subnet = Subnet(target, host, groups, select="by_magnitude")
    alone = subnet.export(host).train()
    ours, theirs = torch.optim.SGD(host.parameters(), 0.05), torch.optim.SGD(alone.parameters(), 0.05)
    for step in range(3):
        x = X.roll(step, 0)[:4]
        losses = [subnet(x, subnet.gather(host)).square().mean(), alone(x).square().mean()]
        assert losses[0] == losses[1]
        for optimizer, loss in zip((ours, theirs), losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    exported = subnet.export(host).state_dict()
    assert exported.keys() == alone.state_dict().keys()
    for name, tensor in alone.state_dict().items():
        assert torch.equal(exported[name], tensor), name


def test_one_gather_serves_several_passes(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    """Two passes, a frozen one and an update of the statistics before the backward pass: autograd must not notice."""
    subnet = Subnet(target, host, groups, select="prefix")
    weights = subnet.gather(host)
    first, second = subnet(X[:4], weights), subnet(X[4:], weights)
    with torch.no_grad():
        subnet(X, weights, frozen=True)
    subnet.reestimate(host, [X])
    (first.square().mean() + second.square().mean()).backward()
    together = {name: parameter.grad.clone() for name, parameter in host.named_parameters()}
    host.zero_grad()
    for x in (X[:4], X[4:]):
        subnet(x, subnet.gather(host)).square().mean().backward()
    for name, parameter in host.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, msg=name)


def test_own_statistics_leave_the_host_alone(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    subnet = Subnet(target, host, groups, select="by_magnitude")
    before = copy.deepcopy(norms(host))
    own = subnet.statistics.mean.clone()
    with torch.no_grad():
        subnet(X, subnet.gather(host))
    assert all(torch.equal(tensor, before[name]) for name, tensor in norms(host).items())
    moved = (subnet.statistics.mean != own).nonzero().flatten()
    assert torch.equal(moved, subnet.statistics.where)
    assert torch.equal(subnet.statistics.batches, torch.ones_like(subnet.statistics.batches))


def test_shared_statistics_are_the_hosts(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    subnet = Subnet(target, host, groups, select="by_magnitude", statistics="shared")
    before, alone = copy.deepcopy(norms(host)), subnet.export(host).train()
    with torch.no_grad():
        subnet(X, subnet.gather(host), frozen=True)
        assert all(torch.equal(tensor, before[name]) for name, tensor in norms(host).items())
        assert torch.equal(subnet(X, subnet.gather(host)), alone(X))
    expected = norms(alone)
    for name, tensor in norms(host).items():
        selected = subnet.maps.positions(name, 0)
        index = torch.arange(len(tensor)) if selected is None else selected
        assert torch.equal(tensor[index], expected[name]), name
        others = torch.ones(len(tensor), dtype=torch.bool).index_fill(0, index, False)
        assert torch.equal(tensor[others], before[name][others]), name
    assert host[0].bn1.num_batches_tracked == 1
    subnet.eval()
    with torch.no_grad():
        assert torch.equal(subnet(X, subnet.gather(host)), alone.eval()(X))
        assert torch.equal(subnet.export(host)(X), alone(X))
    with pytest.raises(WispError, match="nothing to re-estimate"):
        subnet.reestimate(host, [X])


def test_reselection_starts_new_channels_from_the_host(
    target: nn.Module, groups: ChannelGroups, host: nn.Module
) -> None:
    subnet = Subnet(target, host, groups, select="by_magnitude")
    old = {group.name: subnet.maps[group.name].tolist() for group in groups}
    leaving, entering = old["0.conv1"][0], min(set(range(24)) - set(old["0.conv1"]))
    with torch.no_grad():
        subnet(X, subnet.gather(host))
        kept = subnet.statistics.mean.clone()
        for convolution in (host[0].conv1, host[0].layer1[0].conv2):
            convolution.weight[leaving] *= 0.0
            convolution.weight[entering] *= 100.0
        for module in host.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.add_(10.0)
    buffer = subnet.maps["0.conv1"]
    subnet.reselect(host)
    new = {group.name: subnet.maps[group.name].tolist() for group in groups}
    assert subnet.maps["0.conv1"] is buffer
    assert set(new["0.conv1"]) == set(old["0.conv1"]) - {leaving} | {entering}
    offset, fresh = 0, 0
    for name, tensor in host.named_buffers():
        if name.endswith("running_mean"):
            layout = groups.by_tensor.get(name, {}).get(0)
            group = None if layout is None else layout[0].group
            for channel in range(len(tensor)) if group is None else new[group]:
                is_new = group is not None and channel not in old[group]
                fresh += is_new
                expected = tensor[channel] if is_new else kept[offset + channel]
                assert subnet.statistics.mean[offset + channel] == expected
            offset += len(tensor)
    assert fresh == 2  # the channel has two norms


def test_ranks_get_the_choice_of_rank_zero(
    target: nn.Module, groups: ChannelGroups, host: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broadcast that overwrites the choice with rank 0's must reach every map, and the statistics must follow it."""
    rank_zero = Subnet(target, host, groups, select="prefix")
    subnet = Subnet(target, host, groups, select="by_magnitude")
    answers = list(rank_zero.maps.buffers())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: tensor.copy_(answers.pop(source)))
    subnet.reselect(host)
    assert not answers
    assert all(
        torch.equal(one, other) for one, other in zip(subnet.maps.buffers(), rank_zero.maps.buffers(), strict=True)
    )
    assert torch.equal(subnet.statistics.where, rank_zero.statistics.where)


def test_reestimation_is_the_cumulative_average(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    subnet = Subnet(target, host, groups, select="by_magnitude").eval()
    alone = subnet.export(host).train()
    for module in alone.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    batches = [X[:4], X[4:], X[2:7]]
    subnet.statistics.mean.fill_(float("nan"))
    subnet.statistics.batches.fill_(9)
    before = copy.deepcopy(host.state_dict())
    subnet.reestimate(host, iter(batches))
    with torch.no_grad():
        for x in batches:
            alone(x)
    for name, tensor in norms(alone).items():
        torch.testing.assert_close(norms(subnet.export(host))[name], tensor, msg=name)
    assert all(torch.equal(tensor, before[name]) for name, tensor in host.state_dict().items())
    assert not subnet.training
    assert set(subnet.statistics.batches.tolist()) == {3}
    with torch.no_grad():  # momentum and mode are as before: one step moves by the usual tenth
        mean = subnet.statistics.mean.clone()
        assert torch.equal(subnet(X, subnet.gather(host)), subnet.export(host)(X))
        subnet.train()(X, subnet.gather(host))
        reference = subnet.export(host).train()
    assert reference[0].bn1.momentum == 0.1
    assert not torch.equal(mean[subnet.statistics.where], subnet.statistics.mean[subnet.statistics.where])
    with pytest.raises(WispError, match="at least one batch"):
        subnet.reestimate(host, [])


def test_dropout_follows_the_mode_and_is_off_while_reestimating() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 1), nn.Dropout(0.9), nn.BatchNorm2d(6), nn.Flatten(2), Mean(), nn.Linear(6, 2)
    )
    subnet = Subnet(network, network, trace(network, X), select="prefix")
    weights = subnet.gather(network)
    assert not torch.equal(subnet(X, weights), subnet(X, weights))
    assert torch.equal(subnet.eval()(X, weights), subnet(X, weights))
    subnet.train().reestimate(network, [X])
    plain = network[0](X)
    torch.testing.assert_close(subnet.statistics.mean, plain.mean((0, 2, 3)))
    assert not torch.equal(subnet(X, weights), subnet(X, weights))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(2)


def test_checkpoints_carry_selection_and_statistics(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    subnet, other = (Subnet(target, host, groups, select=rule) for rule in ("random", "prefix"))
    with torch.no_grad():
        subnet(X, subnet.gather(host))
        other.load_state_dict(subnet.state_dict())
        assert torch.equal(other.eval()(X, other.gather(host)), subnet.eval()(X, subnet.gather(host)))
        assert torch.equal(other.train()(X, other.gather(host)), subnet.train()(X, subnet.gather(host)))
    assert all(torch.equal(t, subnet.state_dict()[name]) for name, t in other.state_dict().items())


def test_channels_last_and_autocast(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    host, x = host.to(memory_format=torch.channels_last), X.contiguous(memory_format=torch.channels_last)
    subnet = Subnet(target, host, groups, select="by_magnitude")
    weights = subnet.gather(host)
    assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights.values() if w.ndim == 4)
    with torch.autocast("cpu", torch.bfloat16):
        output = subnet(x, weights)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert output.dtype == torch.bfloat16
    output.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.stride() == p.stride() for p in host.parameters())
    assert subnet.statistics.mean.isfinite().all()
    with torch.no_grad():
        assert torch.equal(subnet.export(host)(x), subnet.eval()(x, subnet.gather(host)))


def test_reselection_does_not_compile_again(groups: ChannelGroups) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(2), Mean(), nn.Linear(6, 2))
    traced = trace(network, X)

    class Owner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.host = resized(network, traced, 2.0)
            self.slim = Subnet(network, self.host, traced, select="random")

        def forward(self, x: Tensor) -> Tensor:
            return self.slim(x, self.slim.gather(self.host)) - self.host(x)

    owner, graphs = Owner(), []
    plain = copy.deepcopy(owner)

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(owner, backend=backend, fullgraph=True)
    for seed in range(3):
        assert torch.equal(compiled(X), plain(X))
        for each in (owner, plain):
            torch.manual_seed(seed)
            each.slim.reselect(each.host)
    assert len(graphs) == 1
    assert torch.equal(owner.slim.statistics.mean, plain.slim.statistics.mean)
    assert owner.slim.statistics.batches.tolist() == [3]


def test_convert_reaches_the_template_and_not_the_export(
    target: nn.Module, groups: ChannelGroups, host: nn.Module
) -> None:
    subnet = Subnet(target, host, groups, select="prefix")
    seen: list[nn.Module] = []

    def without_relu(template: nn.Module) -> nn.Module:
        seen.append(template)
        template[1][2] = template[1][5] = nn.Identity()
        return template

    expected = subnet.export(host)(X)
    subnet.eval().convert(without_relu)
    assert all(parameter.is_meta for parameter in seen[0].parameters())
    assert not torch.equal(subnet(X, subnet.gather(host)), expected)
    assert torch.equal(subnet.export(host)(X), expected)
    synced = Subnet(target, host, groups, select="prefix").eval()
    with torch.no_grad():
        expected = synced(X, synced.gather(host))
        synced.convert(nn.SyncBatchNorm.convert_sync_batchnorm)
        assert torch.equal(
            synced(X, synced.gather(nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(host)))), expected
        )


def test_constant_buffers_come_from_the_host() -> None:
    class Normalise(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return x - self.mean

    network = nn.Sequential(Normalise(), nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Flatten(2), Mean(), nn.Linear(6, 2))
    host = resized(network, trace(network, X), 2.0)
    host[0].mean.mul_(2.0)
    subnet = Subnet(network, host, trace(network, X), select="prefix")
    exported = subnet.export(host)
    assert torch.equal(exported[0].mean, host[0].mean)
    assert exported[0].mean is not host[0].mean
    assert torch.equal(exported(X), subnet(X, subnet.gather(host)))


def test_bad_arguments_are_refused(target: nn.Module, groups: ChannelGroups, host: nn.Module) -> None:
    with pytest.raises(WispError, match="statistics must be"):
        Subnet(target, host, groups, select="prefix", statistics="both")
    with pytest.raises(WispError, match="no selection rule"):
        Subnet(target, host, groups, select="largest")
    with pytest.raises(WispError, match="make the host wider"):
        Subnet(host, target, groups, select="prefix")
