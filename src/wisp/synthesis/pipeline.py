"""A text-to-image pipeline of diffusers, by its name or from its folder, and the pictures that it draws.

The only place that imports diffusers, and only when a pipeline is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from wisp.errors import WispError, one_line
from wisp.files import at_home
from wisp.muting import muted
from wisp.train.setup import memory

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_LOUD = ("diffusers", "transformers", "huggingface_hub")
_INDEX = "model_index.json"


def require_extra() -> None:
    """Raises WispError when diffusers or transformers is missing; imports neither."""
    absent = [name for name in ("diffusers", "transformers") if importlib.util.find_spec(name) is None]
    if absent:
        raise WispError(f"wisp synthesize needs {' and '.join(absent)}; pip install -e '.[synth]'")


def called(pipeline: str) -> str:
    """The name under which a pipeline is remembered: no path of this machine.

    Raises:
        WispError: a folder that holds no pipeline, or neither a folder nor what could be a name on the hub.
    """
    path = at_home(pipeline)
    if path.is_dir():
        if not (path / _INDEX).is_file():
            raise WispError(
                f'the folder "{pipeline}" holds no pipeline: {_INDEX} is missing; name the folder that save_pretrained '
                "wrote, or a name on the hub"
            )
        return path.resolve().name
    if path.exists():
        raise WispError(f'--pipeline "{pipeline}" is a file; name a folder with a {_INDEX}, or a name on the hub')
    if pipeline.count("/") != 1 or pipeline.startswith((".", "/", "~")) or pipeline.endswith("/"):
        raise WispError(f'no such folder "{pipeline}", and no name on the hub, which is OWNER/NAME')
    return pipeline


@dataclass(frozen=True)
class Drawn:
    """A picture, and whether the pipeline's own checker flagged it."""

    image: Image.Image
    flagged: bool


class Painter:
    """A pipeline with its settings.

    Attributes:
        kind: class of the pipeline.
        weights: digest of its parameters, see `Manifest`.
        licence: of its card, or None.
        guidance: what it is called with, or its own default.
        seconds: spent drawing.
        pictures: drawn.
    """

    def __init__(
        self,
        pipeline: str,
        *,
        steps: int,
        guidance: float | None,
        image_size: int | None,
        precision: Literal["fp32", "bf16", "fp16"],
        device: torch.device,
    ) -> None:
        """Loads the pipeline.

        Raises:
            WispError: it cannot be loaded, makes no pictures of prompts, or does not take a setting.
        """
        with _quiet(bars=True):
            folder = _fetched(pipeline)
        with _quiet():
            self._pipeline = _loaded(folder, pipeline, DTYPES[precision])
            self.kind = type(self._pipeline).__name__
            self.licence = _licence(folder, None if at_home(pipeline).is_dir() else pipeline)
            self.weights = _digest(self._pipeline)
        known = inspect.signature(self._pipeline.__call__).parameters
        if not {"prompt", "generator"} <= set(known):
            raise WispError(
                f'"{pipeline}" is a {self.kind}, which draws no pictures of prompts; name a text-to-image one'
            )
        self._options: dict[str, Any] = {}
        for flag, name, value in (
            ("--steps", "num_inference_steps", steps),
            ("--guidance", "guidance_scale", guidance),
            ("--image-size", "height", image_size),
            ("--image-size", "width", image_size),
        ):
            if value is not None and name not in known:
                raise WispError(f"{self.kind} takes no {flag} ({name}); leave it out, or name another --pipeline")
            self._options |= {} if value is None else {name: value}
        own = known["guidance_scale"].default if "guidance_scale" in known else None
        self.guidance = guidance if guidance is not None else own if isinstance(own, (int, float)) else None
        self._pipeline.set_progress_bar_config(disable=True)
        with memory("with the pipeline alone", "use --precision bf16, a smaller pipeline or --accelerator cpu"):
            self._pipeline.to(device)
        self.seconds, self.pictures = 0.0, 0
        self._flops_each: int | None = None

    @property
    def flops(self) -> int | None:
        """Operations of all pictures so far, from those of the first batch; None where they cannot be counted."""
        return None if self._flops_each is None else self._flops_each * self.pictures

    def draw(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Drawn]:
        """One picture for each prompt, from its own seed: the same whatever stands beside it, up to rounding.

        The noise is drawn on the CPU, so that it does not depend on the device either.

        Raises:
            WispError: the pipeline cannot draw with these settings, or the memory is full.
        """
        begun = time.perf_counter()
        with _quiet(), one_line("the pipeline cannot draw", "change --image-size, --steps, --precision or --pipeline"):
            result = self._called(prompts, seeds) if self.pictures else self._counted(prompts, seeds)
            images = getattr(result, "images", None)
            if images is None or len(images) != len(prompts) or not isinstance(images[0], Image.Image):
                raise WispError(f"{self.kind} gives something else than pictures; name a text-to-image pipeline")
        self.seconds += time.perf_counter() - begun
        self.pictures += len(prompts)
        flags = getattr(result, "nsfw_content_detected", None) or [False] * len(images)
        return [Drawn(image, bool(flag)) for image, flag in zip(images, flags, strict=True)]

    def _called(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        with memory(f"with {len(prompts)} pictures at a time", "use a smaller --batch-size or --image-size"):
            return self._pipeline(prompt=list(prompts), generator=generators, **self._options)

    def _counted(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        """A first batch under torch's counter, which some kernels cannot run under; then it is drawn without."""
        counter = FlopCounterMode(display=False)
        try:
            with counter:
                result = self._called(prompts, seeds)
        except WispError:
            raise
        except Exception:  # whatever it was: a mistake that is not the counter's comes again
            return self._called(prompts, seeds)
        self._flops_each = counter.get_total_flops() // len(prompts) or None
        return result


def versions() -> dict[str, str]:
    """Of the packages that draw."""
    return {name: metadata.version(name) for name in ("wisp", "torch", "diffusers", "transformers")}


def _fetched(pipeline: str) -> Path:
    """The folder of a pipeline; one of the hub is downloaded, unless it is here already."""
    path = at_home(pipeline)
    if path.is_dir():
        return path
    remedy = (
        "look at the name, at the network and at what its owner asks for (hf auth login); without a network, fetch it "
        f"elsewhere (hf download {pipeline} --local-dir FOLDER) and give --pipeline FOLDER"
    )
    with one_line(f'"{pipeline}" is no folder, and cannot be had from the hub', remedy):
        from diffusers import DiffusionPipeline

        return Path(DiffusionPipeline.download(pipeline))


def _loaded(folder: Path, pipeline: str, dtype: torch.dtype) -> Any:
    """The text-to-image form of what a folder holds, or the class that it names where diffusers knows no such form."""
    with one_line(f'cannot load the pipeline "{pipeline}"', "fetch or save it again, or name another with --pipeline"):
        from diffusers import AutoPipelineForText2Image, DiffusionPipeline

        try:
            return AutoPipelineForText2Image.from_pretrained(str(folder), dtype=dtype)
        except ValueError:
            return DiffusionPipeline.from_pretrained(str(folder), dtype=dtype)


def _digest(pipeline: Any) -> str:
    """Of the first numbers of every parameter, in whatever order and under whatever names they are kept."""
    parts = [part for part in pipeline.components.values() if isinstance(part, nn.Module)]
    first = sorted(
        p.detach().flatten()[:16].float().numpy().tobytes() + str(tuple(p.shape)).encode()
        for part in parts
        for p in part.parameters()
    )
    return hashlib.sha256(b"".join(first)).hexdigest()[:16]


def _licence(folder: Path, name: str | None) -> str | None:
    """What the card says, in the folder or on the hub."""
    from huggingface_hub import ModelCard, model_info

    try:
        card = folder / "README.md"
        data = ModelCard.load(card).data if card.is_file() else model_info(name).card_data if name else None
    except Exception:  # no network, no card, or one that cannot be read: then nobody knows
        return None
    found = getattr(data, "license", None)
    return str(getattr(data, "license_name", None) or found) if found else None


@contextmanager
def _quiet(*, bars: bool = False) -> Iterator[None]:
    """No warnings, log lines or, unless `bars`, progress bars of diffusers and its companions."""
    with muted(*_LOUD):
        from diffusers.utils import logging as of_diffusers
        from transformers.utils import logging as of_transformers

        both = (of_diffusers, of_transformers)
        shown = [library for library in both if library.is_progress_bar_enabled() and not bars]
        try:
            for library in shown:
                library.disable_progress_bar()
            yield
        finally:
            for library in shown:
                library.enable_progress_bar()
