"""How good what was exported is, on labelled images that may be others than its training's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from wisp.data.sources import Source, labels_of, open_source
from wisp.data.sources.source import printable, shown
from wisp.dividing import labelled, unlabelled
from wisp.errors import WispError, nearest
from wisp.evaluate.examiner import Examiner
from wisp.evaluate.features import Features
from wisp.evaluate.knn import knn
from wisp.evaluate.linear import Normalise, Protocol, linear
from wisp.evaluate.widths import slimmable, switchable
from wisp.export.card import CARD, read_card
from wisp.export.classifier import CLASSIFIER
from wisp.export.stock import load_encoder
from wisp.files import read_json
from wisp.train.folder import RunFolder, exported
from wisp.train.setup import device_kind

_OF_WIDTHS = ("switchable", "distilled", "slimmable")
PROTOCOLS = ("knn", "linear", "top1", *_OF_WIDTHS)


def evaluate(
    path: Path,
    *,
    data: str | None = None,
    val: str | None = None,
    protocol: str | None = None,
    encoder: str | None = None,
    augmented: int = 0,
    normalise: Normalise = "standardise",
    tell: Callable[[str], None] | None = None,
) -> dict[str, float]:
    """Accuracy in percent on labelled images of what was exported.

    Args:
        path: a run, an exported folder, or a file with the card beside it; of a file, these very weights.
        data: labelled images in which neighbours are looked for and on which the probe is trained; `top1` alone does
            without where `val` is given.
        val: labelled images that are asked about; a tenth of `data` unless given.
        protocol: `knn`, `linear`, `top1` (by the classifier that was trained with the encoder), or, of all encoders of
            a run together, `switchable` (a linear layer each), `distilled` (which also learn the first one's
            prediction) or `slimmable` (one layer for all); several with commas. A classifier's folder has `top1`, and
            so has a run with one where `data` is not given; anything else `knn,linear` unless given.
        encoder: which encoder of a run.
        augmented: passes of random crops and flips over the training images; with 1 or more the probe is trained on
            their features, an epoch on each in turn, and not on those of the plain images.
        normalise: what stands between features and probe: `standardise`, `batchnorm` (affine-free) or `none`.
        tell: takes a line on the images that were asked about, and one on those that cannot be read and are left out;
            nobody unless given.

    Raises:
        WispError: an unknown word or number, an option of the linear probe alone without it, no labels, classes that
            the classifier does not know, or nothing exported.
    """
    wanted = None if protocol is None else [word.strip() for word in protocol.split(",")]
    for word in wanted or ():
        if word not in PROTOCOLS:
            raise WispError(f"unknown protocol {word!r}; nearest: {', '.join(nearest(word, PROTOCOLS))}")
    probe = Protocol(normalise=normalise)
    if not 0 <= augmented <= probe.epochs:
        raise WispError(f"--augmented is {augmented}; it must be 0 to {probe.epochs}, one pass for an epoch at most")
    if wanted is not None and "linear" not in wanted and (augmented or probe != Protocol()):
        given = "--augmented" if augmented else "--normalise"
        raise WispError(f"{given} is for the linear probe alone; leave it out, or add linear to --protocol")
    of_widths = [word for word in wanted or () if word in _OF_WIDTHS]
    if of_widths and encoder is not None:
        raise WispError(f"--protocol {of_widths[0]} probes all encoders of a run; leave --encoder out")
    if data is None and val is None:
        raise WispError("--data is missing; it takes labelled images, of which a tenth is asked about")
    names = _encoders(path) if of_widths else []
    subject = exported(path, encoder)
    card = read_card(subject.parent if subject.is_file() else subject)
    classifies = card["kind"] == "classifier"
    named = data is None and (subject / CLASSIFIER / CARD).is_file()  # a classifier is all that can be asked
    wanted = wanted or (["top1"] if classifies or named else ["knn", "linear"])
    if classifies and {*wanted} != {"top1"}:
        raise WispError(f"{path} holds a classifier, which has --protocol top1; the others are for an encoder's folder")
    if data is None and {*wanted} != {"top1"}:
        raise WispError("--data is missing; --val alone is enough for --protocol top1 only")
    neighbours: Source | None = None
    if val is not None and {*wanted} == {"top1"}:  # nobody looks for neighbours, and the classifier knows its classes
        questions = open_source(val, "test")
    else:
        neighbours, questions = labelled(str(data), val)

    examiners: list[Examiner] = []

    def examiner(card: dict[str, Any]) -> Examiner:
        prepared = card["preprocessing"]
        made = Examiner(
            neighbours,
            questions,
            image_size=prepared["image_size"],
            mean=prepared["mean"],
            std=prepared["std"],
            device=torch.device(device_kind("auto")),
            batch_size=256,
        )
        examiners.append(made)
        return made

    def seen(place: Path) -> Features:
        asking = examiner(card)
        features = asking.both(load_encoder(place).to(asking.device), augmented=augmented)
        assert features is not None
        return features

    found: dict[str, float] = {}
    known: list[str] = []
    if {"knn", "linear"} & {*wanted}:
        features = seen(subject)
        found |= {f"kNN-{k}": value for k, value in knn(features).items()} if "knn" in wanted else {}
        found |= {"linear": linear(features, probe).accuracy} if "linear" in wanted else {}
    if "top1" in wanted:
        place = subject if classifies else _classifier(subject)
        told = read_card(place.parent if place.is_file() else place)
        asking = examiner(told)
        network = load_encoder(place).to(asking.device)
        known = told["classes"]
        found["top-1"] = asking.answers(network, numbers(known, questions)).top1
    if of_widths:
        found |= _probed({name: seen(exported(path, name)) for name in names}, of_widths)
    met = {(role, at): text for each in examiners for role, bad in each.unreadable.items() for at, text in bad.items()}
    unreadable = sorted(met.values())
    if tell is not None:
        tell(_asked(questions, {at for role, at in met if role == "test"}, known))
        if unreadable:
            tell(f"{len(unreadable)} left out that cannot be read: {shown(unreadable)}")
    return found


def _asked(questions: Source, left_out: set[int], known: list[str]) -> str:
    """What the accuracies are of, and how many would be right without looking.

    Args:
        questions: labelled.
        left_out: those of them that nobody was asked about.
        known: classes of the classifier that was asked; those without an image here are named.
    """
    assert questions.classes is not None
    asked = Counter(label for at, label in enumerate(labels_of(questions)) if at not in left_out)
    most = 100 * max(asked.values()) / asked.total()
    told = f"images asked about: {asked.total()}; classes: {len(asked)}, of which the largest has {most:.2f} % of them"
    there = {questions.classes[label] for label in asked}
    without = [printable(name) for name in known if name not in there]
    return f"{told}; none is of {shown(without)}, which the classifier knows" if without else told


def _encoders(path: Path) -> list[str]:
    """Names of a run's encoders.

    Raises:
        WispError: `path` is no finished run, or one with a single encoder.
    """
    result = RunFolder(path).result
    names = list(read_json(result)["encoders"]) if result.is_file() else []
    if len(names) < 2:
        raise WispError(f"{path} is no finished run of several encoders; a probe of widths needs one, as of slimclr")
    return names


def _classifier(subject: Path) -> Path:
    """The folder of the classifier that was trained with an encoder.

    Raises:
        WispError: there is none, or a file of weights is meant, for which none was trained.
    """
    place = subject / CLASSIFIER
    if not (place / CARD).is_file():
        raise WispError(f"{subject} has no classifier beside it; methods that need labels train one")
    return place


def numbers(known: list[str], questions: Source) -> list[int]:
    """The classifier's number of each class of the questions.

    Raises:
        WispError: no labels, or a class that the classifier does not know.
    """
    if questions.classes is None:
        raise WispError(f"the folder or file of the images to judge {unlabelled(questions)}")
    if tuple(known) == tuple(questions.classes):
        return list(range(len(known)))
    twice = [name for name in {*known, *questions.classes} if max(known.count(name), questions.classes.count(name)) > 1]
    if twice:
        raise WispError(f"two classes are called {printable(twice[0])}; rename one, for names tell them apart here")
    strange = [name for name in questions.classes if name not in known]
    if strange:
        raise WispError(
            f"the classifier does not know {shown([*map(printable, strange)])}; leave their images out, or rename the "
            f"class as one of those it knows: {shown([*map(printable, known)])}"
        )
    return [known.index(name) for name in questions.classes]


def _probed(features: dict[str, Features], protocols: list[str]) -> dict[str, float]:
    """Accuracy by protocol and encoder."""
    found: dict[str, float] = {}
    for word in protocols:
        scores = slimmable(features) if word == "slimmable" else switchable(features, distill=word == "distilled")
        found |= {f"{word} {name}": value for name, value in scores.items()}
    return found
