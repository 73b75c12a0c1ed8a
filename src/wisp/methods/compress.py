"""CompRess: a student sees each image as near to the images of a queue as its teacher does.

Source: Koohpayegani, Tejankar and Pirsiavash 2020, Eq. 1-3, and the released train_student.py and compress_loss.py. One
temperature for both, and no candidate but the queue: the view itself joins it after the step. 2q: the queues hold the
same images, one as the teacher sees them and one as a slow copy of the student does; nothing has to have the teacher's
width. 1q: a linear layer brings the student into the teacher's space, and both ask the teacher's queue. Features are
those before any projection head. The released learning rate falls to a fifth at epochs 90 and 120 of 130; here it
follows wisp's cosine. The released queues begin with random keys; here slots that were never filled take no part. The
released slow copy is in evaluation mode but for its BatchNorm, here in training mode. The teacher sees the student's
view by default, as in the released code; its option, the features of the plain images, is `cached`. CompRess trains on
no small images; the values are those of its ImageNet training.

Cost: one pass with a gradient, one of the teacher unless cached, one of the slow copy (2q), and the queues in memory.
Use: a teacher whose features are better than its head, or so large that it should look at every image only once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from torch import Tensor, nn

from wisp.data.loader import Batch
from wisp.encoders.slow import SlowCopy
from wisp.errors import WispError
from wisp.losses.contrastive import to_queue, unit
from wisp.losses.global_batch import average, gather
from wisp.losses.relation import similarity_distillation
from wisp.methods.method import Method, Settings, Surroundings
from wisp.methods.parts.extra import Extra
from wisp.methods.parts.queue import Queue, overlong, queue_size
from wisp.methods.parts.ranges import fractions, positive
from wisp.methods.parts.taught import Taught, teacher_of


@dataclass(frozen=True, kw_only=True)
class Config(Taught):
    """Settings of CompRess."""

    teacher_head: Literal["pretrained", "none"] = "none"
    """The paper compares features; with `pretrained` the teacher shows its embeddings."""
    queues: Literal["2q", "1q"] = "2q"
    """A queue of the student's own features beside the teacher's, or the teacher's for both; the released default."""
    cached: bool = False
    """Whether the teacher sees each image once, plain, and is remembered; off in the released code unless asked for."""
    temperature: float = 0.04
    """Divides the similarities of both; the paper, section 4."""
    momentum: float = 0.999
    """Of the slow copy (2q); the released code."""
    queue: int | None = None
    """K; a multiple of the batch, up to the paper's 128000 and half of the images, unless given."""

    def __post_init__(self) -> None:
        """Checks ranges."""
        super().__post_init__()
        positive(temperature=self.temperature)
        fractions(momentum=self.momentum)
        if self.cached and self.extra != "none":
            raise WispError(f"a cached teacher shows no view to learn {self.extra} from; leave out --method.cached")


PAPER_QUEUE = 128_000
SETTINGS = dict.fromkeys(
    ("small", "large"),
    Settings(
        plan="crop_flip",
        epochs=130,
        batch_size=256,
        optimizer="sgd",
        lr=0.01,
        weight_decay=1e-4,
        warmup_epochs=0,
        source="Koohpayegani et al. 2020, section 4, and the released train_student.py",
    ),
)


@final
class CompRess(Method):
    """A student, its teacher or what it remembers of it, and one or two queues."""

    taught: ClassVar[Literal["no", "frozen", "online"]] = "frozen"
    view_count: ClassVar[tuple[int, int | None]] = (1, 1)

    def __init__(self, config: Config, encoder: nn.Module, surroundings: Surroundings) -> None:
        super().__init__()
        self.views = surroundings.plan
        self.config, self.images, self.step = config, surroundings.images, surroundings.batch_size
        teacher = teacher_of(surroundings)
        self.teacher = teacher.absent() if config.cached else teacher
        self.remembers = self.teacher.width if config.cached else 0
        size = queue_size(config.queue, PAPER_QUEUE, images=self.images, step=self.step)
        self.queue = Queue(size, self.teacher.width)
        self.network = nn.Sequential(encoder)
        self.slow: SlowCopy | None = None
        self.own: Queue | None = None
        if config.queues == "1q":
            self.network.append(nn.Linear(surroundings.features, self.teacher.width))
        else:
            self.slow, self.own = SlowCopy(self.network), Queue(size, surroundings.features)
        out = self.teacher.width if config.queues == "1q" else surroundings.features
        self.extra = Extra(config, encoder, self.teacher, image_size=surroundings.image_size, out=out)
        self.fresh: list[tuple[Queue, Tensor]] = []

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """One view [B,3,H,W] -> mean divergence of the student's similarities to the queue, and what is extra."""
        with self.extra.watching(self.network[0], self.teacher) as maps:
            shown = batch.remembered if self.config.cached else self.teacher(batch.views)[0]
            output = self.network(batch.views[0])
        assert shown is not None, "a loader delivers what a method remembers"
        keys, ours = unit(shown), unit(output)
        self.fresh = [(self.queue, gather(keys))]
        asked = self.queue
        if self.slow is not None and self.own is not None:
            self.fresh.append((self.own, gather(unit(self.slow(batch.views[0])))))
            asked = self.own
        t = self.config.temperature
        student = to_queue(ours, asked.keys, asked.filled)
        teacher = to_queue(keys, self.queue.keys, self.queue.filled)
        distill = average(similarity_distillation(student, teacher, t, t))
        return {"distill": distill, **self.extra.terms([output], [shown], maps)}

    def after_step(self, progress: float) -> None:
        """The features of this step join the queues, the slow copy follows."""
        for queue, keys in self.fresh:
            queue.put(keys)
        self.fresh = []
        if self.slow is not None:
            self.slow.follow(self.network, self.config.momentum)

    def chosen(self) -> dict[str, float]:
        """K."""
        return {"queue": len(self.queue.keys)}

    def warnings(self) -> list[str]:
        """A queue that holds most of the data."""
        return overlong(len(self.queue.keys), images=self.images, step=self.step)

    def encoders(self) -> dict[str, nn.Module]:
        """The student."""
        return {"1x": self.network[0]}

    def head(self) -> nn.Module | None:
        """1q: into the teacher's space; with two queues there is none."""
        return nn.Sequential(self.network[1]) if self.config.queues == "1q" else None
