"""What is random in a view, and its draws for a whole batch.

Random parameters come from the CPU and depend on (seed, step) only: devices, workers and ranks all see the same views.
Legend: B batch, S side of the view in pixels.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ATTEMPTS = 10  # of torchvision's RandomResizedCrop
# Random numbers per sample: area, ratio, place, shift, order, factors, chance (of the five operations), sigma.
_NUMBERS = [_ATTEMPTS, _ATTEMPTS, 2, 2, 4, 4, 5, 1]


@dataclass(frozen=True)
class View:
    """One augmented view: probabilities per sample and strengths; 0 is off.

    Attributes:
        crop_scale: range of the crop's area as a fraction of the image; (1, 1) with ratio (1, 1) is the central square.
        crop_ratio: range of the crop's width / height, drawn log-uniformly.
        flip: probability of a horizontal flip.
        jitter: probability of colour jitter (all four operations, in random order).
        brightness: jitter strength; the factor is uniform in 1 - v to 1 + v.
        contrast: as brightness.
        saturation: as brightness.
        hue: jitter strength; the shift is uniform in -v to v turns.
        gray: probability of losing all colour.
        blur: probability of a Gaussian blur; its kernel has `ops.blur_size(S)` taps.
        blur_sigma: range of the blur's sigma in pixels of the view.
        solarize: probability of inverting everything that is `solarize_threshold` or brighter.
        solarize_threshold: in 0..1. One half treats 8-bit values as the papers' threshold 128 does, and no value of 255
            equal steps lies on it, so that rounding cannot decide.
        shift: the box moves by a uniform fraction of its own side, -v to v per axis; outside the image is black.
        side: the view's side as a fraction of the image size; 96 / 224 for the local crops of SwAV and DINO.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0
    solarize_threshold: float = 0.5
    shift: float = 0.0
    side: float = 1.0

    def pixels(self, image_size: int) -> int:
        """The view's side for images of `image_size` pixels, to the nearest whole pixel (a half goes up)."""
        return int(self.side * image_size + 0.5)


@dataclass(frozen=True)
class ViewPlan:
    """The views of one training image, and where their numbers come from.

    Attributes:
        name: its key in `wisp.data.plans.PLANS`.
        source: paper and table (or released file) of the values.
        views: one entry per view that a step needs, global views (side 1) before local ones.
    """

    name: str
    source: str
    views: tuple[View, ...]

    def pixels(self, image_size: int) -> tuple[int, ...]:
        """Every view's side for images of `image_size` pixels."""
        return tuple(view.pixels(image_size) for view in self.views)


@dataclass(frozen=True)
class Draws:
    """Random parameters of one view for a batch, on the CPU; every tensor leads with B.

    `draws[a:b]` (or an index tensor) is those samples' own parameters.

    Attributes:
        sides: float64 [B,10,2] height and width of each crop attempt; 1 is the side of a square of the image's area.
        place: float64 [B,2] where the box lies in what room it has, 0..1 (vertical, horizontal).
        shift: float64 [B,2] displacement of the box in fractions of its side (vertical, horizontal).
        flip: bool [B].
        jitter: bool [B].
        order: int64 [B,4] the order of brightness (0), contrast (1), saturation (2), hue (3).
        factors: float32 [B,4] their parameters, in that numbering.
        gray: bool [B].
        blur: bool [B].
        sigma: float32 [B].
        solarize: bool [B].
        ratios: the view's `crop_ratio`, which the central fallback needs.
    """

    sides: Tensor
    place: Tensor
    shift: Tensor
    flip: Tensor
    jitter: Tensor
    order: Tensor
    factors: Tensor
    gray: Tensor
    blur: Tensor
    sigma: Tensor
    solarize: Tensor
    ratios: tuple[float, float]

    def __len__(self) -> int:
        return len(self.flip)

    def __getitem__(self, index: slice | Tensor) -> Draws:
        tensors = {name: value[index] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Draws(**tensors, ratios=self.ratios)


def draw(plan: ViewPlan, *, seed: int, step: int, batch: int, of: str = "views") -> tuple[Draws, ...]:
    """Draw the random parameters of every view of one step, for the global batch.

    Every parameter is drawn whether or not the view uses it, so that a change to one operation leaves the others' draws
    alone. (Of its seed torch's generator keeps 32 bits: two steps of a very long run may share draws, on other images.)

    Args:
        plan: the views.
        seed: of the run.
        step: global step, counted over all epochs.
        batch: global batch size; a rank slices its part.
        of: what is shown; another name, other draws.

    Returns:
        One `Draws` of `batch` samples per view; a function of the five arguments alone.
    """
    generator = _generator(of, seed, step)
    numbers = torch.rand(len(plan.views), batch, sum(_NUMBERS), generator=generator, dtype=torch.float64)
    return tuple(_scaled(view, u) for view, u in zip(plan.views, numbers, strict=True))


def choose(choices: int, *, seed: int, step: int, batch: int) -> Tensor:
    """Which of so many companions each sample of the global batch is shown with: int64 [batch]; otherwise as `draw`."""
    return torch.randint(choices, (batch,), generator=_generator("choices", seed, step))


def _generator(of: str, seed: int, step: int) -> torch.Generator:
    digest = hashlib.blake2b(f"wisp {of} {seed} {step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def _scaled(view: View, u: Tensor) -> Draws:
    """Turn uniform numbers [B,sum(_NUMBERS)] into the parameters of one view."""
    area, ratio, place, shift, order, factors, chance, sigma = torch.split(u, _NUMBERS, dim=1)
    low, high = (math.log(r) for r in view.crop_ratio)
    strength = torch.tensor([view.brightness, view.contrast, view.saturation, view.hue], dtype=torch.float64)
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    probability = torch.tensor([view.flip, view.jitter, view.gray, view.blur, view.solarize], dtype=torch.float64)
    flip, jitter, gray, blur, solarize = (chance < probability).unbind(1)
    width = torch.exp((low + ratio * (high - low)) / 2)  # of a box of area 1
    side = (view.crop_scale[0] + area * (view.crop_scale[1] - view.crop_scale[0])).sqrt_()
    return Draws(
        sides=torch.stack([side / width, side * width], dim=2),
        place=place,
        shift=(2 * shift - 1) * view.shift,
        flip=flip,
        jitter=jitter,
        order=order.argsort(dim=1),
        factors=(neutral + (2 * factors - 1) * strength).float(),
        gray=gray,
        blur=blur,
        sigma=(view.blur_sigma[0] + sigma[:, 0] * (view.blur_sigma[1] - view.blur_sigma[0])).float(),
        solarize=solarize,
        ratios=view.crop_ratio,
    )


def boxes(draws: Draws, heights: Tensor | int, widths: Tensor | int) -> Tensor:
    """Crop boxes by torchvision's RandomResizedCrop rule: the first of ten attempts that fits, else the centre.

    Args:
        draws: of one view, B samples.
        heights: of the images in pixels, [B] or one number for all.
        widths: as heights.

    Returns:
        int64 [B,4] on the CPU: top, left, height, width. Only a view with a `shift` reaches beyond the image.
    """
    given = torch.stack([torch.as_tensor(heights), torch.as_tensor(widths)], dim=-1).expand(len(draws), 2)
    image = given.to(torch.float64)
    attempts = (draws.sides * image.prod(1).sqrt_()[:, None, None]).round_()
    fits = ((attempts > 0) & (attempts <= image[:, None])).all(2)
    first = (fits.cumsum(1) == 0).sum(1)  # attempts before the first that fits; ten when none does
    found = (first < _ATTEMPTS)[:, None]
    fitting = attempts.gather(1, first.clamp(max=_ATTEMPTS - 1)[:, None, None].expand(-1, 1, 2))[:, 0]
    # In the centre: the whole image, but no flatter and no narrower than the allowed ratios.
    narrow, flat = draws.ratios
    limits = torch.stack([image[:, 1] / narrow, image[:, 0] * flat], dim=1).round_()
    sides = torch.where(found, fitting, torch.minimum(image, limits))
    room = image - sides
    corner = torch.where(found, draws.place * (room + 1), room / 2).floor_()
    return torch.cat([corner + (draws.shift * sides).round_(), sides], dim=1).long()
