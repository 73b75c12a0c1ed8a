"""The probe against the cross-entropy of a linear layer on standardised features, written again in loops."""

from __future__ import annotations

import math

import pytest
import torch

from small_methods import SIZE, fixed_batch, small_method, total
from wisp.cost.count import count_forward, count_step
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.evaluate.features import extract
from wisp.methods import probe
from wisp.methods.probe import Probe
from wisp.resolve import resolve
from wisp.run import Run


def small() -> Probe:
    method = small_method("probe")
    assert isinstance(method, Probe)
    return method


def bits(method: Probe) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in method.encoder.state_dict().items()}


@pytest.mark.parametrize("plan", ["plain", "multicrop_small"])
def test_the_loss_is_that_of_a_linear_layer(plan: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLANS, "plain", PLANS[plan])
    method = small().double()
    batch = fixed_batch(method, 6, dtype=torch.float64)
    assert batch.labels is not None
    expected = 0.0
    weight, bias = method.classifier.weight.tolist(), method.classifier.bias.tolist()
    for view in batch.views:
        with torch.no_grad():
            rows = method.encoder(view).tolist()
        columns = []
        for column in zip(*rows, strict=True):
            mean = sum(column) / len(column)
            variance = sum((x - mean) ** 2 for x in column) / len(column)
            columns.append([(x - mean) / math.sqrt(variance + 1e-6) for x in column])
        for row, label in zip(zip(*columns, strict=True), batch.labels.tolist(), strict=True):
            logits = [
                sum(w * x for w, x in zip(line, row, strict=True)) + b for line, b in zip(weight, bias, strict=True)
            ]
            share = math.exp(logits[label]) / sum(math.exp(value) for value in logits)
            expected -= math.log(share) / len(rows) / len(batch.views)
    assert float(method(batch, 0.5)["cross_entropy"].detach()) == pytest.approx(expected, rel=1e-9)


def test_the_encoder_is_the_teachers_and_stays_so() -> None:
    """Every bit of it, its statistics too, whoever says train or eval; only the linear layer learns."""
    method = small()
    before = bits(method)
    assert method.encoder.state_dict().keys() == before.keys()
    start = method.classifier.weight.detach().clone()
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2, weight_decay=0.1)
    for step in range(10):
        method.eval() if step % 3 == 1 else method.train()
        batch = fixed_batch(method, seed=step)
        extract(method.encoders()["1x"], batch.views)
        optimizer.zero_grad()
        total(method(batch, step / 10)).backward()
        optimizer.step()
        assert not any(part.training for part in method.encoder.modules())
    assert all(torch.equal(value, before[key]) for key, value in bits(method).items())
    assert not torch.equal(method.classifier.weight, start)
    assert {key for key, p in method.named_parameters() if p.requires_grad} == {"classifier.weight", "classifier.bias"}


def test_the_weights_are_those_of_the_teacher() -> None:
    one, other = small_method("probe", seed=1), small_method("probe", seed=2)
    assert isinstance(one, Probe)
    assert isinstance(other, Probe)
    assert all(torch.equal(value, bits(other)[key]) for key, value in bits(one).items())
    assert not torch.equal(one.classifier.weight, other.classifier.weight)
    assert [key for key in one.state_dict() if key.startswith("teacher.")] == ["teacher.fingerprint"]


def test_the_exported_classifier_takes_features_as_they_are() -> None:
    method = small()
    for seed in range(3):
        method(fixed_batch(method, seed=seed), 0.5)
    with torch.no_grad():
        features = 7 * method.encoder(fixed_batch(method).views[0]) + 3
        assert method.norm.running_mean is not None
        assert method.norm.running_var is not None
        share = 1 - 0.9**3
        mean, variance = method.norm.running_mean / share, method.norm.running_var / share
        wanted = method.classifier((features - mean) / (variance + 1e-6).sqrt())
        torch.testing.assert_close(method.classifiers()["1x"](features), wanted, rtol=1e-4, atol=1e-4)


def test_the_classifier_of_one_batch_is_right_about_it() -> None:
    """Of features that are small beside 1, a tenth of their statistics on top of zeros and ones would be far off."""
    method = small()
    before = method.classifiers()["1x"]
    assert torch.equal(before.bias, method.classifier.bias), "nothing was seen yet"
    batch = fixed_batch(method)
    method(batch, 0.5)
    with torch.no_grad():
        features = method.encoder(batch.views[0])
        mean, variance = features.mean(0), features.var(0)
        wanted = method.classifier((features - mean) / (variance + 1e-6).sqrt())
        torch.testing.assert_close(method.classifiers()["1x"](features), wanted, rtol=1e-4, atol=1e-4)


def test_the_encoder_costs_a_forward_pass_and_no_more() -> None:
    method = small()
    cost = count_step(method, 8, SIZE)
    assert cost.branches["frozen encoder"] == 8 * count_forward(method.encoder, SIZE)
    layer = 2 * 8 * method.classifier.weight.numel()
    assert cost.branches["classifier"] == cost.branches["backward"] == layer
    assert cost.parameters == method.classifier.weight.numel() + method.classifier.bias.numel()


def test_the_settings_are_the_papers() -> None:
    for s in probe.SETTINGS.values():
        assert (s.optimizer, s.lr, s.weight_decay, s.epochs, s.batch_size) == ("adamw", 1e-3, 0.01, 250, 64)
        assert (s.plan, s.warmup_epochs, s.lr_scale) == ("plain", 0, "none")


def test_one_plain_view_of_digits_too() -> None:
    """An encoder that does not learn cannot get used to crops."""
    run = Run(method=probe.Config(), data="digits")
    assert resolve(run, probe.SETTINGS, stock.spec("resnet20"), 1000).plan == "plain"
