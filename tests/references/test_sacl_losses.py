"""SACL with the losses of other methods, against those losses written again in loops over stand-alone networks."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from references.contrast import distance, dot, minus_log_share, unit
from references.paper import Matrix, correlation, embed, redundancy
from references.test_vicreg import covariance, variance
from small_methods import SIZE, fixed_batch, small_method, total
from wisp.cost.count import count_step
from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.methods.sacl_xd import Config, SaclXd

ALPHA, T, E, N, K = 0.7, 0.3, 10, 8, 32
PAIRS = 0.0051 * 2047
"""What the mean squared correlation of a pair of dimensions weighs in Barlow Twins, beside a dimension's own."""
LOSSES = ["vicreg", "simclr", "moco_v2", "byol"]
every_loss = pytest.mark.parametrize("loss", LOSSES)


def small(loss: str, **changes: object) -> SaclXd:
    own: dict[str, dict[str, object]] = {
        "vicreg": {},
        "simclr": {"temperature": T},
        "moco_v2": {"temperature": T, "splits": 1, "queue": K, "momentum": 0.9},
        "byol": {"momentum": 0.9},
    }
    settings = {"loss": loss, "hidden": 12, "out": E, "alpha": ALPHA} | own[loss] | changes
    method = small_method("sacl_xd", batch_size=N, **settings).double()
    assert isinstance(method, SaclXd)
    method.before_epoch(0)
    return method


def batch_for(method: SaclXd, seed: int = 1) -> Batch:
    return fixed_batch(method, N, seed=seed, dtype=torch.float64)


def dense(method: SaclXd, x: Tensor) -> Matrix:
    return embed(method.pair.host, x)


def slim(method: SaclXd, x: Tensor) -> Matrix:
    return embed(method.pair.slim.export(method.pair.host), x)


def unit_rows(count: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(count, width, generator=generator), dim=1)


def info_nce(queries: Matrix, keys: Matrix, others: Matrix) -> float:
    rows = [[dot(q, k) / T, *(dot(q, n) / T for n in others)] for q, k in zip(unit(queries), unit(keys), strict=True)]
    return float(np.mean([minus_log_share(row[0], row) for row in rows]))


def nt_xent(za: Matrix, zb: Matrix) -> float:
    both, losses = unit(np.concatenate([za, zb])), []
    for i, row in enumerate(both):
        candidates = [dot(row, both[j]) / T for j in range(2 * N) if j != i]
        losses.append(minus_log_share(dot(row, both[(i + N) % (2 * N)]) / T, candidates))
    return float(np.mean(losses))


def losses(loss: str, za: Matrix, zb: Matrix, ta: Matrix | None, tb: Matrix | None, queue: Matrix) -> dict[str, float]:
    """Of the embeddings of view A and B; `ta` and `tb` are what the slow host makes of those views."""
    if loss == "vicreg":
        return {
            "invariance": 25 * float(np.mean((za - zb) ** 2)),
            "variance": 25 * (variance(za) + variance(zb)) / 2,
            "covariance": covariance(za) + covariance(zb),
        }
    if loss == "simclr":
        return {"contrast": nt_xent(za, zb)}
    assert ta is not None
    assert tb is not None
    if loss == "moco_v2":
        return {"contrast": (info_nce(za, tb, queue) + info_nce(zb, ta, queue)) / 2}
    return {"alignment": distance(za, tb) + distance(zb, ta)}


def decorrelation(loss: str, *pairs: tuple[Matrix, Matrix]) -> float:
    """Of the directions, at a length of sqrt(E); VICReg compares embeddings as they are."""
    if loss == "vicreg":
        return sum(2 / E * redundancy(correlation(z, mate)) for z, mate in pairs) / len(pairs)
    slope = {"simclr": 1 / T, "moco_v2": 1 / T, "byol": 4.0}[loss]
    long = [(unit(z) * math.sqrt(E), unit(mate) * math.sqrt(E)) for z, mate in pairs]
    mean = sum(redundancy(correlation(*each)) for each in long) / len(long) / (E * (E - 1))
    return slope / 2 * PAIRS * mean


def compare(terms: dict[str, Tensor], wanted: dict[str, float], distill: float) -> None:
    expected = {name: ALPHA * value for name, value in wanted.items()} | {"distill": (1 - ALPHA) * distill}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-9, abs=1e-12)


@every_loss
@pytest.mark.parametrize("pairs", ["crossed", "own"])
def test_three_steps_are_the_loss_between_the_branches(loss: str, pairs: str) -> None:
    method = small(loss, pairs=pairs)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    parts = 2
    slow = copy.deepcopy(method.pair.host[:parts])
    queue = np.zeros((0, E))
    for step in range(3):
        batch = batch_for(method, seed=step)
        a, b = batch.views
        za, zb, mate_a, mate_b = dense(method, a), slim(method, b), slim(method, a), dense(method, b)
        ta, tb = embed(slow, a), embed(slow, b)
        mates = [(za, mate_a), (zb, mate_b)] if pairs == "crossed" else [(za, za), (zb, zb)]
        terms = method(batch, 0.0)
        compare(terms, losses(loss, za, zb, ta, tb, queue), decorrelation(loss, *mates))
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        method.after_step(0.0)
        queue = np.concatenate([queue, unit(tb), unit(ta)])
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), method.pair.host[:parts].parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)


@every_loss
def test_both_orders_average_the_two_halves(loss: str) -> None:
    method = small(loss, both_orders=True)
    method(batch_for(method, seed=5), 0.0)
    method.after_step(0.0)
    batch = batch_for(method)
    a, b = batch.views
    ta = tb = queue = np.zeros((0, E))
    if loss in ("moco_v2", "byol"):
        ta, tb = (embed(method.base.slow.network, view) for view in (a, b))
    if loss == "moco_v2":
        queue = method.base.queue.keys[method.base.queue.filled].numpy()
    za, zb, other_a, other_b = dense(method, a), slim(method, b), slim(method, a), dense(method, b)
    one, other = losses(loss, za, zb, ta, tb, queue), losses(loss, other_a, other_b, ta, tb, queue)
    mates = [(za, other_a), (zb, other_b), (other_a, za), (other_b, zb)]
    compare(method(batch, 0.5), {k: (one[k] + other[k]) / 2 for k in one}, decorrelation(loss, *mates))


@every_loss
def test_width_one_without_distillation_is_the_loss_alone(loss: str) -> None:
    """Host and slim network are then one: value and gradient of the method itself."""
    method = small(loss, width=1.0, alpha=1.0)
    changes = {"symmetric": True, "splits": 1, "queue": K} if loss == "moco_v2" else {}
    changes |= {"temperature": T} if loss in ("simclr", "moco_v2") else {}
    alone = small_method(loss, batch_size=N, hidden=12, out=E, **changes).double()
    weights = method.pair.host.state_dict()
    alone.network.load_state_dict(weights)
    if loss in ("moco_v2", "byol"):
        alone.slow.load_state_dict(method.base.slow.state_dict())
    for step in range(2):
        batch = batch_for(method, seed=step)
        ours, theirs = method(batch, 0.0), alone(batch, 0.0)
        assert ours.pop("distill").item() == 0
        for name, term in theirs.items():
            assert ours[name].item() == pytest.approx(term.item(), rel=1e-9, abs=1e-12)
        method.zero_grad()
        alone.zero_grad()
        total(ours).backward()
        total(theirs).backward()
        for one, other in zip(method.pair.host.parameters(), alone.network.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-12)
        if loss == "moco_v2":
            method.after_step(0.0)
            alone.after_step(0.0)


@every_loss
def test_the_slow_copy_is_the_hosts_and_everything_is_owned_once(loss: str) -> None:
    method = small(loss)
    host = method.pair.host
    assert method.base.network is host
    keys = list(method.state_dict())
    assert not any(key.startswith("base.network") for key in keys)
    trained = [p for p in method.parameters() if p.requires_grad]
    assert sum(map(torch.numel, trained)) == sum(map(torch.numel, host.parameters()))
    copied = [key for key in keys if key.startswith("base.slow")]
    assert bool(copied) == (loss in ("moco_v2", "byol"))
    if copied:
        for mine, theirs in zip(method.base.slow.parameters(), host[:2].parameters(), strict=True):
            assert torch.equal(mine, theirs)
            assert not mine.requires_grad
    twin = copy.deepcopy(method)
    assert twin.base.network is twin.pair.host is not host


@every_loss
@pytest.mark.parametrize(
    "options",
    [
        {"statistics": "shared"},
        {"dense_warmup": 0.3},
        {"distill": "inner_correlation"},
        {"distill": "negative_log", "both_orders": True, "pairs": "own"},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_every_option_trains_and_is_counted(loss: str, options: dict[str, object]) -> None:
    method = small(loss, **options)
    for progress in method.phases():
        method.zero_grad()
        total(method(batch_for(method), progress)).backward()
        gradients = [p.grad for p in method.parameters() if p.grad is not None]
        assert gradients
        assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert count_step(method, N, SIZE, progress).branches["backward"] > 0
        method.after_step(progress)


@every_loss
def test_the_cost_of_each_branch(loss: str) -> None:
    """One view each through host and slim network, with and without a gradient; a slow copy sees both views."""
    branches = count_step(small(loss), N, SIZE).branches
    own = count_step(small(loss, pairs="own"), N, SIZE).branches
    assert branches["frozen host"] == branches["host"] == own["host"] > 2 * branches["slim"]
    assert branches["frozen slim"] == branches["slim"]
    assert {"frozen host", "frozen slim"}.isdisjoint(own)
    slow = sum(flops for name, flops in branches.items() if "slow" in name)
    if loss == "moco_v2":
        assert slow == 2 * branches["host"]
    elif loss == "byol":
        assert branches["host"] < slow < 2 * branches["host"], "it has no predictor"
    else:
        assert slow == 0


@pytest.mark.parametrize("loss", ["barlow_twins", *LOSSES])
def test_the_slope_by_the_agreement_of_unrelated_views(loss: str) -> None:
    """Views of independent normal numbers, and the derivative by what one takes from the other."""
    out, n = 256, 256
    method = small_method(loss, batch_size=n, out=out, **({"symmetric": True} if loss == "moco_v2" else {}))
    generator = torch.Generator().manual_seed(0)
    za, zb = (unit_rows(n, out, generator) for _ in range(2))
    if loss == "moco_v2":
        method.queue.put(unit_rows(len(method.queue.keys), out, generator))
    agreement = torch.zeros((), requires_grad=True)
    mixed = zb + agreement * za  # of first order the length stays
    slow = loss in ("moco_v2", "byol")
    views = (za, zb) if slow else (za * out**0.5, mixed * out**0.5)
    targets = [mixed, za + agreement * zb] if slow else []
    embeddings = method.embeddings((torch.nn.Identity(), torch.nn.Identity()), views)
    weight, value = next(iter(method.terms(embeddings, targets).values()))
    (slope,) = torch.autograd.grad(weight * value, agreement)
    assert -slope.item() / (2 * out) == pytest.approx(method.worth(), rel=0.1)


def test_settings_are_those_of_the_loss() -> None:
    assert Config().settings() == Config(loss="barlow_twins", lam=0.0051, scale=0.1, hidden=2048, out=2048).settings()
    for loss, plan in [("vicreg", "vicreg_cifar"), ("simclr", "simclr_cifar"), ("moco_v2", "mocov2_cifar")]:
        assert Config(loss=loss).training["small"].plan == plan
    assert Config(loss="moco_v2").training["small"].optimizer == "sgd"
    assert Config(loss="byol").settings().out == 256
    assert Config(loss="moco_v2", queue=512).settings().queue == 512
    for loss, option, value in [("simclr", "lam", 0.1), ("byol", "temperature", 0.2), ("barlow_twins", "queue", 64)]:
        with pytest.raises(WispError, match=f"^{loss} has no {option}; leave it out, or use another loss$"):
            Config(loss=loss, **{option: value})
