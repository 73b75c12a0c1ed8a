"""What a training keeps for a diagnosis: gradient norms, directions and weights, as files of the run folder.

Source: Zhao et al. 2022 (SlimCLR), Fig. 3 to 5. Norms are of the encoder's filters and matrices, layer by layer: of all
entries, of those that the smallest network shares, and of the rest. Scales, shifts and biases are left out: a width
has norms of its own. A method of one network is looked at as if a quarter of its channels were one (Fig. 3a).
The last linear layer is the last `nn.Linear` that has a gradient; prototypes are none. Beside the encoder's weights are
those of the other encoders that a method exports: narrow widths have norms of their own, a slim network its channels.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from wisp.errors import WispError
from wisp.files import write_bytes
from wisp.methods.method import Method
from wisp.subnet.channels import UnsupportedStructure, trace
from wisp.subnet.indexmap import IndexMap
from wisp.subnet.select import prefix

SAMPLES = 200
"""Steps of a training whose gradients are kept."""
COPIES = 50
"""Epochs of a training whose weights are kept."""
QUARTER = 0.25
ENTRIES = 2**16
"""Most entries of a kept direction; a longer gradient is folded into so many."""


def recorded_encoder(method: Method) -> nn.Module:
    """The encoder whose weights a method trains, at full width: a part of the method, no copy."""
    if (pair := method.sharing()) is not None:
        return pair[0][0]
    parts = set(method.modules())
    return next(encoder for encoder in method.encoders().values() if encoder in parts)


class Recorder:
    """Writes down a training as it goes; changes nothing of it.

    Args:
        method: that is trained.
        folder: receives the files; those of the same step are replaced, so that a resumed training repeats itself.
        steps: of the whole training.
        epochs: likewise.
        image_size: side of the images with which channels are traced.
        features: D of the encoder.

    Raises:
        UnsupportedStructure: the encoder of a method of one network has channels that cannot be sliced.
    """

    def __init__(
        self, method: Method, folder: Path, *, steps: int, epochs: int, image_size: int, features: int
    ) -> None:
        self._folder = folder
        self._stride, self._epochs = max(1, -(-steps // SAMPLES)), max(1, -(-epochs // COPIES))
        self._last = epochs
        self._method, self._encoder = method, recorded_encoder(method)
        host, self._maps = _smallest(method, self._encoder, image_size, features)
        wanted = {parameter for parameter in self._encoder.parameters() if parameter.ndim > 1}
        self._layers = {name: parameter for name, parameter in host.named_parameters() if parameter in wanted}
        entries = [(p.numel(), self._maps.gather(name, p.detach()).numel()) for name, p in self._layers.items()]
        self._share = torch.tensor([sum(part for _, part in entries) / sum(whole for whole, _ in entries)])
        self._linear = [module.weight for module in method.modules() if isinstance(module, nn.Linear)]
        if not any(weight.requires_grad for weight in self._linear):
            self._linear = list(self._layers.values())  # no head: the encoder's last layer stands for it

    def due(self, step: int) -> bool:
        """Whether the gradients of a step, counted from 0, are to be kept."""
        return step % self._stride == 0

    @torch.no_grad()
    def gradients(self, step: int) -> None:
        """Keeps those of a step; called between its backward pass and the optimizer."""
        found = []
        for name, parameter in self._layers.items():
            if parameter.grad is not None:
                whole, part = (
                    each.float().norm() for each in (parameter.grad, self._maps.gather(name, parameter.grad))
                )
                found.append(torch.stack([whole, (whole**2 - part**2).clamp_min(0).sqrt(), part]))
        last = [weight.grad for weight in self._linear if weight.grad is not None]
        if found and last:
            norms, direction = torch.stack(found).mean(0), folded(last[-1])
            if bool(torch.isfinite(norms).all()):  # fp16 finds its scale by steps that overflow, and leaves them out
                self._write("gradients", step, norms=norms, direction=direction, share=self._share)

    @torch.no_grad()
    def weights(self, step: int, epoch: int) -> None:
        """Called before the first step and after every epoch, counted from 1; keeps one epoch in some, and the last."""
        if epoch % self._epochs == 0 or epoch == self._last:
            self._write("weights", step, **dict(self._encoder.named_parameters()))
            others = {name: each for name, each in self._method.encoders().items() if each is not self._encoder}
            named = {f"{name}/{key}": p for name, each in others.items() for key, p in each.named_parameters()}
            if named:
                self._write("others", step, **named)

    def _write(self, kind: str, step: int, **tensors: Tensor) -> None:
        held = {name: tensor.detach().float().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(self._folder / f"{kind}-{step:08}.safetensors", save(held))


def folded(gradient: Tensor) -> Tensor:
    """A gradient as a vector of `ENTRIES` at most, whose inner products are those of the gradients: [...] -> [P].

    Longer ones are a count sketch (Charikar et al. 2002): every entry is added, with a random sign, to a random place;
    the inner product of two such vectors is that of the gradients, up to about 1 / sqrt(`ENTRIES`) of their lengths.
    """
    flat = gradient.float().flatten().cpu()
    if flat.numel() <= ENTRIES:
        return flat
    generator = torch.Generator().manual_seed(0)  # the same places for all steps of all trainings
    places = torch.randint(ENTRIES, flat.shape, generator=generator)
    signs = torch.randint(2, flat.shape, generator=generator, dtype=torch.int8) * 2 - 1
    return torch.zeros(ENTRIES).index_add_(0, places, flat * signs)


def _smallest(method: Method, encoder: nn.Module, image_size: int, features: int) -> tuple[nn.Module, IndexMap]:
    """The network whose parameters are looked at, and which of their entries the smallest network shares."""
    pair = method.sharing()
    if pair is not None and pair[1].maps.sizes != pair[1].maps.host_sizes:
        return pair[0], pair[1].maps
    host = nn.Sequential(encoder, nn.Linear(features, 1))  # what the last features feed into may narrow with them
    try:
        groups = trace(copy.deepcopy(host).cpu(), torch.zeros(2, 3, image_size, image_size), fixed=("1",))
    except UnsupportedStructure as error:
        layer = str(error).removeprefix("0.")
        raise UnsupportedStructure(f"{layer}; --record looks at a quarter of the channels: leave it out") from error
    sizes = groups.sizes_in(host)
    fewer = {name: max(1, round(QUARTER * size)) for name, size in sizes.items()}
    device = next(encoder.parameters()).device
    return host, IndexMap(groups, sizes, prefix(host, groups, fewer)).to(device)


@dataclass(frozen=True)
class Record:
    """What was kept, by rising step.

    Attributes:
        gradient_steps: S of them.
        norms: [S,3]: mean over the encoder's layers of the gradient's norm over all entries, over those that the
            smallest network does not have, and over those that it has.
        directions: [S,P]: gradient of the last linear layer, folded.
        weight_steps: T of them.
        weights: the encoder's parameters at each.
        share: of the layers' entries that the smallest network has.
        others: parameters of the method's other encoders, by name and step.
    """

    gradient_steps: list[int]
    norms: Tensor
    directions: Tensor
    weight_steps: list[int]
    weights: list[dict[str, Tensor]]
    share: float
    others: dict[str, dict[int, dict[str, Tensor]]] = field(default_factory=dict)


def read_record(folder: Path) -> Record | None:
    """What a `Recorder` wrote; None where it wrote nothing.

    Raises:
        WispError: a file that cannot be read.
    """
    (gradient_steps, gradients), (weight_steps, weights) = (_read(folder, kind) for kind in ("gradients", "weights"))
    if not gradients or not weights:
        return None
    norms, directions = (torch.stack([each[name] for each in gradients]) for name in ("norms", "direction"))
    share = float(gradients[0]["share"])
    return Record(gradient_steps, norms, directions, weight_steps, weights, share, _others(folder))


def _others(folder: Path) -> dict[str, dict[int, dict[str, Tensor]]]:
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for step, tensors in zip(*_read(folder, "others"), strict=True):
        for path, tensor in tensors.items():
            name, _, key = path.partition("/")
            found.setdefault(name, {}).setdefault(step, {})[key] = tensor
    return found


def _read(folder: Path, kind: str) -> tuple[list[int], list[dict[str, Tensor]]]:
    paths = sorted(folder.glob(f"{kind}-*.safetensors"))
    try:
        return [int(path.stem.partition("-")[2]) for path in paths], [load_file(path) for path in paths]
    except (SafetensorError, OSError, ValueError) as error:
        raise WispError(f"{folder} holds a damaged record ({error}); remove the folder, the run stays whole") from error
