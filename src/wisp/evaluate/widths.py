"""Linear probes of a network that runs at several widths, trained together on cached features.

Source: Zhao et al. 2022 (SlimCLR), section 3 and Table 3a. Switchable: a linear layer for each width; a narrow width
may also follow the full one's prediction, half and half, at temperature 1. Slimmable: one layer, of which a narrow
width uses the first columns. What a probe is trained with is that of `wisp.evaluate.linear`: standardised features,
SGD, 100 epochs, and a learning rate, the same for all widths, that a held-out tenth chooses.
Legend: N images, D features of a width (plus one constant: the bias), C classes, B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from wisp.errors import WispError
from wisp.evaluate.features import Features
from wisp.evaluate.knn import accuracy
from wisp.evaluate.linear import LEARNING_RATES, Protocol, generator_of, statistics

_MOMENTUM = 0.9
Layers = list[Tensor]
"""The weights that are trained, [C,D+1] each."""


def switchable(
    features: Mapping[str, Features], *, distill: bool = False, protocol: Protocol | None = None
) -> dict[str, float]:
    """Accuracy in percent by width, each with a linear layer of its own.

    Args:
        features: of the same images at every width, the full one first.
        distill: whether narrow widths also learn the full one's prediction.
        protocol: the defaults unless given.

    Raises:
        WispError: no width, or widths that show other images.
    """
    return _examined(features, lambda layers: layers, distill, shared=False, protocol=protocol)


def slimmable(features: Mapping[str, Features], *, protocol: Protocol | None = None) -> dict[str, float]:
    """Accuracy in percent by width, with one linear layer for all of them.

    Args:
        features: of the same images at every width, the full one first.
        protocol: the defaults unless given.

    Raises:
        WispError: no width, widths that show other images, or a narrow one with more features than the full one.
    """
    sizes = [each.train.shape[1] for each in features.values()]
    if any(size > sizes[0] for size in sizes):
        raise WispError("a slimmable layer needs the full width first; the others have no more features than it has")

    def slices(layers: Layers) -> Layers:
        weight = layers[0]
        return [torch.cat([weight[:, :size], weight[:, -1:]], dim=1) for size in sizes]

    return _examined(features, slices, distill=False, shared=True, protocol=protocol)


def _examined(
    features: Mapping[str, Features],
    slices: Callable[[Layers], Layers],
    distill: bool,
    *,
    shared: bool,
    protocol: Protocol | None,
) -> dict[str, float]:
    protocol = protocol or Protocol()
    if not features:
        raise WispError("a probe of widths needs one width or more")
    labels, asked = (getattr(next(iter(features.values())), name) for name in ("train_labels", "test_labels"))
    if any(not torch.equal(each.train_labels, labels) for each in features.values()):
        raise WispError("the widths must be probed on the same images")
    classes = next(iter(features.values())).classes
    prepared = [_prepared(each) for each in features.values()]
    known, unknown = [pair[0] for pair in prepared], [pair[1] for pair in prepared]
    rates = protocol.learning_rates or LEARNING_RATES["standardise"]

    def trained(index: Tensor, rate: float) -> Layers:
        sizes = [known[0].shape[1]] if shared else [x.shape[1] for x in known]
        layers = [known[0].new_zeros(classes, size).requires_grad_() for size in sizes]
        train(layers, slices, [x[index] for x in known], labels[index], rate, distill, protocol)
        return [layer.detach() for layer in slices(layers)]

    order = torch.randperm(len(labels), generator=generator_of(protocol.seed)).to(labels.device)
    count = max(1, round(protocol.held_out * len(labels)))
    chosen, rest = order[:count], order[count:]

    def held_out(rate: float) -> float:
        pairs = zip(trained(rest, rate), known, strict=True)
        return sum(accuracy((x[chosen] @ w.T).argmax(1), labels[chosen], classes) for w, x in pairs)

    best = max(sorted(rates), key=held_out) if len(rates) > 1 else rates[0]
    layers = trained(torch.arange(len(labels), device=labels.device), best)
    return {
        name: accuracy((x @ weight.T).argmax(1), asked, classes)
        for name, weight, x in zip(features, layers, unknown, strict=True)
    }


def _prepared(features: Features) -> tuple[Tensor, Tensor]:
    """Training and test features, standardised by the training set, with a one for the bias: [N,D+1]."""
    everything = torch.arange(len(features.train), device=features.train.device)
    shift, scale = statistics([features.train], everything, "standardise")
    known, unknown = (F.pad((x - shift) * scale, (0, 1), value=1.0) for x in (features.train, features.test))
    return known, unknown


def train(
    layers: Layers,
    slices: Callable[[Layers], Layers],
    inputs: Sequence[Tensor],
    labels: Tensor,
    rate: float,
    distill: bool,
    protocol: Protocol,
) -> None:
    """SGD on the sum of the widths' losses.

    Args:
        layers: are trained, in place.
        slices: the layer of each width, as a view of `layers`.
        inputs: [N,D+1] of each width.
        labels: [N].
        rate: learning rate for a batch of 256.
        distill: whether narrow widths also learn the full one's prediction.
        protocol: epochs, milestones, batch size and seed.
    """
    optimizer = torch.optim.SGD(layers, lr=rate * protocol.batch_size / 256, momentum=_MOMENTUM)
    falls = [round(fraction * protocol.epochs) for fraction in protocol.milestones]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, gamma=0.1)
    generator, steps = generator_of(protocol.seed + 1), -(-len(labels) // protocol.batch_size)
    for _ in range(protocol.epochs):
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        for rows in order.tensor_split(steps):
            logits = [x[rows] @ weight.T for x, weight in zip(inputs, slices(layers), strict=True)]
            losses = [F.cross_entropy(each, labels[rows]) for each in logits]
            if distill:
                target = logits[0].detach().softmax(1)
                follow = [F.cross_entropy(each, target) for each in logits[1:]]
                losses = [losses[0], *((a + b) / 2 for a, b in zip(losses[1:], follow, strict=True))]
            optimizer.zero_grad()
            torch.autograd.backward(torch.stack(losses).sum())
            optimizer.step()
        schedule.step()
