"""SlimCLR against Eq. 1-7 of its paper, written again over stand-alone networks of every width."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from references.contrast import dot, minus_log_share, unit
from references.paper import Matrix, embed
from small_methods import fixed_batch, scramble, small_method, total
from wisp.errors import WispError
from wisp.methods.parts.widths import Reweighting, weights_of
from wisp.methods.slimclr import Config, SlimCLR

T, T2 = 0.3, 2.0
WIDTHS = (1.0, 0.5, 0.25)


def small(**changes: object) -> SlimCLR:
    settings = {"hidden": 12, "out": 10, "temperature": T, "splits": 1, "queue": 8, "widths": WIDTHS}
    settings |= {"distill_temperature": T2} | changes
    if settings.get("base", "moco_v2") != "moco_v2":
        del settings["splits"], settings["queue"]
    method = small_method("slimclr", batch_size=8, **settings).double()
    assert isinstance(method, SlimCLR)
    return method


def scrambled(method: SlimCLR) -> SlimCLR:
    scramble(method.narrow)
    return method


def networks(method: SlimCLR) -> list[nn.Module]:
    """Stand-alone encoder and heads at every width."""
    host = method.base.network
    return [host, *(subnet.export(host) for subnet in method.narrow.narrow)]


Rows = list[tuple[list[float], int]]


def rows(method: SlimCLR, network: nn.Module, views: tuple[Tensor, ...], keys: list[Matrix], queue: Matrix) -> Rows:
    """Rows of cosines with the positive's column, as each base has them."""
    z = [unit(embed(network, view)) for view in views]
    if method.config.base == "moco_v2":
        return [([dot(q, k), *(dot(q, n) for n in queue)], 0) for q, k in zip(z[0], keys[1], strict=True)]
    if method.config.base == "moco_v3":
        pairs = [(z[0], keys[1]), (z[1], keys[0])]
        return [([dot(q, k) for k in there], i) for here, there in pairs for i, q in enumerate(here)]
    both = np.concatenate(z)
    n = len(z[0])
    found = []
    for i, row in enumerate(both):
        others = [k for k in range(2 * n) if k != i]
        found.append(([dot(row, both[k]) for k in others], others.index((i + n) % (2 * n))))
    return found


def divergence(student: Rows, teacher: Rows) -> float:
    """t^2 KL between the softmax of cosines over t."""
    total_ = 0.0
    for (s, _), (t, _) in zip(student, teacher, strict=True):
        for a, b in zip(s, t, strict=True):
            log_p = -minus_log_share(b / T2, [x / T2 for x in t])
            log_q = -minus_log_share(a / T2, [x / T2 for x in s])
            total_ += np.exp(log_p) * (log_p - log_q)
    return T2**2 * total_ / len(student)


@pytest.mark.parametrize("base", ["moco_v2", "moco_v3", "simclr"])
def test_the_loss_is_the_papers(base: str) -> None:
    method = scrambled(small(base=base))
    first = fixed_batch(method, 8, seed=3, dtype=torch.float64)
    method(first, 0.0)
    method.after_step(0.0)
    batch = fixed_batch(method, 8, dtype=torch.float64)
    slow = None if base == "simclr" else copy.deepcopy(method.base.slow.network)
    keys = [] if slow is None else [unit(embed(slow, view)) for view in batch.views]
    queue = method.base.queue.keys.numpy() if base == "moco_v2" else np.zeros((0, 10))
    # InfoNCE is a mean over rows; MoCo v3 sums its two directions and multiplies by 2 t.
    factor = 4 * T if base == "moco_v3" else 1.0
    everyone = [rows(method, network, batch.views, keys, queue) for network in networks(method)]
    contrast = [
        factor * float(np.mean([minus_log_share(r[i] / T, [x / T for x in r]) for r, i in each])) for each in everyone
    ]
    alone = total(method(batch, 0.49)).item()
    assert alone == pytest.approx(contrast[0], rel=1e-9)
    wanted = 1.75 * contrast[0]
    for own, infonce in zip(everyone[1:], contrast[1:], strict=True):
        directions = 2 if base == "moco_v3" else 1  # summed, as their contrasts are
        wanted += (infonce + directions * divergence(own, everyone[0])) / 2
    assert total(method(batch, 0.5)).item() == pytest.approx(wanted, rel=1e-8)


@pytest.mark.parametrize(
    ("scheme", "printed"),
    [
        ("sum", [2.5, 1.0, 1.0, 1.0]),
        ("max", [1.75, 1.0, 1.0, 1.0]),
        ("proportional", [1.6, 1.2, 0.8, 0.4]),
        ("cumulative", [1.54, 1.08, 0.77, 0.62]),
        ("none", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_weights_are_those_of_table_3e(scheme: Reweighting, printed: list[float]) -> None:
    assert weights_of((0.25, 1.0, 0.5, 0.75), scheme) == pytest.approx(printed, abs=0.005)


def test_only_the_full_network_learns_at_first() -> None:
    method = small()
    batch = fixed_batch(method, 8, dtype=torch.float64)
    method(batch, 0.0)
    method.after_step(0.0)
    for progress, expected in ((0.49, False), (0.5, True)):
        method.zero_grad(set_to_none=True)
        total(method(batch, progress)).backward()
        assert all((p.grad is not None) == expected for p in method.narrow.parameters())
        assert all(p.grad is not None for p in method.base.network.parameters())


def test_the_exported_widths_are_the_trained_ones() -> None:
    method = scrambled(small()).eval()
    view = fixed_batch(method, 4, dtype=torch.float64).views[0]
    assert list(method.encoders()) == ["1.0", "0.5", "0.25"]
    with torch.no_grad():
        for embed_, network in zip(method.narrow.embedders(method.base.network), networks(method)[1:], strict=True):
            assert torch.equal(embed_(view), network.eval()(view))


@pytest.mark.parametrize("distill", ["mse", "atkd", "dkd", "none"])
def test_other_distillations_leave_the_contrast_alone(distill: str) -> None:
    plain, other = small(distill="kd"), small(distill=distill)
    batch = fixed_batch(plain, 8, dtype=torch.float64)
    for method in (plain, other):
        method(batch, 0.0)
        method.after_step(0.0)
    one, two = plain(batch, 0.5), other(batch, 0.5)
    assert one["contrast"] == two["contrast"]
    if distill == "none":
        assert two["narrow"].item() == pytest.approx(2 * one["narrow"].item(), rel=1e-12)
        assert "distill" not in two
    else:
        assert one["narrow"] == two["narrow"]
        assert two["distill"] > 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"widths": (1.0, 1.5)}, "1.5 is outside"),
        ({"widths": (1.0, 0.0)}, "0 is outside"),
        ({"widths": (1.0, 0.5, 0.5)}, "0.5 is named twice"),
        ({"widths": (0.5,)}, "need 1"),
        ({"slow_start": 1.0}, "slow_start is 1"),
        ({"distill_temperature": 0.0}, "distill_temperature is 0"),
        ({"base": "simclr", "queue": 64}, "simclr has no queue"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], said: str) -> None:
    with pytest.raises(WispError, match=said):
        Config(**settings)
