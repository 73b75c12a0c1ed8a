"""Probes of several widths: what is shared, what is not, and what distillation adds."""

from __future__ import annotations

import pytest
import torch

from wisp.errors import WispError
from wisp.evaluate.features import Features
from wisp.evaluate.linear import Protocol, linear
from wisp.evaluate.widths import slimmable, switchable

QUICK = Protocol(epochs=20, learning_rates=(0.3, 0.03), batch_size=64)


def clusters(size: int, *, turned: bool = False, noise: float = 0.6, seed: int = 0) -> Features:
    """Four classes around corners that need two dimensions; `turned` gives the same places to other classes."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    labels = torch.arange(400) % 4
    places = corners[(labels + 1) % 4 if turned else labels]
    x = torch.randn(400, size, generator=generator) * noise
    x[:, :2] += places
    return Features(x[:300], labels[:300], x[300:], labels[300:])


def test_a_switchable_layer_is_a_probe_of_each_width() -> None:
    features = {"1.0": clusters(8), "0.5": clusters(4, seed=1)}
    found = switchable(features, protocol=QUICK)
    assert list(found) == ["1.0", "0.5"]
    for name, each in features.items():
        assert found[name] == pytest.approx(linear(each, QUICK).accuracy, abs=4)


def test_one_layer_cannot_serve_features_that_disagree() -> None:
    """Appendix A: where the narrow features mean something else, the shared columns cannot fit both."""
    agreeing = {"1.0": clusters(8), "0.5": clusters(4, seed=1)}
    torn = {"1.0": clusters(8), "0.5": clusters(4, turned=True, seed=1)}
    assert min(slimmable(agreeing, protocol=QUICK).values()) > 80
    assert min(switchable(torn, protocol=QUICK).values()) > 80
    assert min(slimmable(torn, protocol=QUICK).values()) < 70


def test_distillation_pulls_a_narrow_width_towards_the_full_one() -> None:
    """The full width does not learn from the narrow one; the narrow one is another with a teacher."""
    features = {"1.0": clusters(8, noise=1.5), "0.5": clusters(4, noise=1.5, seed=1)}
    plain, distilled = (switchable(features, distill=each, protocol=QUICK) for each in (False, True))
    assert plain["1.0"] == distilled["1.0"]
    assert plain["0.5"] != distilled["0.5"]
    assert min(distilled.values()) > 30


def test_widths_that_cannot_be_probed() -> None:
    with pytest.raises(WispError, match="one width or more"):
        switchable({})
    other = clusters(4)
    shuffled = Features(other.train, other.train_labels.flip(0), other.test, other.test_labels)
    with pytest.raises(WispError, match="the same images"):
        switchable({"1.0": clusters(8), "0.5": shuffled})
    with pytest.raises(WispError, match="full width first"):
        slimmable({"0.5": clusters(4), "1.0": clusters(8)})
