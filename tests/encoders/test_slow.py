"""A slow copy: its formula, what an update costs, and that it stands outside of autograd."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from wisp.encoders.slow import SlowCopy, momentum_at


class Calls(TorchDispatchMode):
    """The operations that reach torch."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_all_parameters_follow_in_one_operation() -> None:
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    slow = SlowCopy(online)
    before = copy.deepcopy(slow.network)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1.0)
    with Calls() as calls:
        slow.follow(online, 0.9)
    assert calls.names == ["_foreach_lerp_"]
    for new, old, now in zip(slow.network.parameters(), before.parameters(), online.parameters(), strict=True):
        for a, b, c in zip(new.flatten(), old.flatten(), now.flatten(), strict=True):
            assert a.item() == pytest.approx(0.9 * b.item() + 0.1 * c.item(), rel=1e-12)


def test_a_pass_of_the_copy_records_nothing() -> None:
    slow = SlowCopy(nn.Linear(3, 2))
    assert not slow(torch.randn(4, 3, requires_grad=True)).requires_grad
    assert not any(parameter.requires_grad for parameter in slow.parameters())


def test_momentum_grows_to_one() -> None:
    assert [momentum_at(0.9, progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx([0.9, 0.95, 1.0])
