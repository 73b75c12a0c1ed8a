"""What is filled in where a user left it open, and what is refused instead."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from small_runs import picture, write_classes
from wisp.data.plans import PLANS
from wisp.dividing import data_name, labelled, sources
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.methods import barlow_twins, sacl_xd, supervised
from wisp.resolve import SHORT, Resolved, fitting, resolve
from wisp.run import Run
from wisp.session import Session, prepare


def resolved(images: int = 50_000, **options: Any) -> Resolved:
    run = Run(method=barlow_twins.Config(), data="photos", **options)
    return resolve(run, barlow_twins.SETTINGS, stock.spec("resnet20"), images)


def test_a_long_run_is_the_papers() -> None:
    long = resolved()
    assert long.steps >= SHORT
    assert (long.optimizer, long.lr, long.epochs, long.warmup_steps) == ("lars", 0.3, 1000, 1950)


def test_a_short_run_takes_adamw_unless_told_otherwise() -> None:
    short = resolved(epochs=10)
    assert (short.optimizer, short.lr, short.warmup_steps) == ("adamw", 1e-3, 195)
    assert "ours" in short.source
    assert resolved(epochs=10, optimizer="lars").optimizer == "lars"
    assert resolved(epochs=10, lr=0.1).optimizer == "lars"


def test_another_optimizer_never_inherits_a_foreign_rate() -> None:
    assert resolved(optimizer="adamw").lr == 1e-3
    assert resolved(optimizer="sgd", lr=0.05).lr == 0.05
    with pytest.raises(WispError, match="name its --lr"):
        resolved(optimizer="sgd")
    run = Run(method=supervised.Config(), data="photos", optimizer="adamw", batch_size=256)
    assert resolve(run, supervised.SETTINGS, stock.spec("resnet20"), 50_000).lr == 1e-3


def test_the_batch_is_the_papers_or_half_of_the_images() -> None:
    assert resolved().batch_size == 256
    assert resolved(images=300, epochs=1).batch_size == 128
    with pytest.raises(WispError, match="larger than"):
        resolved(images=300, batch_size=301)


def planned(model: str, plan: str, **options: Any) -> Resolved:
    run = Run(method=supervised.Config(), data="photos", plan=plan)
    return resolve(run, supervised.SETTINGS, stock.spec(model, **options), 50_000)


@pytest.mark.parametrize(("plan", "size", "crops"), [("swav", 74, 32), ("dino", 74, 32), ("multicrop_small", 63, 32)])
def test_a_local_crop_is_no_smaller_than_the_stride(plan: str, size: int, crops: int) -> None:
    """The size in the remedy is the least one that is taken."""
    line = (
        f"the local crops of --plan {plan} have {crops - 1} px at --image-size {size - 1}, below the total stride 32 "
        f"of mobilenetv3_small_100; use --image-size {size} or more, --stem small, or another --plan"
    )
    with pytest.raises(WispError, match=line):
        planned("mobilenetv3_small_100", plan, image_size=size - 1)
    assert planned("mobilenetv3_small_100", plan, image_size=size).plan == plan
    assert planned("mobilenetv3_small_100", plan, image_size=size - 1, stem="small").plan == plan


def test_no_other_stem_is_named_where_there_is_none() -> None:
    with pytest.raises(WispError, match="stride 4 of resnet20; use --image-size 7 or more, or another --plan"):
        planned("resnet20", "multicrop_small", image_size=6)
    assert planned("resnet20", "multicrop_small").image_size == 32


def test_a_transformer_takes_local_crops_of_whole_patches() -> None:
    """The size in the remedy is the least one that is taken."""
    line = (
        r"^vit_tiny_patch16_224 does not take the 41 px crops of --plan dino \(Input height .*\); "
        "its patches have 16 px: use --image-size 112, or another --plan$"
    )
    with pytest.raises(WispError, match=line):
        fitting(stock.spec("vit_tiny_patch16_224", 96), PLANS["dino"])
    for size, plan in ((112, "dino"), (224, "swav"), (96, "multicrop_small")):
        assert fitting(stock.spec("vit_tiny_patch16_224", size), PLANS[plan]).any_size


def test_only_several_sizes_change_an_encoder() -> None:
    for model, plan in (("vit_tiny_patch16_224", "byol"), ("resnet20", "multicrop_small")):
        spec = stock.spec(model, 32)
        assert fitting(spec, PLANS[plan]) is spec


def test_an_encoder_of_one_size_takes_no_local_crops() -> None:
    line = (
        r"_s0 does not take the 96 px crops of --plan dino .*; use a convolutional --model or a ViT, or another --plan$"
    )
    with pytest.raises(WispError, match=line):
        fitting(stock.spec("efficientformerv2_s0"), PLANS["dino"])


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(WispError, match="before the dense start"):
        sacl_xd.Config(selection="once", dense_warmup=0.2)
    with pytest.raises(WispError, match="correlates with itself"):
        sacl_xd.Config(pairs="own", distill="inner_correlation")


def test_a_data_set_has_a_name_and_no_path() -> None:
    assert data_name("/home/somebody/photos") == "photos"
    assert data_name("/data/cifar10/train.parquet") == "cifar10/train.parquet"
    assert data_name("/data/shards/s-{000..012}.tar") == "s-{000..012}.tar"
    assert data_name("digits") == "digits"


def test_a_part_of_the_data_has_all_of_its_classes(classes: Path) -> None:
    run = Run(method=barlow_twins.Config(), data=str(classes), subset=5)
    train, neighbours, questions = sources(run)
    assert [train.label(k) for k in range(len(train))] == [0, 0, 0, 1, 1]
    assert neighbours is train
    assert questions is not None
    whole, *_ = sources(replace(run, subset=None))
    assert len(whole) + len(questions) == 24
    assert len({train.name(k) for k in range(5)}) == 5


ASK = {
    "pretrain": lambda data, val: sources(Run(method=barlow_twins.Config(), data=data, val=val)),
    "evaluate": labelled,
}


@pytest.fixture(params=ASK)
def ask(request: pytest.FixtureRequest) -> Callable[[str, str], object]:
    """How each verb finds its images: `ask(data, val)`."""
    return ASK[request.param]


@pytest.fixture
def splits(tmp_path: Path) -> Path:
    """A folder with `train/` and `val/`, two classes in each, and a link to the former beside it."""
    write_classes(tmp_path / "splits" / "train")
    write_classes(tmp_path / "splits" / "val")
    (tmp_path / "link").symlink_to("splits/train")
    return tmp_path / "splits"


@pytest.mark.parametrize("again", ["splits/train", "splits/val/../train", "link"])
@pytest.mark.parametrize("first", ["splits", "splits/train"])
def test_no_question_is_its_own_neighbour(
    ask: Callable[[str, str], object], splits: Path, first: str, again: str
) -> None:
    """By whatever path it is named: the answer would be 100 %."""
    with pytest.raises(WispError, match="--val holds the training images; leave it out and a tenth"):
        ask(str(splits.parent / first), str(splits.parent / again))


def test_the_other_split_of_the_same_data_may_be_asked_about(ask: Callable[[str, str], object], splits: Path) -> None:
    ask(str(splits), str(splits))
    ask("digits", "Digits")


def parquet(path: Path, labels: list[int | None]) -> Path:
    """One picture for each label."""
    files = []
    for k in range(len(labels)):
        stream = io.BytesIO()
        picture(k).save(stream, "PNG")
        files.append(stream.getvalue())
    pq.write_table(pa.table({"image": files, "label": pa.array(labels, pa.int64())}), path)
    return path


def alone(root: Path, count: int = 12) -> Path:
    """Folders with one picture in each."""
    for k in range(count):
        (root / f"{k:02}").mkdir(parents=True)
        picture(k).save(root / f"{k:02}" / "1.png")
    return root


def ready(data: Path, **options: Any) -> Session:
    run = Run(method=barlow_twins.Config(), data=str(data), model="resnet8", image_size=16, batch_size=8, epochs=1)
    return prepare(replace(run, **options))


@pytest.mark.parametrize("labels", [[0, 1, None, -1] * 6, [None] * 23 + [1]])
def test_labels_of_some_images_are_never_needed(tmp_path: Path, labels: list[int | None]) -> None:
    """They count for nothing: all of the images are trained on, and the reason is said."""
    session = ready(parquet(tmp_path / "x.parquet", labels))
    assert (len(session.train), session.neighbours, session.questions) == (24, None, None)
    missing = sum(label is None or label == -1 for label in labels)
    assert session.evaluation() == f"health only: {missing} of the images have no label; --val takes labelled ones"
    held_out = ready(tmp_path / "x.parquet", val=str(write_classes(tmp_path / "val")))
    assert held_out.evaluation() == "kNN and linear probe: 12 labelled images, 12 held out"


def test_a_folder_for_each_image_is_no_class(tmp_path: Path, classes: Path) -> None:
    session = ready(alone(tmp_path / "alone"))
    assert (len(session.train), session.neighbours, session.questions) == (12, None, None)
    assert session.evaluation() == "health only: no class has two images"
    elsewhere = ready(tmp_path / "alone", val=str(classes))
    assert elsewhere.evaluation() == "kNN and linear probe: 12 labelled images, 12 held out"
    assert elsewhere.neighbours is not elsewhere.train


def test_one_image_of_each_class_is_enough_to_look_in(tmp_path: Path) -> None:
    for k in range(12):
        (tmp_path / "val" / f"{k:02}").mkdir(parents=True)
        picture(99 + k).save(tmp_path / "val" / f"{k:02}" / "2.png")
    session = ready(alone(tmp_path / "alone"), val=str(tmp_path / "val"))
    assert session.neighbours is session.train
    assert session.evaluation() == "kNN and linear probe: 12 labelled images, 12 held out"


def test_what_no_label_free_method_is_refused_for(tmp_path: Path, photos: Path) -> None:
    """Who needs labels, or asks to be evaluated, learns that it cannot be done."""
    some, few = parquet(tmp_path / "x.parquet", [0, 1, None] * 8), alone(tmp_path / "alone")
    with pytest.raises(WispError, match=r"supervised needs labels: --data \S+ has no label for 8 of its images; leave"):
        ready(some, method=supervised.Config())
    with pytest.raises(WispError, match=r"supervised needs a class with two images, .* add images, or give --val"):
        ready(few, method=supervised.Config())
    with pytest.raises(WispError, match=r"--val \S+ has no label for 8 of its images; leave these out"):
        ready(photos, val=str(some))
    with pytest.raises(WispError, match=r"--val \S+ has no class with two images"):
        ready(photos, val=str(few))
    with pytest.raises(WispError, match=r"--data \S+ has no label for 8 of its images; leave these out"):
        labelled(str(some), None)
    with pytest.raises(WispError, match=r"--val \S+ has no label for 8 of its images; leave these out"):
        labelled(str(few), str(some))
