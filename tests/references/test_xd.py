"""XD against Eq. 6, 9 and 10 of SACL-XD without slimming, written again in loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from references.paper import barlow, correlation, embed, redundancy
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.losses.decorrelation import off_diagonal, standardize
from wisp.methods.xd import XD, Config


def small(**changes: object) -> XD:
    method = small_method("xd", **({"hidden": 12, "out": 10} | changes)).double()
    assert isinstance(method, XD)
    return method


@pytest.mark.parametrize("size", [6, 24])  # N < E and N > E take different paths
@pytest.mark.parametrize("alpha", [0.0, 0.6, 0.9, 1.0])
def test_the_loss_is_the_papers(size: int, alpha: float) -> None:
    method = small(alpha=alpha, lam=0.07, scale=0.3)
    batch = fixed_batch(method, size, dtype=torch.float64)
    za, zb = (embed(method.network, view) for view in batch.views)
    distill = 0.07 * (redundancy(correlation(za, za)) + redundancy(correlation(zb, zb))) / 2
    terms = method(batch, 0.5)
    assert terms["contrast"].item() == pytest.approx(0.3 * alpha * barlow(za, zb, 0.07), rel=1e-9)
    assert terms["distill"].item() == pytest.approx(0.3 * (1 - alpha) * distill, rel=1e-9)


@pytest.mark.parametrize("alpha", [1.0, 0.0])
def test_the_ends_of_alpha(alpha: float) -> None:
    """alpha 1 is Barlow Twins, value and gradient; alpha 0 leaves no contrast."""
    method, twins = small(alpha=alpha), small_method("barlow_twins", hidden=12, out=10).double()
    twins.load_state_dict(method.state_dict())
    batch = fixed_batch(method, 12, dtype=torch.float64)
    terms = method(batch, 0.5)
    if alpha == 0:
        assert terms["contrast"] == 0
        assert terms["distill"] > 0
        return
    assert terms["distill"] == 0
    total(terms).backward()
    total(twins(batch, 0.5)).backward()
    for (name, one), other in zip(method.named_parameters(), twins.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("size", [6, 24])
def test_the_term_has_half_the_gradient_of_the_symmetric_penalty(size: int) -> None:
    """The frozen side is a constant factor: C(z, sg z) has the value of C(z, z) and half its gradient."""
    raw = torch.randn(size, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def gradient(frozen: bool) -> tuple[Tensor, Tensor]:
        z = standardize(raw)
        loss = off_diagonal(z, z.detach() if frozen else z)
        return loss, torch.autograd.grad(loss, raw)[0]

    (value, half), (same, full) = gradient(True), gradient(False)
    assert value == same
    assert full.abs().max() > 1e-3
    torch.testing.assert_close(2 * half, full, rtol=1e-9, atol=1e-13)


def test_a_second_pass_would_repeat_the_first() -> None:
    """Why the detached embedding serves: same network, same batch, same batch statistics."""
    method = small()
    assert not method.second_pass
    batch = fixed_batch(method, 12, dtype=torch.float64)
    cheap = total(method(batch, 0.5))
    method.second_pass = True
    assert total(method(batch, 0.5)).item() == pytest.approx(cheap.item(), rel=1e-12)


def test_dropout_gets_a_real_second_pass() -> None:
    calls: list[bool] = []

    class Random(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Linear(48, 8)
            self.drop = nn.Dropout(0.3)

        def forward(self, x: Tensor) -> Tensor:
            calls.append(torch.is_grad_enabled())
            return self.drop(self.features(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)))

    base = small()
    from wisp.methods.method import Surroundings

    around = Surroundings(features=8, image_size=16, images=64, batch_size=12, plan=base.views)
    method = XD(Config(hidden=12, out=10), Random(), around).double()
    assert method.second_pass
    batch = fixed_batch(method, 12, dtype=torch.float64)
    total(method(batch, 0.5)).backward()
    assert calls == [True, True, False, False]


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_is_a_weight(alpha: float) -> None:
    with pytest.raises(WispError, match="alpha"):
        Config(alpha=alpha)
