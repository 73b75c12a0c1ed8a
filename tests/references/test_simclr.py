"""SimCLR against Eq. 1 and Algorithm 1 of its paper, written again in loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from references.contrast import dot, minus_log_share, unit
from references.paper import embed
from small_methods import fixed_batch, small_method, total
from wisp.errors import WispError
from wisp.methods.simclr import Config, SimCLR


@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_loss_is_the_papers(temperature: float) -> None:
    method = small_method("simclr", temperature=temperature).double()
    assert isinstance(method, SimCLR)
    batch = fixed_batch(method, 6, dtype=torch.float64)
    za, zb = (unit(embed(method.network, view)) for view in batch.views)
    z = np.stack([za, zb], axis=1).reshape(12, -1)  # 2k and 2k + 1 are a pair, as in Algorithm 1
    losses = []
    for i in range(12):
        mate = i + 1 if i % 2 == 0 else i - 1
        others = [dot(z[i], z[k]) / temperature for k in range(12) if k != i]
        losses.append(minus_log_share(dot(z[i], z[mate]) / temperature, others))
    assert total(method(batch, 0.5)).item() == pytest.approx(np.mean(losses), rel=1e-9)


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_is_positive(temperature: float) -> None:
    with pytest.raises(WispError, match=r"temperature is .* above 0"):
        Config(temperature=temperature)
