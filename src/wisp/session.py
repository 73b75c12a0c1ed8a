"""A run with its data and encoder: everything that is checked before anything is written."""

from __future__ import annotations

import dataclasses
import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wisp import methods
from wisp.data.extra import mix, pathless
from wisp.data.plans import PLANS
from wisp.data.sources import Source
from wisp.data.sources.mixed import Mixed
from wisp.dividing import data_name, other_classes, sources, unlabelled
from wisp.encoders import stock
from wisp.encoders.stock import EncoderSpec
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner
from wisp.methods.method import Method, Surroundings
from wisp.methods.parts.taught import Taught, Tutored
from wisp.resolve import Resolved, fitting, plan_of, resolve
from wisp.run import Run, to_json
from wisp.teachers.adopting import adopted
from wisp.teachers.bags import find_bags
from wisp.teachers.opening import open_teacher
from wisp.teachers.probe import probe_teacher
from wisp.teachers.remembering import remember
from wisp.train.setup import device_kind


@dataclass(frozen=True)
class Session:
    """A checked run.

    Attributes:
        run: as the user gave it.
        spec: of its encoder.
        resolved: every number that it left open.
        train: training images, those of --extra among them.
        neighbours: labelled images in which kNN looks and on which the probe is trained, or None.
        questions: labelled images that are asked about, or None.
        teacher: of a method that has one.
    """

    run: Run[Any]
    spec: EncoderSpec
    resolved: Resolved
    train: Source
    neighbours: Source | None
    questions: Source | None
    teacher: Teacher | None = None

    @property
    def mixed(self) -> Mixed | None:
        """The training images where some of them are extra."""
        return self.train if isinstance(self.train, Mixed) else None

    @property
    def task(self) -> Source:
        """The task's own training images: what evaluations and a teacher's probe see of them."""
        return self.train if self.mixed is None else self.mixed.task

    def method(self) -> Method:
        """The method with fresh weights from the run's seed."""
        classes = self.task.classes
        surroundings = Surroundings(
            features=self.spec.features,
            image_size=self.spec.image_size,
            images=len(self.train),
            batch_size=self.resolved.batch_size,
            plan=plan_of(self.resolved),
            classes=None if classes is None else len(classes),
            teacher=self.teacher,
        )
        return method_class(methods.load(self.run.method_name))(self.run.method, self.untrained(), surroundings)

    def probe_teacher(self, tell: Callable[[str], None]) -> bool:
        """Gives the teacher of a task a linear probe of its features, where a step asks and it knows no such classes.

        Args:
            tell: takes a line on what takes long.

        Returns:
            Whether it did: a method that was made before does not know of it.
        """
        asks = isinstance(self.run.method, Tutored) and self.run.method.asks_classes
        if not asks or self.teacher is None or self.teacher.classifier is not None:
            return False
        self.teacher.take(probe_teacher(self.teacher, self.task, tell=tell, **self._looking()))
        return True

    def remembered(self, wanted: int, tell: Callable[[str], None]) -> Tensor | None:
        """What the teacher makes of every training image, plain, float16 [N,E] in their order; None for 0.

        Args:
            wanted: E, as the method's `remembers`; its teacher is on the CPU.
            tell: takes a line on what takes long: the teacher's look at all images.
        """
        if not wanted:
            return None
        assert self.teacher is not None, "what is remembered is a teacher's"
        return remember(self.teacher, self.train, self.shown, tell=tell, **self._looking())

    @property
    def shown(self) -> Literal["features", "embeddings"]:
        """What is remembered of a teacher: features, or embeddings where a method without labels may ask for a head."""
        return "embeddings" if isinstance(self.run.method, Taught) else "features"

    def companions(self, count: int, tell: Callable[[str], None]) -> Tensor | None:
        """So many nearest others of every training image in the teacher's features, int64 [N,K]; None for 0.

        Args:
            count: K, as the method's `neighbours`; its teacher is on the CPU.
            tell: takes a line on what takes long: finding them.
        """
        if not count:
            return None
        assert self.teacher is not None, "neighbours are those of a teacher's features"
        return find_bags(self.teacher, self.train, count, tell=tell, **self._looking())

    def _looking(self) -> dict[str, Any]:
        """How the teacher looks at the training images, and where."""
        return {"data": data_name(self.run.data), "batch_size": self.resolved.batch_size, "device": self.device}

    @property
    def device(self) -> torch.device:
        """Where a teacher looks before the processes are launched."""
        kind = device_kind(self.run.accelerator)
        return torch.device(kind, int(os.environ.get("LOCAL_RANK", 0))) if kind == "cuda" else torch.device(kind)

    def untrained(self) -> nn.Module:
        """The encoder as every method receives it."""
        torch.manual_seed(self.run.seed)
        return self.spec.build()

    def examiner(self, device: torch.device) -> Examiner:
        """Who examines the run's encoders on `device`."""
        return Examiner(
            self.neighbours,
            self.questions,
            image_size=self.spec.image_size,
            mean=self.spec.mean,
            std=self.spec.std,
            device=device,
            batch_size=self.resolved.batch_size,
        )

    def evaluation(self) -> str:
        """In words, what the encoders are evaluated on."""
        if self.neighbours is None or self.questions is None:
            if missing := self.task.missing_labels:
                return f"health only: {missing:,} of the images have no label; --val takes labelled ones"
            return "health only: no " + ("labels" if self.task.classes is None else "class has two images")
        return f"kNN and linear probe: {len(self.neighbours):,} labelled images, {len(self.questions):,} held out"


def prepare(run: Run[Any]) -> Session:
    """Checks a run against its method, encoder and data; writes nothing.

    Raises:
        WispError: whatever is wrong with it, in one line.
    """
    module = methods.load(run.method_name)
    spec = stock.spec(run.model, run.image_size, run.stem)
    task, neighbours, questions = sources(run)
    needs_labels = method_class(module).needs_labels
    if needs_labels:
        if task.classes is None:
            raise WispError(f"method {run.method_name} needs labels: --data {run.data} {unlabelled(task)}")
        if len(task.classes) < 2:
            raise WispError(f"method {run.method_name} needs two classes to tell apart; --data {run.data} has one")
        if questions is None:
            raise WispError(
                f"method {run.method_name} needs a class with two images, one to ask about; add images, or give --val"
            )
        if questions.classes != task.classes:  # those of a --val that has its own, which serve evaluations of encoders
            raise WispError(other_classes(task.classes, questions.classes or ()))
    train = task
    if run.extra is not None:
        own = task.places() | (set() if questions is None else questions.places())
        train = mix(task, run.extra, labels=needs_labels, own=own)
    kind = method_class(module).taught
    teacher = None
    if kind != "no":
        use: Literal["frozen", "online"] = "online" if kind == "online" else "frozen"
        teacher = open_teacher(run.method_name, run.method, spec, use, run.seed, task.classes)
    if teacher is not None and kind == "adopted":
        spec = adopted(teacher, run.model, run.image_size, run.stem)
    # A method that is trained as its base is says so in its config.
    settings = getattr(run.method, "training", module.SETTINGS)
    resolved = resolve(run, settings, spec, len(train))
    if isinstance(train, Mixed):
        resolved = dataclasses.replace(resolved, extra=len(train.extra), extra_found=train.found)
    least, most = method_class(module).view_count
    if not least <= len(plan_of(resolved).views) <= (most or math.inf):
        views = "one view" if least == 1 else f"{least} views"
        wanted = views if least == most else f"{views} or more"
        plans = ", ".join(name for name, plan in PLANS.items() if least <= len(plan.views) <= (most or math.inf))
        raise WispError(f"--plan {resolved.plan} does not have the {wanted} of {run.method_name}; use {plans}")
    return Session(run, fitting(spec, plan_of(resolved)), resolved, train, neighbours, questions, teacher)


def method_class(module: ModuleType) -> type[Method]:
    """The one subclass of `Method` that a method's file defines."""
    return next(
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Method) and kind.__module__ == module.__name__
    )


def shareable(run: Run[Any]) -> dict[str, Any]:
    """The run as a receipt names it: no paths, no machine."""
    val = None if run.val is None else data_name(run.val)
    extra = None if run.extra is None else pathless(run.extra)
    named = to_json(dataclasses.replace(run, data=data_name(run.data), val=val, extra=extra, out=None))
    if run.teacher_name is not None:
        named["method"]["teacher"] = run.teacher_name
    return named
