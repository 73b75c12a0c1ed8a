"""`--extra`: further images are trained on, paid for and told of, and nothing that is evaluated or probed sees them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from small_methods import small_teacher
from small_runs import SMALL, Answer, Wisp, picture, write_classes, write_photos
from wisp import session
from wisp.cost.ledger import bill
from wisp.data.sources import CorruptImage, Source
from wisp.encoders import stock
from wisp.files import read_json
from wisp.methods import supervised, xd
from wisp.run import Run, difference, from_json, to_json
from wisp.session import Session, prepare, shareable
from wisp.teachers import remembering

SIZE = {"model": "resnet8", "image_size": 16, "batch_size": 8, "epochs": 2}
LABELLED = [word for word in SMALL if not word.startswith("--method") and word != "32"]


def write_synth(root: Path, images: int = 30, side: int = 70) -> Path:
    """Pictures of two classes and a manifest, as `wisp synthesize` leaves them."""
    for k in range(images):
        file = root / "ab"[k % 2] / f"{k:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(100 + k, side).save(file)
    made = {"schema": 1, "pipeline": "/models/tiny-diffusion", "seconds": 60.0, "flops": 9e9, "images": {}}
    (root / "manifest.json").write_text(json.dumps(made))
    return root


@pytest.fixture
def synth(tmp_path: Path) -> Path:
    return write_synth(tmp_path / "synth")


def prepared(data: Path, extra: str | None, config: Any = supervised, **more: Any) -> Session:
    return prepare(Run(data=str(data), extra=extra, method=config.Config(), **(SIZE | more)))


def shown(source: Source | None) -> set[str]:
    assert source is not None
    return {source.name(index) for index in range(len(source))}


def test_no_evaluation_sees_an_extra_image(classes: Path, synth: Path) -> None:
    plain, mixed = prepared(classes, None), prepared(classes, f"{synth}:1")
    assert (len(plain.train), len(mixed.train)) == (22, 44)
    assert sum(name.startswith("--extra") for name in shown(mixed.train)) == 22
    for own in (mixed.task, mixed.neighbours):
        assert shown(own) == shown(plain.train)
    assert shown(mixed.questions) == shown(plain.questions)
    examiner = mixed.examiner(torch.device("cpu"))
    assert (examiner.train, examiner.test) == (mixed.neighbours, mixed.questions)
    assert mixed.evaluation() == plain.evaluation()


def test_an_epoch_passes_over_both(classes: Path, synth: Path) -> None:
    resolved = prepared(classes, f"{synth}:1").resolved
    assert (resolved.images, resolved.extra, resolved.steps_per_epoch) == (44, 22, 5)
    resolved = prepared(classes, f"{synth}:1.25", subset=8).resolved
    assert (resolved.images, resolved.extra) == (18, 10)
    resolved = prepared(classes, None).resolved
    assert (resolved.images, resolved.extra) == (22, 0)


def test_a_method_knows_of_all_images_and_of_the_tasks_classes(
    classes: Path, synth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = []
    kept = session.Surroundings
    monkeypatch.setattr(session, "Surroundings", lambda **given: known.append(kept(**given)) or kept(**given))
    for config in (supervised, xd):
        prepared(classes, str(synth), config).method()
    assert [(given.images, given.classes) for given in known] == [(52, 2), (52, 2)]


def test_a_teacher_is_probed_on_the_tasks_own_images(
    classes: Path, synth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper fine-tunes its teacher on the task's training set."""
    probed: list[Source] = []
    monkeypatch.setattr(session, "probe_teacher", lambda teacher, source, **_: probed.append(source))
    monkeypatch.setattr(session, "Tutored", SimpleNamespace)
    found = prepared(classes, str(synth))
    asking = SimpleNamespace(asks_classes=True)
    teacher = SimpleNamespace(classifier=None, take=lambda made: None)
    run = SimpleNamespace(method=asking, data="classes", accelerator="cpu")
    replace(found, run=run, teacher=teacher).probe_teacher(lambda _: None)
    assert [shown(source) for source in probed] == [shown(found.task)]


def test_what_a_teacher_remembers_has_a_row_for_every_image(
    classes: Path, synth: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    teacher = small_teacher(stock.spec("resnet8", 16))
    looking: dict[str, Any] = {
        "data": "classes",
        "batch_size": 8,
        "device": torch.device("cpu"),
        "tell": lambda _: None,
    }

    def rows(extra: str) -> torch.Tensor:
        return remembering.remember(teacher, prepared(classes, extra).train, "features", **looking)

    first = rows(f"{synth}:1")
    assert len(first) == 44
    picture(7, 70).save(synth / "a" / "00.png")  # the kept file is of other images now
    again = rows(f"{synth}:1")
    assert [k for k in range(44) if not torch.equal(first[k], again[k])] == [22]


def test_labels_are_not_asked_for_without_a_need(photos: Path, classes: Path, tmp_path: Path) -> None:
    bare = write_photos(tmp_path / "bare")
    for data in (photos, classes):
        found = prepared(data, str(bare), xd)
        assert (len(found.train), found.train.classes) == (len(found.task) + 24, None)
        assert found.evaluation() == prepared(data, None, xd).evaluation()


def test_the_bill_has_a_share_of_what_the_images_cost(classes: Path, synth: Path) -> None:
    cost = SimpleNamespace(flops=1.0, step=SimpleNamespace(branches={}, flops=1.0, parameters=1, activations=1))
    words: dict[str, Any] = {"steps": 1, "batch_size": 1, "seconds": 1.0, "waited": 0.0, "machine": None}
    words |= {"device": torch.device("cpu"), "ahead": {}}

    def paid(extra: str | None) -> Any:
        return bill(cost, **words, extra=prepared(classes, extra).mixed).get("extra")

    share = 22 / 30
    made = {"images": 22, "pipeline": "tiny-diffusion", "seconds": pytest.approx(60 * share)}
    assert paid(f"{synth}:1") == {**made, "flops": pytest.approx(9e9 * share)}
    (synth / "manifest.json").write_text(json.dumps({"pipeline": "someone/sd", "seconds": 60.0, "flops": None}))
    assert paid(str(synth)) == {"images": 30, "pipeline": "someone/sd", "seconds": 60.0, "flops": None}
    (synth / "manifest.json").unlink()
    assert paid(f"{synth}:0") == {"images": 0}
    assert paid(None) is None


def test_it_is_part_of_the_experiment(classes: Path, synth: Path) -> None:
    run = Run(data=str(classes), extra=f"{synth}:2", method=xd.Config())
    assert from_json(json.dumps(to_json(run)), "run.json") == run
    assert shareable(run)["extra"] == "synth:2"
    assert difference(replace(run, extra=None), run) == [f"extra: {synth}:2 -> None"]
    old = to_json(run)
    del old["extra"]  # of a run before there was such an option
    assert from_json(json.dumps(old), "run.json") == replace(run, extra=None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, wisp: Wisp, quick: None) -> tuple[Path, Answer]:
    """A run on a task of 24 pictures and as many extra ones as its training part has; one of them cannot be read."""
    root = tmp_path_factory.mktemp("widened")
    data, synth = write_classes(root / "animals"), write_synth(root / "synth")
    (synth / "b" / "01.png").write_bytes(b"no picture")
    words = ["--data", data, "--extra", f"{synth}:1", *LABELLED, "--out", root / "run"]
    answer = wisp("pretrain", "supervised", *words)
    assert answer.code == 0, answer.err
    return root / "run", answer


def test_screen_receipt_card_log_and_report_name_both_parts(trained: tuple[Path, Answer]) -> None:
    folder, answer = trained
    assert "data  animals: 22 images, views" in answer.out
    assert "extra  synth: 22 of 30 images, 1 x the task's; an epoch passes over all 44" in answer.out
    assert "and 6.6 GFLOP of making the extra images" in answer.out
    receipt = read_json(folder / "result.json")
    assert receipt["recipe"]["extra"] == "synth:1"
    assert (receipt["resolved"]["images"], receipt["resolved"]["extra"], receipt["budget"]["images"]) == (44, 22, 44)
    assert receipt["cost"]["extra"]["images"] == 22
    assert receipt["protocol"]["neighbours"] == 22
    told = read_json(folder / "exported" / "1x" / "card.json")["data"]
    assert told == {"name": "animals", "images": 22, "classes": 2, "extra": {"name": "synth:1", "images": 22}}
    assert "animals (44 images, 22 of them extra: synth:1)" in (folder / "train.log").read_text()
    page = (folder / "report.html").read_text()
    assert "44 (22 extra)" in page
    assert "animals + synth:1" in page
    assert str(folder.parent) not in json.dumps(receipt)


def test_a_corrupt_extra_image_is_replaced_and_named(trained: tuple[Path, Answer]) -> None:
    assert read_json(trained[0] / "result.json")["replaced"] == 1
    assert "--extra synth/b/01.png: not an image" in (trained[0] / "train.log").read_text()


def test_the_same_run_with_other_extra_images_is_another_run(trained: tuple[Path, Answer], wisp: Wisp) -> None:
    root = trained[0].parent
    words = ["--data", root / "animals", *LABELLED, "--out", root / "run"]
    line = wisp("pretrain", "supervised", *words, "--extra", f"{root / 'synth'}:0.5").refusal()
    assert f"extra: {root / 'synth'}:1 -> {root / 'synth'}:0.5" in line


def test_other_images_in_the_folder_are_another_training(classes: Path, synth: Path) -> None:
    """As many of them are taken, and they are not the same."""
    before = prepared(classes, f"{synth}:0.5").resolved
    (synth / "a" / "new.png").write_bytes((synth / "b" / "29.png").read_bytes())
    after = prepared(classes, f"{synth}:0.5").resolved
    assert before.extra == after.extra
    assert after == replace(before, extra_found=before.extra_found + 1)


def test_views_are_labelled_by_the_class_of_each_extra_image(
    classes: Path, synth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wisp.data.loader import Loader
    from wisp.data.plans import PLANS

    found = prepared(classes, str(synth))
    told = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.2,) * 3, "batch_size": 52, "seed": 0}
    batch = next(Loader(found.train, PLANS[found.resolved.plan], **told, labels=True).epoch(0))
    assert batch.labels is not None
    by_name = {place: found.train.name(place).split("/")[-2][-1] for place in range(52)}
    assert ["ab"[label] for label in batch.labels.tolist()] == [by_name[place] for place in batch.index.tolist()]


def test_large_and_small_images_are_cut_side_by_side(tmp_path: Path, synth: Path) -> None:
    """A task of photographs keeps its sizes, and so do the extra images."""
    from wisp.data.loader import Loader
    from wisp.data.plans import PLANS

    large = write_classes(tmp_path / "large", side=80)
    found = prepared(large, str(synth))
    told = {"image_size": 16, "mean": (0.5,) * 3, "std": (0.2,) * 3, "batch_size": 52, "seed": 0}
    batch = next(Loader(found.train, PLANS[found.resolved.plan], **told).epoch(0))
    assert batch.views[0].shape == (52, 3, 16, 16)
    assert {tuple(found.train.read(place).shape) for place in (0, 51)} == {(3, 80, 80), (3, 70, 70)}
    (synth / "b" / "29.png").unlink()
    with pytest.raises(CorruptImage, match=r"--extra synth/b/29\.png"):
        found.train.open(51)
