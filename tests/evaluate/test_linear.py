"""The probe against torch.optim, on data where the answer is known, and honest about its test set."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from wisp.errors import WispError
from wisp.evaluate.features import Features
from wisp.evaluate.linear import LEARNING_RATES, Normalise, Protocol, _Probe, linear

FAST = Protocol(epochs=20, batch_size=64)


def _clusters(noise: float, train: int = 400, test: int = 200, classes: int = 4, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    centres = 3 * torch.randn(classes, 8, generator=generator)
    labels = torch.randint(classes, (train + test,), generator=generator)
    x = centres[labels] + noise * torch.randn(train + test, 8, generator=generator)
    return Features(x[:train], labels[:train], x[train:], labels[train:])


@pytest.mark.parametrize("normalise", ["standardise", "batchnorm", "none"])
def test_separable_classes_are_separated(normalise: Normalise) -> None:
    result = linear(_clusters(noise=0.2), replace(FAST, normalise=normalise))
    assert result.accuracy == 100
    assert result.protocol.learning_rates == LEARNING_RATES[normalise]
    assert set(result.held_out) == set(LEARNING_RATES[normalise])


def test_shuffled_labels_give_chance() -> None:
    generator = torch.Generator().manual_seed(1)
    # clusters alone would not do: four of them get a label each, right by chance a quarter at a time
    x, labels = torch.randn(2000, 8, generator=generator), torch.randint(4, (2000,), generator=generator)
    result = linear(Features(x[:1000], labels[:1000], x[1000:], labels[1000:]), FAST)
    assert 20 < result.accuracy < 30


@pytest.mark.parametrize("normalise", ["standardise", "batchnorm", "none"])
def test_equals_torch_optim(normalise: Normalise) -> None:
    """One batch an epoch, so that no order of images enters; momentum, milestones, bias and every learning rate do."""
    features = _clusters(noise=2.0)
    x, y = features.train.double() * 5 + 1, features.train_labels
    protocol = Protocol(epochs=10, batch_size=512, normalise=normalise)
    rates = (0.5, 0.02)
    probe = _Probe([x], y, torch.arange(len(y)), 4, rates, protocol)
    if normalise == "standardise":
        spread = x.var(dim=0, correction=0)
        x = (x - x.mean(dim=0)) / (spread + 1e-5 * spread.mean()).sqrt()
    norm = nn.BatchNorm1d(8, affine=False).double() if normalise == "batchnorm" else nn.Identity()
    if normalise == "batchnorm":
        x = (x - x.mean(dim=0)) / x.var(dim=0, correction=0).mean().sqrt()
    for place, rate in enumerate(rates):
        model = nn.Linear(8, 4).double()
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        optimizer = torch.optim.SGD(model.parameters(), lr=rate * 2, momentum=0.9)  # 512 / 256
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [6, 8], gamma=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(model(norm(x)), y).backward()
            optimizer.step()
            schedule.step()
        expected = torch.cat([model.weight, model.bias[:, None]], dim=1)
        assert torch.allclose(probe.weights.view(2, 4, 9)[place], expected, rtol=1e-9, atol=1e-9)
    if normalise == "batchnorm":
        # two rates passed `norm` twice as often as the probe, which shares its norm; compare what ten passes give
        fresh = nn.BatchNorm1d(8, affine=False).double()
        for _ in range(10):
            fresh(x)
        assert torch.allclose(probe.mean, fresh.running_mean)
        assert torch.allclose(probe.variance, fresh.running_var)


def test_rates_trained_together_are_the_rates_trained_alone() -> None:
    features = _clusters(noise=2.0)
    everything = torch.arange(len(features.train))
    rates = (1.0, 0.1, 0.01)
    together = _Probe([features.train], features.train_labels, everything, 4, rates, FAST).weights.view(3, 4, 9)
    for place, rate in enumerate(rates):
        alone = _Probe([features.train], features.train_labels, everything, 4, (rate,), FAST).weights
        assert torch.allclose(together[place], alone, atol=1e-4)


def test_the_test_set_has_no_say() -> None:
    features = _clusters(noise=3.0)
    other = replace(features, test=torch.randn(200, 8), test_labels=features.test_labels.flip(0))
    first, second = linear(features, FAST), linear(other, FAST)
    assert first.held_out == second.held_out
    assert first.learning_rate == second.learning_rate
    assert first.accuracy != second.accuracy


def test_the_held_out_tenth_chooses() -> None:
    result = linear(_clusters(noise=3.0), replace(FAST, learning_rates=(0.001, 1000.0, 0.1)))
    assert result.held_out[result.learning_rate] == max(result.held_out.values())
    assert min(result.held_out.values()) < max(result.held_out.values())
    equal = linear(_clusters(noise=0.01), replace(FAST, learning_rates=(0.3, 0.1, 0.2)))
    assert equal.learning_rate == 0.1


def test_one_rate_needs_no_choice() -> None:
    result = linear(_clusters(noise=0.2), replace(FAST, learning_rates=(0.1,)))
    assert result.held_out == {}
    assert result.learning_rate == 0.1
    assert result.accuracy == 100


def test_deterministic_by_seed() -> None:
    features = _clusters(noise=3.0)
    torch.manual_seed(0)
    first = linear(features, FAST)
    torch.manual_seed(1)
    assert linear(features, FAST) == first
    assert linear(features, replace(FAST, seed=1)).held_out != first.held_out


def test_tiny_and_constant_features_are_no_problem() -> None:
    features = _clusters(noise=1.0)
    constant = torch.full((600, 1), 0.1)
    small = Features(
        torch.cat([features.train * 1e-4, constant[:400]], dim=1),
        features.train_labels,
        torch.cat([features.test * 1e-4, constant[:200]], dim=1),
        features.test_labels,
    )
    assert linear(small, FAST).accuracy == linear(features, FAST).accuracy
    dead = Features(torch.zeros(50, 3), torch.arange(50) % 2, torch.zeros(10, 3), torch.zeros(10, dtype=torch.int64))
    assert linear(dead, FAST).accuracy in (0, 100)


def test_augmented_passes_take_turns() -> None:
    features = _clusters(noise=0.2)
    noise = torch.randn(features.train.shape, generator=torch.Generator().manual_seed(0))
    one = replace(FAST, learning_rates=(0.1,), normalise="none")
    same = linear(replace(features, augmented=(features.train, features.train)), one)
    assert same.augmented == 2
    assert same.accuracy == linear(features, one).accuracy == 100
    assert linear(replace(features, augmented=(noise,)), one).accuracy < 60
    # one epoch sees the first pass only, two epochs see both
    first = linear(replace(features, augmented=(features.train, noise)), replace(one, epochs=1))
    swapped = linear(replace(features, augmented=(noise, features.train)), replace(one, epochs=1))
    assert first.accuracy > 95 > swapped.accuracy


@pytest.mark.parametrize("count", [2, 3, 11, 257])
def test_few_images_work(count: int) -> None:
    features = _clusters(noise=0.2, train=count, test=10)
    for normalise in ("standardise", "batchnorm", "none"):
        assert 0 <= linear(features, Protocol(epochs=2, normalise=normalise)).accuracy <= 100


def test_bad_input_is_refused() -> None:
    features = _clusters(noise=1.0)
    one = replace(features, train=features.train[:1], train_labels=features.train_labels[:1])
    with pytest.raises(WispError, match="two or more training images"):
        linear(one)
    with pytest.raises(WispError, match="unknown normalisation 'batch'; nearest: batchnorm, "):
        Protocol(normalise="batch")
    for rates in ((), (0.1, 0.0)):
        with pytest.raises(WispError, match="learning rates above 0"):
            linear(features, replace(FAST, learning_rates=rates))
    with pytest.raises(WispError, match="one epoch"):
        linear(features, replace(FAST, epochs=0))
