"""SACL-XD against Eq. 5 to 12 of its paper, written again in loops over embeddings of stand-alone networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from references.paper import Matrix, barlow, correlation, embed, invariance, redundancy
from small_methods import SIZE, fixed_batch, small_method, total
from wisp.cost.count import count_step
from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.methods.sacl_xd import Config, SaclXd

LAM, SCALE, ALPHA = 0.07, 0.3, 0.8
"""Unlike the defaults, so that every factor counts."""


def small(**changes: object) -> SaclXd:
    settings = {"hidden": 12, "out": 10, "lam": LAM, "scale": SCALE, "alpha": ALPHA} | changes
    method = small_method("sacl_xd", **settings).double()
    assert isinstance(method, SaclXd)
    method.before_epoch(0)
    return method


def batch_for(method: SaclXd, size: int) -> Batch:
    return fixed_batch(method, size, dtype=torch.float64)


@dataclass(frozen=True)
class Embeddings:
    """Dense and slim embeddings of both views; the slim network as the stand-alone network that would be exported."""

    dense_a: Matrix
    dense_b: Matrix
    slim_a: Matrix
    slim_b: Matrix


def embeddings(method: SaclXd, batch: Batch) -> Embeddings:
    pair = method.pair
    slim = pair.slim.export(pair.host)
    (xa, xb) = batch.views
    return Embeddings(embed(pair.host, xa), embed(pair.host, xb), embed(slim, xa), embed(slim, xb))


def decorrelation(*pairs: tuple[Matrix, Matrix]) -> float:
    """Eq. 9 and 10 without the inner correlation, averaged over the pairs as in Eq. 5."""
    return sum(LAM * redundancy(correlation(z, frozen)) for z, frozen in pairs) / len(pairs)


def compare(terms: dict[str, Tensor], contrast: float, distill: float) -> None:
    assert terms["contrast"].item() == pytest.approx(SCALE * contrast, rel=1e-9)
    assert terms["distill"].item() == pytest.approx(SCALE * distill, rel=1e-9)


@pytest.mark.parametrize("size", [6, 24])  # N < E and N > E take different paths
@pytest.mark.parametrize("width", [1.5, 2.0])
def test_crossed_pairs_are_the_papers_loss(size: int, width: float) -> None:
    method = small(width=width)
    batch = batch_for(method, size)
    e = embeddings(method, batch)
    contrast = ALPHA * barlow(e.dense_a, e.slim_b, LAM)
    distill = (1 - ALPHA) * decorrelation((e.dense_a, e.slim_a), (e.slim_b, e.dense_b))
    compare(method(batch, 0.5), contrast, distill)


def test_crossed_pairs_share_their_image() -> None:
    """The pseudo-code correlates different images, and the A matrix twice: that loss is another one."""
    method = small()
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    ours = method(batch, 0.5)["distill"].item()
    literal = SCALE * (1 - ALPHA) * decorrelation((e.dense_a, e.dense_b), (e.slim_b, e.slim_a))
    a_twice = SCALE * (1 - ALPHA) * decorrelation((e.dense_a, e.slim_a), (e.dense_a, e.slim_a))
    assert ours != pytest.approx(literal, rel=1e-3)
    assert ours != pytest.approx(a_twice, rel=1e-3)


def test_which_view_passes_which_network() -> None:
    """A with gradient through the host, B through the slim network; swapped without."""
    method = small()
    batch = batch_for(method, 6)
    seen: list[tuple[str, str, bool]] = []

    def note(network: str, x: Tensor) -> None:
        view = next(name for name, v in zip("AB", batch.views, strict=True) if torch.equal(v, x))
        seen.append((network, view, torch.is_grad_enabled()))

    method.pair.host.register_forward_pre_hook(lambda _, inputs: note("host", inputs[0]))
    method.pair.slim.register_forward_pre_hook(lambda _, inputs: note("slim", inputs[0]))
    method(batch, 0.5)
    assert sorted(seen) == [("host", "A", True), ("host", "B", False), ("slim", "A", False), ("slim", "B", True)]


@pytest.mark.parametrize("size", [6, 24])
def test_own_pairs_need_no_frozen_pass(size: int) -> None:
    method = small(pairs="own")
    batch = batch_for(method, size)
    e = embeddings(method, batch)
    calls: list[bool] = []
    method.pair.host.register_forward_pre_hook(lambda *_: calls.append(True))
    method.pair.slim.register_forward_pre_hook(lambda *_: calls.append(True))
    distill = (1 - ALPHA) * decorrelation((e.dense_a, e.dense_a), (e.slim_b, e.slim_b))
    compare(method(batch, 0.5), ALPHA * barlow(e.dense_a, e.slim_b, LAM), distill)
    assert len(calls) == 2


@pytest.mark.parametrize("pairs", ["crossed", "own"])
def test_both_orders_average_the_two_halves(pairs: str) -> None:
    method = small(pairs=pairs, both_orders=True)
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    contrast = (barlow(e.dense_a, e.slim_b, LAM) + barlow(e.dense_b, e.slim_a, LAM)) / 2
    mates = {
        "crossed": [
            (e.dense_a, e.slim_a),
            (e.slim_b, e.dense_b),
            (e.slim_a, e.dense_a),
            (e.dense_b, e.slim_b),
        ],
        "own": [(z, z) for z in (e.dense_a, e.slim_b, e.slim_a, e.dense_b)],
    }
    compare(method(batch, 0.5), ALPHA * contrast, (1 - ALPHA) * decorrelation(*mates[pairs]))


def test_both_orders_give_a_gradient_through_all_four_passes() -> None:
    method = small(both_orders=True)
    batch = batch_for(method, 6)
    graded: list[bool] = []
    method.pair.host.register_forward_hook(lambda *parts: graded.append(parts[2].requires_grad))
    method.pair.slim.register_forward_hook(lambda *parts: graded.append(parts[2].requires_grad))
    method(batch, 0.5)
    assert graded == [True] * 4


def test_inner_correlation_alone_is_fig_3b() -> None:
    method = small(distill="inner_correlation")
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    inner = (invariance(correlation(e.dense_a, e.slim_a)) + invariance(correlation(e.slim_b, e.dense_b))) / 2
    compare(method(batch, 0.5), ALPHA * barlow(e.dense_a, e.slim_b, LAM), (1 - ALPHA) * inner)


def softmax(row: Matrix) -> Matrix:
    weights = np.exp(row - row.max())
    return weights / weights.sum()


def negative_log(z: Matrix, frozen: Matrix) -> float:
    """-[z~] log z of Eq. 12, both as distributions over the dimensions of a standardised embedding, mean over N."""
    unit_z, unit_frozen = ((m - m.mean(0)) / np.sqrt(m.var(0) + 1e-5) for m in (z, frozen))
    rows = zip(unit_z, unit_frozen, strict=True)
    return float(np.mean([-sum(softmax(t) * np.log(softmax(row))) for row, t in rows]))


@pytest.mark.parametrize("gamma", [1e-3, 0.5])
def test_negative_log_is_eq_11_and_12(gamma: float) -> None:
    """gamma stands in the place of 1 - alpha, and the contrastive term has no alpha."""
    method = small(distill="negative_log", gamma=gamma)
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    distill = (negative_log(e.dense_a, e.slim_a) + negative_log(e.slim_b, e.dense_b)) / 2
    compare(method(batch, 0.5), barlow(e.dense_a, e.slim_b, LAM), gamma * distill)


def test_a_warm_dense_start_is_xd_on_the_host() -> None:
    method = small(dense_warmup=0.25)
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    dense = decorrelation((e.dense_a, e.dense_a), (e.dense_b, e.dense_b))
    compare(method(batch, 0.2), ALPHA * barlow(e.dense_a, e.dense_b, LAM), (1 - ALPHA) * dense)
    slimmed = decorrelation((e.dense_a, e.slim_a), (e.slim_b, e.dense_b))
    for progress in (0.25, 0.9):
        compare(method(batch, progress), ALPHA * barlow(e.dense_a, e.slim_b, LAM), (1 - ALPHA) * slimmed)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_ends_of_alpha(alpha: float) -> None:
    method = small(alpha=alpha)
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    terms = method(batch, 0.5)
    contrast, distill = barlow(e.dense_a, e.slim_b, LAM), decorrelation((e.dense_a, e.slim_a), (e.slim_b, e.dense_b))
    assert terms["contrast"].item() == pytest.approx(alpha * SCALE * contrast, rel=1e-9)
    assert terms["distill"].item() == pytest.approx((1 - alpha) * SCALE * distill, rel=1e-9)


@pytest.mark.parametrize("pairs", ["crossed", "own"])
def test_width_one_is_xd(pairs: str) -> None:
    """A host of the encoder's own width has nothing to slim: both pairings are then XD, value and gradient."""
    method = small(width=1.0, pairs=pairs)
    xd = small_method("xd", hidden=12, out=10, lam=LAM, scale=SCALE, alpha=ALPHA).double()
    xd.load_state_dict({f"network.{name}": value for name, value in method.pair.host.state_dict().items()})
    batch = batch_for(method, 12)
    ours, theirs = method(batch, 0.5), xd(batch, 0.5)
    total(ours).backward()
    total(theirs).backward()
    for name, term in theirs.items():
        assert ours[name].item() == pytest.approx(term.item(), rel=1e-9)
    for (name, one), other in zip(method.named_parameters(), xd.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-7, atol=1e-12, msg=name)


def test_frozen_passes_give_no_gradient() -> None:
    """The gradient is that of the loss whose frozen embeddings stay put, by differences; theirs would change it."""
    method = small(alpha=0.2, lam=1.0)
    batch = batch_for(method, 8)
    frozen = embeddings(method, batch)

    def loss(changed: SaclXd, targets: Embeddings | None) -> float:
        e = embeddings(changed, batch)
        t = targets or e
        distill = (redundancy(correlation(e.dense_a, t.slim_a)) + redundancy(correlation(e.slim_b, t.dense_b))) / 2
        return SCALE * (0.2 * barlow(e.dense_a, e.slim_b, 1.0) + 0.8 * distill)

    total(method(batch, 0.5)).backward()
    step, leaked = 1e-6, []
    chosen = method.pair.slim.maps["0.conv1"]
    for channel in (
        int(chosen[0]),
        next(c for c in range(32) if c not in chosen.tolist()),
    ):  # shared, and the host's own
        gradient = method.pair.host.get_parameter("0.conv1.weight").grad
        assert gradient is not None
        found = {}
        for targets in (frozen, None):
            sides = []
            for sign in (1, -1):
                moved = copy.deepcopy(method)
                with torch.no_grad():
                    moved.pair.host.get_parameter("0.conv1.weight")[channel, 1, 1, 1] += sign * step
                sides.append(loss(moved, targets))
            found[targets is None] = (sides[0] - sides[1]) / (2 * step)
        assert gradient[channel, 1, 1, 1].item() == pytest.approx(found[False], rel=1e-4, abs=1e-7)
        leaked.append(abs(found[True] - found[False]) > 1e-3 * abs(found[False]))
    assert all(leaked), "the frozen passes depend on these weights, so a leak would show"


def test_selection_follows_its_option() -> None:
    """After the host's filters have changed: again every epoch, never again, or always the first channels."""
    chosen = {}
    for selection in ("epoch", "once", "prefix"):
        method = small(selection=selection)
        first = {key: value.clone() for key, value in method.pair.slim.maps.state_dict().items()}
        with torch.no_grad():
            for parameter in method.pair.host.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
        method.before_epoch(1)
        later = method.pair.slim.maps.state_dict()
        chosen[selection] = [torch.equal(first[key], later[key]) for key in first]
        if selection == "prefix":
            assert all(torch.equal(value, torch.arange(len(value))) for value in later.values())
    assert not any(chosen["epoch"])
    assert all(chosen["once"])
    assert all(chosen["prefix"])


def test_shared_statistics_are_the_hosts() -> None:
    method = small(statistics="shared")
    before = {name: value.clone() for name, value in method.pair.host.named_buffers() if "running_mean" in name}
    batch = batch_for(method, 12)
    method.calibrate([batch])  # nothing of its own to re-estimate
    assert all(torch.equal(value, method.pair.host.get_buffer(name)) for name, value in before.items())
    method(batch, 0.5)
    slim = method.encoders()["1x"].state_dict()["bn1.running_mean"]
    host = method.pair.host.get_buffer("0.bn1.running_mean")
    assert torch.equal(slim, host[method.pair.slim.maps["0.conv1"]])
    own = small(statistics="own")
    own(batch, 0.5)
    other = own.encoders()["1x"].state_dict()["bn1.running_mean"]
    assert not torch.equal(other, own.pair.host.get_buffer("0.bn1.running_mean")[own.pair.slim.maps["0.conv1"]])


@pytest.mark.parametrize(
    "options",
    [
        {"statistics": "shared"},
        {"statistics": "shared", "both_orders": True},
        {"statistics": "shared", "pairs": "own"},
        {"selection": "once"},
        {"selection": "prefix"},
        {"pairs": "own"},
        {"both_orders": True},
        {"both_orders": True, "pairs": "own"},
        {"dense_warmup": 0.3},
        {"distill": "inner_correlation"},
        {"distill": "negative_log"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_every_option_trains_and_is_counted(options: dict[str, object]) -> None:
    """Two steps in each phase, and their cost: what an option does in the forward pass must not spoil the backward."""
    method = small(**options)
    for progress in method.phases():
        for step in range(2):
            method.zero_grad()
            total(method(batch_for(method, 12), progress)).backward()
            gradients = [p.grad for p in method.parameters() if p.grad is not None]
            assert gradients, step
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
        assert count_step(method, 12, SIZE, progress).branches["backward"] > 0


def test_diagnosis_is_fig_3a() -> None:
    method = small()
    batch = batch_for(method, 12)
    e = embeddings(method, batch)
    found = method.diagnose(batch)
    matrices = correlation(e.dense_a, e.slim_a), correlation(e.dense_b, e.slim_b)
    assert found["inner_correlation"] == pytest.approx(sum(map(invariance, matrices)) / 2, rel=1e-9)
    assert found["inner_decorrelation"] == pytest.approx(LAM * sum(map(redundancy, matrices)) / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("alpha", -0.1), ("alpha", 1.1), ("width", 0.5), ("width", float("inf")), ("dense_warmup", 1.0)],
)
def test_settings_out_of_range(setting: str, value: float) -> None:
    with pytest.raises(WispError, match=setting):
        Config(**{setting: value})
