"""BINGO: a student finds its teacher's keys of an image and of its neighbours, which the teacher puts into one bag.

Source: Xu et al. 2022 and the released main_moco.py and moco/builder.py. A bag is an image's five nearest others in the
teacher's features of unaugmented images (before its head, as in compute_knn.py). A step shows one image of the bag
beside each image. Queries are the student's embeddings of one view of both, and of the first with a CutMix box of the
second; keys are the teacher's of the other views. A query finds one key at a time among a queue of teacher's keys: its
own image's alone at first, then both with a half each; the mixed query from the first step on, weighted by area. Only
the images' own keys join the queue. In the released code the teacher's BatchNorm is in training mode, for nobody
puts it into the other, and ShuffleBN hides its statistics; here the teacher is frozen, and a shuffle would change
nothing. The code's box is drawn for each GPU, here for the whole batch. BINGO trains on no small images; there the
values are those of its ImageNet training, with MoCo v2's views for CIFAR.

Cost: three passes with a gradient and two of the teacher, and once a pass of the teacher over all images.
Use: a good teacher is at hand, and time for three passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.heads import mlp
from wisp.errors import WispError
from wisp.losses.contrastive import info_nce_in_turn, unit
from wisp.losses.global_batch import average, gather
from wisp.methods import moco_v2
from wisp.methods.method import Method, Surroundings
from wisp.methods.moco_v2 import trained_as_moco
from wisp.methods.parts.cutmix import cutmix
from wisp.methods.parts.extra import Extra
from wisp.methods.parts.queue import Queue, overlong, queue_size
from wisp.methods.parts.ranges import fractions, positive
from wisp.methods.parts.taught import Taught, teacher_of, width_for


@dataclass(frozen=True, kw_only=True)
class Config(Taught):
    """Settings of BINGO."""

    temperature: float = 0.2
    """Divides the cosines; the released scripts."""
    bag: int = 5
    """Images in a bag, the first not counted; the released compute_knn.py."""
    bag_start: float = 0.055
    """Fraction of the training before an image finds its bag; the released code, after 11 epochs of 200."""
    queue: int | None = None
    """K; a multiple of the batch, up to the paper's 65536 and half of the images, unless given."""
    hidden: int = 2048
    """Hidden width of the student's head; the released code, whatever the student."""
    out: int | None = None
    """E, width of the embedding; the teacher's, and no other."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(temperature=self.temperature, bag=self.bag, hidden=self.hidden)
        fractions(bag_start=self.bag_start)


SETTINGS = trained_as_moco("Xu et al. 2022, and the released main_moco.py")


@final
class Bingo(Method):
    """A student, its teacher, a bag for every image, and a queue of the teacher's keys."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config, self.images, self.step = config, surroundings.images, surroundings.batch_size
        self.neighbours = config.bag
        if self.images <= config.bag:
            raise WispError(
                f"a bag of {config.bag} needs as many other images, and there are {self.images} in all; use more "
                f"images, or --method.bag {self.images - 1} or less"
            )
        self.teacher = teacher_of(surroundings)
        out = width_for(config.out, self.teacher)
        self.network = nn.Sequential(encoder, mlp([surroundings.features, config.hidden, out], norm=False))
        self.extra = Extra(config, encoder, self.teacher, image_size=surroundings.image_size, out=out)
        self.queue = Queue(queue_size(config.queue, moco_v2.PAPER_QUEUE, images=self.images, step=self.step), out)
        self.fresh: Tensor | None = None

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Two views [B,3,H,W] of the images and two of their companions -> InfoNCE of three queries, a third each.

        What is extra takes one more pass of the teacher, through the view that the student sees.
        """
        (asking, answering), (asking_bag, answering_bag) = batch.views, batch.companions
        keys = [unit(each) for each in self.teacher([answering, answering_bag])]
        self.fresh = gather(keys[0])
        mixed, left = cutmix(asking, asking_bag, progress)
        with self.extra.watching(self.network[0], self.teacher) as maps:
            output = self.network(asking)
            shown = [] if self.config.extra == "none" else self.teacher([asking])
        own = 1.0 if progress < self.config.bag_start else 0.5
        return {
            "image": self._found(output, keys, (own, 1 - own)),
            "bag": self._found(self.network(asking_bag), keys, (1 - own, own)),
            "mixed": self._found(self.network(mixed), keys, (left, 1 - left)),
            **self.extra.terms([output], shown, maps),
        }

    def _found(self, output: Tensor, keys: list[Tensor], weights: tuple[float, float]) -> Tensor:
        """A third of the weighted losses with which outputs [B,E] find the image's keys and the bag's."""
        own, bag = info_nce_in_turn(unit(output), keys, self.queue.keys, self.queue.filled, self.config.temperature)
        return average((weights[0] * own + weights[1] * bag) / 3)

    def phases(self) -> tuple[float, ...]:
        """Each image by itself; with its bag."""
        return tuple(sorted({0.0, self.config.bag_start}))

    def after_step(self, progress: float) -> None:
        """The teacher's keys of this step's images join the queue."""
        if self.fresh is not None:
            self.queue.put(self.fresh)
            self.fresh = None

    def chosen(self) -> dict[str, float]:
        """K."""
        return {"queue": len(self.queue.keys)}

    def warnings(self) -> list[str]:
        """A queue that holds most of the data."""
        return overlong(len(self.queue.keys), images=self.images, step=self.step)

    def encoders(self) -> dict[str, nn.Module]:
        """The student."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module:
        """Into the teacher's space."""
        return self.network[1]
