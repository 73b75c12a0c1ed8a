"""Offline linear probe: a softmax regression on cached features of the frozen encoder.

Protocol (SGD with momentum 0.9, no weight decay, 100 epochs, x0.1 at 60 and 80): MoCo (He et al. 2020, section 4.1) and
the CIFAR script of SACL-XD's authors. Two things are ours, both against the same complaint, that the best learning rate
depends on the scale of the features (30 for MoCo, 0.3 for SwAV, 0.1 on CIFAR): features are standardised with the
training set's mean and std, and the learning rate is chosen among a few on a held-out tenth of the training set. After
that the probe is trained again on the whole training set, and the test set is read once, after the last epoch.

All learning rates are trained at once as one [L*C, D] matrix: they share batches and differ in the step only. Logits
are laid out [L,C,B]: a softmax over a short last dimension is not vectorised, and took 20 times as long (450 us against
23 us for 6 x 10 x 256 on one thread), which was most of the step.
Legend: N images, D features (plus one constant: the bias), C classes, L learning rates, B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wisp.errors import WispError, nearest
from wisp.evaluate.features import Features
from wisp.evaluate.knn import accuracy

Normalise = Literal["standardise", "batchnorm", "none"]
LEARNING_RATES: dict[Normalise, tuple[float, ...]] = {
    "standardise": (3.0, 0.3, 0.1, 0.03, 0.01),
    "batchnorm": (3.0, 0.3, 0.1, 0.03, 0.01),
    "none": (30.0, 3.0, 0.3, 0.1),
}
"""Sweeps for a batch of 256. Standardised features need small steps: on CIFAR-10, 0.01 for 1024 features of a random
MobileNetV3, 0.03 to 1 for 64 of a ResNet-20; raw ones of that MobileNetV3 (scale 0.002) learn nothing below 30."""
_MOMENTUM = 0.9
_EPS = 1e-5


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a probe is trained; stored with its result.

    Attributes:
        learning_rates: the sweep, for a batch of 256 (scaled by batch_size / 256); None for the one of `normalise`.
        epochs: passes over the training set; the last one counts, not the best.
        milestones: epochs after which the learning rate falls to a tenth, as fractions of `epochs`.
        batch_size: images a step.
        normalise: `standardise` by the training set's statistics; `batchnorm`, an affine-free BatchNorm in front of the
            linear layer (batch statistics in training, running ones in the test); or `none`, as published.
        held_out: share of the training set that chooses the learning rate.
        seed: of the split and the order of the images.
    """

    learning_rates: tuple[float, ...] | None = None
    epochs: int = 100
    milestones: tuple[float, ...] = (0.6, 0.8)
    batch_size: int = 256
    normalise: Normalise = "standardise"
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the one word in it."""
        if self.normalise not in LEARNING_RATES:
            close = ", ".join(nearest(self.normalise, LEARNING_RATES))
            raise WispError(f"unknown normalisation {self.normalise!r}; nearest: {close}")


@dataclass(frozen=True, kw_only=True)
class LinearResult:
    """Outcome of a linear probe.

    Attributes:
        accuracy: on the test set, percent.
        learning_rate: the chosen one, for a batch of 256.
        held_out: accuracy in percent on the held-out tenth, by learning rate; empty if there was nothing to choose.
        augmented: how many augmented passes the training features came from, 0 for plain images.
        protocol: how it was trained, with the learning rates that were tried.
    """

    accuracy: float
    learning_rate: float
    held_out: dict[float, float]
    augmented: int
    protocol: Protocol


def linear(features: Features, protocol: Protocol | None = None) -> LinearResult:
    """Trains the probe and measures it on the test set; the same input and seed give the same result.

    Args:
        features: runs on their device. Where they hold augmented passes, epoch e trains on pass e modulo their number,
            and the plain features are used only to choose the learning rate.
        protocol: the defaults unless given.

    Raises:
        WispError: fewer than two training images, no epoch, or no learning rate.
    """
    protocol = protocol or Protocol()
    rates = LEARNING_RATES[protocol.normalise] if protocol.learning_rates is None else protocol.learning_rates
    protocol = replace(protocol, learning_rates=rates)
    if len(features.train) < 2:
        raise WispError("a linear probe needs two or more training images")
    if not rates or min(rates) <= 0 or protocol.epochs < 1:
        raise WispError("a linear probe needs one epoch or more and learning rates above 0")
    passes, classes = features.augmented or (features.train,), features.classes
    probe, rate, held_out = _trained(features.train, passes, features.train_labels, classes, protocol)
    predicted = probe.predict(features.test)
    return LinearResult(
        accuracy=accuracy(predicted[0], features.test_labels, classes),
        learning_rate=rate,
        held_out=held_out,
        augmented=len(features.augmented),
        protocol=protocol,
    )


def fitted(features: Tensor, labels: Tensor, classes: int) -> tuple[nn.Linear, float]:
    """The same probe as a layer, [N,D] -> [N,C], on the features as they are; and how much of it was right.

    That is the accuracy in percent on the tenth that chose the learning rate, of a probe which had not seen it.

    Args:
        features: [N,D] float32 of two or more training images.
        labels: int64 [N].
        classes: C.
    """
    protocol = replace(Protocol(), learning_rates=LEARNING_RATES["standardise"])
    probe, _, held_out = _trained(features, (features,), labels, classes, protocol)
    layer = nn.Linear(features.shape[1], classes, device=features.device)
    weight, bias = probe.weights[:, :-1] * probe.scale, probe.weights[:, -1]
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias - weight @ probe.shift)
    return layer, max(held_out.values())


def _trained(
    train: Tensor, passes: Sequence[Tensor], labels: Tensor, classes: int, protocol: Protocol
) -> tuple[_Probe, float, dict[float, float]]:
    """The probe with the best of the protocol's learning rates, that rate, and the accuracies that chose it."""
    rates, held_out = protocol.learning_rates or (), dict[float, float]()
    if len(rates) > 1:
        order = torch.randperm(len(labels), generator=generator_of(protocol.seed)).to(labels.device)
        count = max(1, round(protocol.held_out * len(labels)))
        chosen, rest = order[:count], order[count:]
        probe = _Probe(passes, labels, rest, classes, rates, protocol)
        predicted = probe.predict(train[chosen])
        held_out = {
            rate: accuracy(guess, labels[chosen], classes) for rate, guess in zip(rates, predicted, strict=True)
        }
        # Among equals the smallest step: the least likely to sit on the edge of divergence.
        rates = (max(sorted(held_out), key=held_out.__getitem__),)
    everything = torch.arange(len(labels), device=labels.device)
    return _Probe(passes, labels, everything, classes, rates, protocol), rates[0], held_out


class _Probe:
    """L linear classifiers, trained on the rows `index` of `passes` in the constructor."""

    def __init__(
        self,
        passes: Sequence[Tensor],
        labels: Tensor,
        index: Tensor,
        classes: int,
        rates: Sequence[float],
        protocol: Protocol,
    ) -> None:
        self.normalise = protocol.normalise
        device, dtype, size = labels.device, passes[0].dtype, passes[0].shape[1]
        self.shift, self.scale = statistics(passes, index, protocol.normalise)
        # Of an affine-free BatchNorm; features are brought to a mean std of 1 first, so that its epsilon means the
        # same for features of any scale.
        self.mean, self.variance = (
            torch.zeros(size, device=device, dtype=dtype),
            torch.ones(size, device=device, dtype=dtype),
        )
        # The problem is convex: zero is as good a start as any, and needs no seed.
        self.shape = (len(rates), classes)
        self.weights = torch.zeros(len(rates) * classes, size + 1, device=device, dtype=dtype)
        self._train(passes, labels, index, rates, protocol)

    def _train(
        self, passes: Sequence[Tensor], labels: Tensor, index: Tensor, rates: Sequence[float], protocol: Protocol
    ) -> None:
        """SGD with torch.optim's momentum (v = 0.9 v + g, w -= lr v); the gradient of the cross-entropy by hand."""
        generator = generator_of(protocol.seed + 1)
        velocity = torch.zeros_like(self.weights)
        scaled = torch.tensor(rates, device=labels.device, dtype=self.weights.dtype) * (protocol.batch_size / 256)
        rate = scaled.repeat_interleave(self.shape[1])[:, None]  # [L*C,1]
        # Near-equal batches instead of a short last one, whose gradient would be noisy at the full learning rate.
        steps = -(-len(index) // protocol.batch_size)
        falls = {round(fraction * protocol.epochs) for fraction in protocol.milestones}
        for epoch in range(protocol.epochs):
            if epoch in falls:
                rate = rate * 0.1
            features = passes[epoch % len(passes)]
            order = torch.randperm(len(index), generator=generator).to(index.device)
            for rows in index[order].tensor_split(steps):
                x = self._prepare(features.index_select(0, rows), training=True)
                error = self._logits(x).softmax(dim=1)  # [L,C,B]
                target = labels[rows].expand(error.shape[0], 1, -1)
                error.scatter_add_(1, target, error.new_full((1,), -1.0).expand(target.shape))
                velocity.addmm_(error.flatten(0, 1), x, beta=_MOMENTUM, alpha=1 / len(rows))
                self.weights.addcmul_(velocity, rate, value=-1)

    def predict(self, features: Tensor) -> list[Tensor]:
        """Predicted classes [M], one tensor a learning rate."""
        chunks = (self._prepare(chunk, training=False) for chunk in torch.split(features, 4096))
        return list(torch.cat([self._logits(chunk).argmax(dim=1) for chunk in chunks], dim=1))

    def _logits(self, x: Tensor) -> Tensor:
        """[B,D+1] -> [L,C,B]."""
        return (self.weights @ x.T).view(*self.shape, len(x))

    def _prepare(self, x: Tensor, training: bool) -> Tensor:
        """[B,D] -> [B,D+1]: normalised, and a one for the bias."""
        x = (x - self.shift) * self.scale
        if self.normalise == "batchnorm":
            # One image has no batch statistics.
            x = F.batch_norm(x, self.mean, self.variance, training=training and len(x) > 1, eps=_EPS)
        return F.pad(x, (0, 1), value=1.0)


def statistics(passes: Sequence[Tensor], index: Tensor, normalise: Normalise) -> tuple[Tensor, Tensor]:
    """Shift and scale [D] of the features, over all passes.

    The epsilon is relative: an absolute one would swallow the features of an encoder with a small output, and none
    would blow the rounding noise of a constant feature up to unit variance.
    """
    size = passes[0].shape[1]
    if normalise == "none":
        return passes[0].new_zeros(size), passes[0].new_ones(size)
    mean = torch.stack([x[index].double().mean(dim=0) for x in passes]).mean(dim=0)
    variance = torch.stack([(x[index].double() - mean).square().mean(dim=0) for x in passes]).mean(dim=0)
    typical = variance.mean().clamp(min=torch.finfo(torch.float64).tiny)
    scale = (variance + _EPS * typical if normalise == "standardise" else typical.expand(size)).rsqrt()
    return mean.to(passes[0].dtype), scale.to(passes[0].dtype)


def generator_of(seed: int) -> torch.Generator:
    """On the CPU whatever the device, so that both give the same order."""
    return torch.Generator().manual_seed(seed)
