"""Probes of several widths: what is shared, what is not, and what distillation adds."""

from __future__ import annotations

import pytest
import torch

from wisp.errors import WispError
from wisp.evaluate import widths
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


def test_distillation_is_half_of_a_narrow_loss() -> None:
    """One step from zero, where the full layer still predicts all classes alike: that half has no gradient yet."""
    wide, narrow = clusters(8), clusters(4, seed=1)
    once = Protocol(epochs=1, batch_size=300, milestones=())
    trained = {}
    for distill in (False, True):
        layers = [torch.zeros(4, size, requires_grad=True) for size in (8, 4)]
        widths.train(layers, lambda each: each, [wide.train, narrow.train], wide.train_labels, 0.1, distill, once)
        trained[distill] = [layer.detach() for layer in layers]
    assert torch.equal(trained[True][0], trained[False][0]), "the full width does not learn from the narrow one"
    torch.testing.assert_close(trained[True][1], trained[False][1] / 2)
    assert trained[True][1].abs().max() > 1e-3


def test_distilled_widths_are_probed_too() -> None:
    found = switchable({"1.0": clusters(8), "0.5": clusters(4, seed=1)}, distill=True, protocol=QUICK)
    assert min(found.values()) > 80


def test_widths_that_cannot_be_probed() -> None:
    with pytest.raises(WispError, match="one width or more"):
        switchable({})
    other = clusters(4)
    shuffled = Features(other.train, other.train_labels.flip(0), other.test, other.test_labels)
    with pytest.raises(WispError, match="the same images"):
        switchable({"1.0": clusters(8), "0.5": shuffled})
    with pytest.raises(WispError, match="full width first"):
        slimmable({"0.5": clusters(4), "1.0": clusters(8)})
