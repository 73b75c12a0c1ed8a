"""Batches of augmented views: the sample order, the decoded images, and who prepares what.

Small images of one size are decoded once and stay in memory as one uint8 tensor on the training device, where every
view is made in batches. Of larger ones a worker process decodes each image once and cuts V crops out of it; colour is
then changed in batches on the device.
Legend: B samples of this rank, G = world * B global batch, V views, S side of a view in pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wisp.data.aside import Aside
from wisp.data.cache import decoded_once
from wisp.data.cutter import Cutter, Drawing, Shown, Task
from wisp.data.layout import Layout
from wisp.data.pool import Pool
from wisp.data.sources import Source, labels_of, most_corrupt, shown
from wisp.data.views import Draws, ViewPlan, boxes, render
from wisp.errors import WispError


class Batch(NamedTuple):
    """What a method sees of one step.

    Attributes:
        views: V tensors float32 [B,3,S,S], each with its view's S, normalised, channels_last, on the training device.
        index: int64 [B] position in the source of each image shown (a replacement's own), on the device.
        labels: int64 [B] on the device, or None when the loader was not asked for labels.
        companions: V more of another image each, as `views`; empty when the loader was not asked for companions.
        remembered: float32 [B,E], what a teacher makes of each image shown, plain; None when the loader got none.
    """

    views: tuple[Tensor, ...]
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody wants of a batch
    labels: Tensor | None = None
    companions: tuple[Tensor, ...] = ()
    remembered: Tensor | None = None


class Loader:
    """Batches of a source under a view plan, reproducible from (seed, epoch, step) alone.

    The order of the images is a permutation drawn from (seed, epoch), the views are drawn from (seed, global step);
    both for the global batch, of which each rank takes its slice. Nothing depends on the number of workers, on devices
    or on the world size, and no random state needs saving for a resume. The last, incomplete batch of an epoch is left
    out.

    Attributes:
        steps_per_epoch: full batches in one pass.
        waited: seconds that the last step took for its data: waiting for workers, and making views in the foreground.
        replaced: names of the corrupt images met so far, with the reason; each was replaced by the next good image.
    """

    def __init__(
        self,
        source: Source,
        plan: ViewPlan,
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        labels: bool = False,
        companions: Tensor | None = None,
        remembered: Tensor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Prepare the images; small ones are decoded here.

        Args:
            source: the images.
            plan: the views of every step.
            image_size: side of the encoder's images in pixels; each view has `view.pixels(image_size)`.
            mean: of the three channels, in 0..1.
            std: of the three channels.
            batch_size: G, the global batch.
            seed: of the run.
            device: where views are made and delivered.
            rank: number of this process.
            world: number of processes that share a batch.
            workers: processes that decode large images; 0 decodes in this one.
            labels: deliver class labels too.
            companions: int64 [N,K] on the CPU: deliver the views of one of these beside those of each of the N images;
                which one is drawn anew every time. That of a replaced image is a companion of the replacement.
            remembered: [N,E] on the CPU, perhaps in a file: deliver the row of each image shown; only these are read.
            progress: called with (images decoded, images) now and then while small images are decoded.

        Raises:
            WispError: a batch larger than the data set or not divisible by `world`, labels wanted but missing, or
                too many corrupt images.
        """
        if not 0 < batch_size <= len(source):
            raise WispError(f"batch size {batch_size} does not fit {len(source)} images: choose 1 to {len(source)}")
        if batch_size % world:
            raise WispError(
                f"batch size {batch_size} cannot be shared by {world} processes: choose a multiple of {world}"
            )
        self.source, self.plan, self.image_size = source, plan, image_size
        self.mean, self.std, self.batch_size, self.seed = tuple(mean), tuple(std), batch_size, seed
        self.device, self.workers = torch.device(device), workers
        self._remembered = remembered
        self._labels = torch.tensor(labels_of(source)) if labels else None
        self.steps_per_epoch = len(source) // batch_size
        self.waited = 0.0
        mine = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
        self._drawing = Drawing(plan, seed, batch_size, mine, companions)
        self._layout = Layout(batch_size // world, tuple(view.pixels(image_size) for view in self._drawing.views))
        self._corrupt: dict[int, str] = {}
        self._pool: Pool | None = None
        self._aside = Aside(self.device) if self.device.type == "cuda" else None
        self._pixels: Tensor | None = None
        self._shows = torch.arange(len(source))  # which image stands in each image's place
        cache = decoded_once(source, self._note, progress)
        if cache is not None:
            self._pixels, self._shows = cache[0].to(self.device), cache[1]

    @property
    def replaced(self) -> list[str]:
        """Names and reasons of the corrupt images met so far, in the order of the source."""
        return [text for _, text in sorted(self._corrupt.items())]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Batches of one epoch, from step `start` of it on.

        Args:
            epoch: number of the epoch, from 0.
            start: steps of this epoch that are already done.

        Yields:
            `steps_per_epoch - start` batches of B samples.

        Raises:
            WispError: more corrupt images than max(10, 1 % of the data set).
        """
        order = sample_order(self.seed, epoch, len(self.source))
        tasks = (self._task(order, epoch, step) for step in range(start, self.steps_per_epoch))
        batches = map(self._render, tasks) if self._pixels is not None else self._from_workers(tasks)
        while True:
            began = time.perf_counter()
            batch = self._aside.next(batches) if self._aside else next(batches, None)
            if batch is None:
                return
            self.waited = time.perf_counter() - began
            yield batch

    def close(self) -> None:
        """End the worker processes, if there are any; another epoch would start new ones.

        They also end with the loader itself, but an exception's traceback may hold on to it.
        """
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _task(self, order: Tensor, epoch: int, step: int) -> Task:
        """Which images this rank shows at one step of an epoch."""
        batch = order[step * self.batch_size : (step + 1) * self.batch_size]
        return Task(batch[self._drawing.mine].tolist(), epoch * self.steps_per_epoch + step)

    def _render(self, task: Task) -> Batch:
        """All views from the images in memory."""
        assert self._pixels is not None
        index = torch.tensor(task.index)
        shown_images = self._shows[index]
        beside = self._drawing.beside(shown_images, task.step, slice(None))
        images = []
        for each in (index,) if beside is None else (index, beside):
            images += [self._pixels.index_select(0, each.to(self.device))] * len(self.plan.views)
        drawn = self._drawing.at(task.step)
        cuts = [boxes(draws, *self._pixels.shape[-2:]) for draws in drawn]
        return self._finish(images, cuts, drawn, shown_images)

    def _from_workers(self, tasks: Iterator[Task]) -> Iterator[Batch]:
        """Colour changes and normalisation of crops that the workers have cut."""
        for task, crops, shown_images in self._cut(tasks):
            for index, text in shown_images.corrupt.items():
                self._note(index, text)
            if len(shown_images.index) < len(task.index):
                raise WispError(f"no readable image left ({shown(self.replaced)}): `wisp check DATA` names them all")
            views = self._layout.views(crops.to(self.device))
            drawn = self._drawing.at(task.step)
            yield self._finish(views, [None] * len(drawn), drawn, torch.tensor(shown_images.index))

    def _cut(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Tensor, Shown]]:
        """Tasks with the uint8 blocks of their crops, cut in worker processes or here."""
        cutter, batch = Cutter(self.source, self._drawing, self.image_size), self._layout.batch
        if self.workers:
            self._pool = self._pool or Pool(cutter, min(self.workers, batch), self._layout)
            yield from self._pool.run(tasks)
        block = torch.empty(self._layout.numbers, dtype=torch.uint8)
        views = self._layout.views(block)
        for task in tasks:
            yield task, block, cutter.cut(task, slice(0, batch), views)

    def _finish(
        self, images: Sequence[Tensor], cuts: Sequence[Tensor | None], drawn: Sequence[Draws], index: Tensor
    ) -> Batch:
        """Per view, uint8 images [B,3,H,W] with their boxes, or crops [B,3,S,S] without, to what the encoder takes."""
        views = tuple(
            render(pixels, cut, view, draws, size=self.image_size, mean=self.mean, std=self.std)
            for pixels, cut, view, draws in zip(images, cuts, self._drawing.views, drawn, strict=True)
        )
        labels = self._labels[index].to(self.device) if self._labels is not None else None
        rows = None if self._remembered is None else self._remembered.index_select(0, index).to(self.device).float()
        own = len(self.plan.views)
        return Batch(views[:own], index.to(self.device), labels, views[own:], rows)

    def _note(self, index: int, text: str) -> None:
        """Remember a corrupt image, and stop when there are too many."""
        self._corrupt[index] = text
        if len(self._corrupt) > most_corrupt(len(self.source)):
            raise WispError(
                f"{len(self._corrupt)} of {len(self.source)} images cannot be read ({shown(self.replaced)}): "
                "`wisp check DATA` names them all; repair or remove them"
            )


def sample_order(seed: int, epoch: int, images: int) -> Tensor:
    """The order of one epoch: int64 [images], a permutation that depends on these three numbers only."""
    digest = hashlib.blake2b(f"wisp order {seed} {epoch}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.randperm(images, generator=generator)
