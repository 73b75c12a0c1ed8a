"""Feature maps from the middle of any encoder, without a table of architectures.

One pass on the meta device tells which module is the last at each resolution; hooks on the very modules that are
trained then keep their outputs, for as long as somebody watches.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wisp.errors import WispError

PARTS = 4
"""Maps of a network that keeps one resolution: a transformer's, after every quarter of its blocks."""
PROBES = 2

Layout = Literal["channels first", "channels last", "tokens"]


@dataclass(frozen=True)
class Stage:
    """Where a map comes from, and its shape at the image size that was asked for."""

    path: str
    turn: int
    """Which of the module's calls within a pass, from 0."""
    layout: Layout
    prefix: int
    """Tokens before those of the image."""
    channels: int
    side: int

    def map_of(self, output: Any) -> Tensor:
        """[B,C,H,W] from what the module returns."""
        tensor = _tensor(output)
        assert tensor is not None
        if self.layout == "channels first":
            return tensor
        if self.layout == "channels last":
            return tensor.permute(0, 3, 1, 2)
        tokens = tensor[:, self.prefix :]
        side = math.isqrt(tokens.shape[1])
        return tokens.mT.reshape(len(tokens), -1, side, side)


class Stages:
    """The last map of every resolution of an encoder, finest first; `stages(encoder, x)` gives features and maps.

    Of networks that halve their images by and by, a stage ends where the next module goes on at a lower resolution: in
    residual networks these are the stages of the papers, and the last map is what is pooled. A stem that is a single
    convolution is no stage, nor is a map of one pixel. Networks of one resolution, as vision transformers, give the
    outputs of their blocks after every quarter of the depth, tokens as a grid. Holds names only, no module and no
    tensor: the encoder is an argument, so that copies of it, or a network with the same structure, work as well.
    """

    def __init__(self, encoder: nn.Module, image_size: int, *, instead: str = "--method.extra rkd") -> None:
        """Find the stages of `encoder` [B,3,H,W] -> [B,D] for images of `image_size` pixels; it is left untouched.

        Args:
            encoder: whose stages are looked for.
            image_size: side in pixels.
            instead: what to use where there are none, for the message.

        Raises:
            WispError: no output within the encoder is a map of more than one pixel.
        """
        root = _traced(encoder, image_size)
        ends = _ends(root)
        if not ends:
            raise WispError(
                f"{type(encoder).__name__} has no feature map of more than one pixel at {image_size} px, which "
                f"attention transfer (at) needs; use larger images, another encoder, or {instead}"
            )
        self.stages = tuple(call.stage for call in ends if call.stage)

    def __len__(self) -> int:
        return len(self.stages)

    def __call__(self, encoder: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images [B,3,H,W] -> features [B,D], and the maps [B,C,H',W'], finest first."""
        with self.watching(encoder) as passes:
            features: Tensor = encoder(x)
        return features, passes[0]

    @contextmanager
    def watching(self, encoder: nn.Module) -> Iterator[list[list[Tensor]]]:
        """Inside, every pass through `encoder`, also as a part of another module, adds its maps to the list."""
        passes: list[list[Tensor]] = []
        turns: Counter[str] = Counter()

        def begin(*_: Any) -> None:
            passes.append([])
            turns.clear()

        def keep(stages: dict[int, Stage], path: str) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                stage = stages.get(turns[path])
                turns[path] += 1
                if stage:
                    passes[-1].append(stage.map_of(output))

            return hook

        by_path: dict[str, dict[int, Stage]] = {}
        for stage in self.stages:
            by_path.setdefault(stage.path, {})[stage.turn] = stage
        handles = [encoder.register_forward_pre_hook(begin)]
        try:
            for path, stages in by_path.items():
                handles.append(encoder.get_submodule(path).register_forward_hook(keep(stages, path)))
            yield passes
        finally:
            for handle in handles:
                handle.remove()


def paired(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The last map of one with the last of the other, and so on backwards; the finest of the longer list stay alone."""
    count = min(len(student), len(teacher))
    return list(zip(student[-count:], teacher[-count:], strict=True)) if count else []


@dataclass
class _Call:
    """A module call: what it made of what, and the calls inside of it, in order."""

    path: str
    kind: type
    entered: int
    """Side of the map that it was given; 0 where it was given none."""
    weights: int
    """How many of its own, without its calls' and without vectors: 1 of a convolution or a linear layer."""
    stage: Stage | None = None
    calls: list[_Call] = field(default_factory=list)

    @property
    def side(self) -> int:
        """Of its output; 0 where that is no map."""
        return self.stage.side if self.stage else 0

    def inside(self) -> Iterator[_Call]:
        """Itself and all calls within it."""
        yield self
        for call in self.calls:
            yield from call.inside()


def _traced(encoder: nn.Module, image_size: int) -> _Call:
    """The calls of one pass over images of `image_size` pixels, without computing it."""
    shadow = copy.deepcopy(encoder).to("meta").eval()
    prefix = int(getattr(encoder, "num_prefix_tokens", 0))
    running = [_Call("", nn.Module, 0, 0)]
    turns: Counter[str] = Counter()

    def enter(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            given = _stage(path, 0, inputs, prefix)
            weights = sum(p.ndim > 1 for p in module.parameters(recurse=False))
            call = _Call(path, type(module), given.side if given else 0, weights)
            running[-1].calls.append(call)
            running.append(call)

        return hook

    def leave(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            running.pop().stage = _stage(path, turns[path], output, prefix)
            turns[path] += 1

        return hook

    for path, module in shadow.named_modules():
        module.register_forward_pre_hook(enter(path))
        module.register_forward_hook(leave(path))
    with torch.no_grad():
        shadow(torch.empty(PROBES, 3, image_size, image_size, device="meta"))
    return running[0].calls[0]


def _stage(path: str, turn: int, output: Any, prefix: int) -> Stage | None:
    """What `output` is if it is a map of square images, else None."""
    tensor = _tensor(output)
    if tensor is None or tensor.ndim not in (3, 4) or tensor.shape[0] != PROBES:
        return None
    one, two, three = tensor.shape[1], tensor.shape[2], tensor.shape[-1]
    if tensor.ndim == 4:
        if two == three:
            return Stage(path, turn, "channels first", 0, one, two)
        return Stage(path, turn, "channels last", 0, three, one) if one == two else None
    for leading in dict.fromkeys((prefix, 0)):  # some networks add their own tokens late
        side = math.isqrt(max(0, one - leading))
        if side > 0 and side**2 == one - leading:
            return Stage(path, turn, "tokens", leading, two, side)
    return None


def _tensor(value: Any) -> Tensor | None:
    """The first tensor of what a module takes or returns."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (tuple, list)):
        return next((found for each in value if (found := _tensor(each)) is not None), None)
    return None


def _ends(root: _Call) -> list[_Call]:
    """The calls that end a stage, finest first."""
    line = [call for inner in root.calls for call in _line(inner)]
    ends: list[_Call] = []
    for call in reversed(line):  # a branch that goes down and comes back up is shorter than what comes after it
        if call.side > (ends[-1].side if ends else 1):
            ends.append(call)
    ends.reverse()
    if len(ends) == 1:
        return _parts(root, ends[0].side) or ends
    if ends:
        before = line[: line.index(ends[0]) + 1]
        if sum(inner.weights for call in before for inner in call.inside()) < 2:
            return ends[1:]
    return ends


def _line(call: _Call) -> list[_Call]:
    """The call, or those within it where it runs through more than one halving."""
    if any(call.side < inner.side < call.entered for inner in call.inside()):
        return [each for inner in call.calls for each in _line(inner)]
    return [call]


def _parts(root: _Call, side: int) -> list[_Call]:
    """The ends of `PARTS` parts of the longest sequence of alike blocks of one resolution."""
    longest: list[_Call] = []
    for call in root.inside():
        blocks = [inner for inner in call.calls if inner.side == side and any(each.weights for each in inner.inside())]
        for kind in dict.fromkeys(block.kind for block in blocks):
            alike = [block for block in blocks if block.kind is kind]
            longest = alike if len(alike) > len(longest) else longest
    if len(longest) < PARTS:
        return []
    return [longest[math.ceil(len(longest) * part / PARTS) - 1] for part in range(1, PARTS + 1)]
