"""After the last step: every encoder exported and examined, the report, and last of all the receipt."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torchvision.transforms.v2 import functional as F

from wisp.cost.count import count_forward
from wisp.cost.ledger import bill
from wisp.cost.road import machine_name
from wisp.data.sources import CorruptImage, Source
from wisp.encoders.stock import EncoderSpec
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner, as_row, health_of
from wisp.evaluate.linear import Protocol
from wisp.export.card import card, file_name, load_lines, output_name, read_card, update_card
from wisp.export.classifier import CLASSIFIER, with_classifier
from wisp.export.head import export_head
from wisp.export.onnx import export_onnx, missing_extra
from wisp.export.stock import export_encoder
from wisp.files import plain, write_json
from wisp.methods.method import Method
from wisp.report.gallery import MOST, SIDE, Gallery, save_gallery
from wisp.report.page import write_report
from wisp.session import shareable
from wisp.teachers.asking import answers_of
from wisp.train import blocks
from wisp.train.journal import Journal
from wisp.train.screen import say
from wisp.training import Training

SCHEMA = 1
_ONNX_IMAGES = 16


def finish(training: Training, journal: Journal, console: Console) -> None:
    """Exports, evaluates, reports; the receipt comes last and marks the run as finished."""
    session, folder, examiner, progress = training.session, training.folder, training.examiner, training.progress
    run, r = session.run, session.resolved
    paid = bill(
        training.cost,
        steps=r.steps,
        batch_size=r.batch_size,
        seconds=progress.seconds,
        waited=progress.waited,
        device=examiner.device,
        machine=machine_name(training.environment["hardware"], training.fabric.world_size),
        ahead=training.ahead,
        teacher=session.teacher,
        extra=session.mixed,
        handed_out=session.teacher is not None and _frozen(training.method),
    )
    budget = {"epochs": r.epochs, "images": r.images, "steps": r.steps, "batch_size": r.batch_size}
    shared = shareable(run)
    data = {"name": shared["data"], "images": len(session.task), "classes": len(session.task.classes or ())}
    subject = Subject(
        method={"name": run.method_name, **shared["method"]},
        data=data if run.extra is None else {**data, "extra": {"name": shared["extra"], "images": r.extra}},
        budget=budget,
        cost=paid,
    )
    entries: dict[str, Any] = {}
    notes: list[str] = []
    classifiers = training.method.classifiers()
    for name, encoder in training.method.encoders().items():
        say(console, f"evaluating and exporting {name}")
        entries[name], more = _examine(name, encoder, classifiers.get(name), training, subject)
        notes += [note for note in more if note not in notes]
    name, encoder = next(iter(training.method.encoders().items()))
    if (head := training.method.head()) is not None:
        update_card(folder.exported / name, files=export_head(head, folder.exported / name))
    _gallery(encoder.to(examiner.device), examiner, session.task, folder.gallery)
    say(console, "evaluating what it is compared with")
    seen = {*examiner.unreadable["train"].values(), *examiner.unreadable["others"].values()}
    left_out = [*(seen - {*progress.replaced}), *examiner.unreadable["test"].values()]
    receipt = {
        "schema": SCHEMA,
        "recipe": shared,
        "resolved": training.resolved,
        "commit": training.environment["commit"],
        "hardware": training.environment["hardware"],
        "packages": training.environment["packages"],
        "seed": run.seed,
        "budget": budget,
        "protocol": _protocol(examiner),
        "encoders": entries,
        "untrained": _untrained(session.untrained(), examiner),
        **_teacher(session.teacher, examiner, session.task),
        "cost": paid,
        "replaced": len(progress.replaced) + len(left_out),
        "finished": _now(),
    }
    write_report(folder.path, None, folder.report, result=receipt)
    for line in sorted(left_out):
        journal.note(f"unreadable, left out of evaluations: {line}")
    for line in (*notes, *blocks.results(receipt)):
        journal.note(line)
    journal.note("finished")
    write_json(folder.result, receipt)
    leading = folder.exported / name / CLASSIFIER if name in classifiers else folder.exported / name
    say(console, blocks.closing(receipt, folder.path, load_lines(read_card(leading), leading)))
    for note in notes:
        say(console, note)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is known of a finished training before its encoders are looked at; plain values go into cards."""

    method: dict[str, Any]
    data: dict[str, Any]
    budget: dict[str, Any]
    cost: dict[str, Any]


def _examine(
    name: str, encoder: nn.Module, classifier: nn.Linear | None, training: Training, subject: Subject
) -> tuple[dict[str, Any], list[str]]:
    """Exports and evaluates one encoder, and the classifier that was trained with it.

    Returns:
        Its entry of the receipt, and lines that the user should read.
    """
    spec, examiner, target = training.session.spec, training.examiner, training.folder.exported / name
    written, notes = _export(encoder, spec, target, card(spec, name=name, **vars(subject)), training)
    encoder.to(examiner.device)
    scores = examiner.final(encoder)
    found = as_row(health_of(encoder, training.loader.epoch(0), examiner.device))
    entry = {
        "parameters": sum(p.numel() for p in encoder.parameters()),
        "features": read_card(target)["features"],
        "forward_flops": count_forward(encoder, spec.image_size),
        "knn": None if scores is None else scores[0],
        "linear": None if scores is None else scores[1].accuracy,
        "linear_detail": None if scores is None else plain(scores[1]),
        "health": found,
        **written,
    }
    update_card(target, accuracy=None if scores is None else {"knn": scores[0], "linear": scores[1].accuracy})
    if classifier is not None:
        entry["classifier"], more = _classify(name, encoder, classifier, training, subject)
        notes += more
    return entry, notes


def _classify(
    name: str, encoder: nn.Module, classifier: nn.Linear, training: Training, subject: Subject
) -> tuple[dict[str, Any], list[str]]:
    """Exports an encoder together with its classifier, and asks it about the held-out images; as `_examine`."""
    examiner, classes = training.examiner, training.session.task.classes
    assert classes is not None, "a method with a classifier needs labels"
    spec, network = with_classifier(training.session.spec, encoder, classifier)
    target = training.folder.exported / name / CLASSIFIER
    told = card(spec, name=name, classes=classes, **vars(subject))
    written, notes = _export(network, spec, target, told, training)
    answers = examiner.answers(network.to(examiner.device))
    entry = {
        "top1": answers.top1,
        "answers": answers.told(classes),
        "parameters": sum(p.numel() for p in network.parameters()),
        "forward_flops": count_forward(network, spec.image_size),
        **written,
    }
    update_card(target, accuracy={"top1": entry["top1"]})
    return entry, notes


def _export(
    network: nn.Module, spec: EncoderSpec, target: Path, told: dict[str, Any], training: Training
) -> tuple[dict[str, Any], list[str]]:
    """Writes a network, its ONNX twin and its card.

    Returns:
        `files` and `onnx` of its entry in the receipt, and lines that the user should read.
    """
    files, missing = export_encoder(network, spec, target, card=told)
    name = target.relative_to(training.folder.exported)
    notes = [f"{name}: {reason}" for reason in missing]
    if (absent := missing_extra()) is not None:
        return {"files": files, "onnx": None}, [*notes, absent]
    file = file_name(told, "onnx")
    try:
        pictures = _pictures(training.examiner, training.loader.source)
        twin = export_onnx(network, pictures, target / file, output_name(told))
    except WispError as error:  # a twin is a service; its failure must not cost the training
        return {"files": files, "onnx": None}, [*notes, f"{name}: {error}"]
    checks = {"onnx": {"images": f"{len(pictures)} training images", **(twin or {})}}
    update_card(target, files={"onnx": file}, checks=checks)
    return {"files": {**files, "onnx": file}, "onnx": twin}, notes


def _frozen(method: Method) -> bool:
    """Whether all encoders came as they are, and a classifier alone was trained."""
    return not any(p.requires_grad for encoder in method.encoders().values() for p in encoder.parameters())


def _untrained(encoder: nn.Module, examiner: Examiner) -> dict[str, Any] | None:
    """The same encoder before training, under the same protocol; None without labels."""
    scores = examiner.final(encoder.to(examiner.device))
    return None if scores is None else {"knn": scores[0], "linear": scores[1].accuracy}


def _teacher(teacher: Teacher | None, examiner: Examiner, task: Source) -> dict[str, Any]:
    """What the teacher of a task makes of the same questions; nothing where it names no classes."""
    answers = None if teacher is None else answers_of(teacher, examiner)
    if teacher is None or answers is None:
        return {}
    assert task.classes is not None, "a teacher that names classes was asked about them"
    return {
        "teacher": {
            "origin": teacher.origin,
            "classifier": "probed" if teacher.probed else "own",
            "top1": answers.top1,
            "answers": answers.told(task.classes),
        }
    }


def _protocol(examiner: Examiner) -> dict[str, Any]:
    """How the numbers of a receipt were measured."""
    labelled = examiner.train is not None and examiner.test is not None

    def readable(source: Source | None, role: Literal["train", "test"]) -> int:
        return len(source) - len(examiner.unreadable[role]) if labelled and source is not None else 0

    return {
        "knn": {"temperature": 0.07, "similarity": "cosine"},
        "linear": plain(Protocol()),
        "neighbours": readable(examiner.train, "train"),
        "questions": readable(examiner.test, "test"),
        "image_size": examiner.image_size,
        "epoch": "last",
        "encoder": "exported",
    }


def _gallery(encoder: nn.Module, examiner: Examiner, train: Source, path: Path) -> None:
    """Keeps held-out images (training images where nothing is held out) with their features in `path`."""
    source = examiner.test or train
    indices = range(0, len(source), -(-len(source) // MOST))
    features, seen = examiner.features(encoder, source, indices)
    side = min(SIDE, examiner.image_size)
    images = torch.stack([_thumbnail(source, index, side) for index in seen])
    labels = [source.label(index) for index in seen]
    made = Gallery(
        images=images.numpy(),
        features=features.numpy(),
        names=[source.name(index) for index in seen],
        labels=None if source.classes is None else np.array(labels, dtype=np.int64),
        classes=source.classes,
        held_out=examiner.test is not None,
    )
    save_gallery(made, path)


def _now() -> str:
    """The time of the receipt, UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _pictures(examiner: Examiner, source: Source) -> torch.Tensor:
    indices: Sequence[int] = [i % len(source) for i in range(_ONNX_IMAGES)]
    return examiner.images(source, indices)[0]


def _thumbnail(source: Source, index: int, side: int) -> torch.Tensor:
    try:
        image = source.read(index)
    except CorruptImage:  # its place on the map stays, its picture is black
        return torch.zeros(3, side, side, dtype=torch.uint8)
    middle: torch.Tensor = F.center_crop(F.resize(image, [side], antialias=True), [side, side])
    return middle
