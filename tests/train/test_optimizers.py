"""Which parameters an optimizer leaves alone, and LARS against its formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from wisp.encoders.cifar_resnet import resnet8
from wisp.train.optimizers import Name, build, groups, is_plain, set_lr


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.ones(1, 4, 3))
        self.cls_token = nn.Parameter(torch.ones(1, 1, 3))
        self.norm = nn.LayerNorm(3)
        self.fc = nn.Linear(3, 2)
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def test_filters_and_matrices_alone_decay() -> None:
    module = Tokens()
    names = {id(p): name for name, p in module.named_parameters()}
    decayed, plain = ([names[id(p)] for p in group["params"]] for group in groups(module, 0.1))
    assert decayed == ["fc.weight"]
    assert plain == ["pos_embed", "cls_token", "norm.weight", "norm.bias", "fc.bias"]
    assert is_plain("blocks.0.reg_token", nn.Parameter(torch.ones(1, 2, 3)))
    assert not is_plain("pos_embed.weight", nn.Parameter(torch.ones(2, 3))), "a layer of that name is a layer"


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_every_parameter_is_in_one_group(name: Name) -> None:
    module = resnet8()
    optimizer = build(name, module, lr=0.1, weight_decay=0.01)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(module.parameters()))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]


@pytest.mark.parametrize(("name", "factors"), [("lars", [1.0, 0.25]), ("sgd", [1.0, 1.0]), ("adamw", [1.0, 1.0])])
def test_the_rate_of_a_step(name: Name, factors: list[float]) -> None:
    optimizer = build(name, resnet8(), lr=0.1, weight_decay=0.0, plain_lr=0.25)
    set_lr(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4 * factor for factor in factors])


class Predicting(nn.Module):
    constant_lr = ("predictor",)

    def __init__(self) -> None:
        super().__init__()
        self.network, self.predictor = nn.Linear(3, 2), nn.Linear(2, 2)


def test_a_constant_rate_stays_at_its_peak() -> None:
    module = Predicting()
    optimizer = build("sgd", module, lr=0.1, weight_decay=0.01)
    set_lr(optimizer, 0.02)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {rates[id(p)] for p in module.predictor.parameters()} == {0.1}
    assert {rates[id(p)] for p in module.network.parameters()} == {0.02}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize("clip", [False, True])
def test_lars_is_its_formula(clip: bool) -> None:
    """You et al. 2017: rate * trust * |w| / (|g| + decay * |w|), momentum over the scaled step; clipped as in LARC."""
    lr, trust, decay, momentum = 0.3, 0.02, 0.1, 0.9
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
    optimizer = build("lars", module, lr=lr, weight_decay=decay, trust=trust, clip=clip)
    wanted = {name: p.detach().clone() for name, p in module.named_parameters()}
    speed = {name: torch.zeros_like(p) for name, p in wanted.items()}
    for step in range(3):
        gradients = {name: torch.randn(p.shape, dtype=torch.float64) * 10.0**-step for name, p in wanted.items()}
        for name, p in module.named_parameters():
            p.grad = gradients[name].clone()
        optimizer.step()
        for name, w in wanted.items():
            g = gradients[name]
            if w.ndim > 1:
                ratio = trust * w.norm() / (g.norm() + decay * w.norm() + 1e-8)
                if clip:
                    ratio = (ratio / lr).clamp(max=1.0)
                g = ratio * (g + decay * w)
            speed[name] = momentum * speed[name] + g
            wanted[name] = w - lr * speed[name]
    for name, p in module.named_parameters():
        torch.testing.assert_close(p.detach(), wanted[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_parameter_without_a_gradient_stays(name: Name) -> None:
    """A phase of a method leaves the gradient of what is inactive at None: no decay, no momentum."""
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    before = module[1].weight.detach().clone()
    optimizer = build(name, module, lr=0.1, weight_decay=0.1)
    for _ in range(2):
        module[0](torch.ones(1, 3)).sum().backward()
        optimizer.step()
    assert torch.equal(module[1].weight, before)
    assert not torch.equal(module[0].bias, torch.zeros(4))


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_gradient_that_comes_late_is_a_first_one(name: Name) -> None:
    """A phase of a method that ends: what was inactive moves as under an optimizer that begins then."""
    late, early = nn.Linear(3, 4), nn.Linear(3, 4)
    alone = copy.deepcopy(late)
    both, one = (build(name, module, lr=0.1, weight_decay=0.1) for module in (nn.ModuleList([early, late]), alone))
    for step in range(5):
        both.zero_grad(set_to_none=True)
        early(torch.ones(1, 3)).square().sum().backward()
        if step >= 2:
            for module in (late, alone):
                module.zero_grad(set_to_none=True)
                module(torch.ones(1, 3)).square().sum().backward()
            one.step()
        both.step()
    assert torch.equal(late.weight, alone.weight)
    assert torch.equal(late.bias, alone.bias)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_gradient_that_overflows_at_the_first_step_leaves_no_trace(name: Name) -> None:
    """As in fp16, where the first scale is often too large."""
    trained = nn.Linear(3, 4)
    spared = copy.deepcopy(trained)
    for module, factors in ((trained, (torch.inf, 1.0, 1.0)), (spared, (1.0, 1.0))):
        optimizer, scaler = build(name, module, lr=0.1, weight_decay=0.1), torch.amp.GradScaler("cpu")
        for factor in factors:
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(factor * module(torch.ones(1, 3)).square().sum()).backward()
            scaler.step(optimizer)
            scaler.update(65_536.0)
    assert torch.equal(trained.weight, spared.weight)
    assert torch.equal(trained.bias, spared.bias)


def test_adamw_of_all_parameters_at_once_is_the_loop_over_them() -> None:
    """Bit by bit, also where gradients are missing for a while."""
    ends = []
    for at_once in (True, False):
        torch.manual_seed(0)
        module, generator = resnet8(), torch.Generator().manual_seed(1)
        optimizer = build("adamw", module, lr=0.01, weight_decay=0.1)
        for group in optimizer.param_groups:
            assert group["foreach"]
            group["foreach"] = at_once
        for step in range(5):
            for place, parameter in enumerate(module.parameters()):
                gradient = torch.randn(parameter.shape, generator=generator)
                parameter.grad = None if place % 7 == 3 and step < 2 else gradient
            optimizer.step()
        ends.append([p.detach().clone() for p in module.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))
