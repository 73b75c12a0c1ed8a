"""The road of a run: its parts add up to the whole, whatever wrote the receipt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from small_methods import SIZE, small_method, small_teacher
from wisp.cost.count import TrainingCost, count_training
from wisp.cost.ledger import Ahead, bill
from wisp.cost.road import Part, machine_name, off_the_shelf, road, total
from wisp.encoders import stock

HERE, THERE = "CPU, 2 threads", "a GPU"
RESULTS = Path(__file__).parents[2] / "results"


def cost(flops: int = 1000, seconds: float = 10.0, **more: object) -> dict[str, object]:
    return {"total_flops": flops, "seconds": seconds, "machine": HERE, **more}


def teacher(**more: object) -> dict[str, object]:
    return {"origin": "resnet50 by dino", "flops": 5000, "certainty": "known", "note": "", "labels": False, **more}


def written(parts: Sequence[Part]) -> tuple[dict[str, Any], ...]:
    """A run's road as the bill of a teacher has it."""
    return tuple(map(asdict, parts))


def test_a_run_alone_is_one_part() -> None:
    parts = road(cost())
    assert parts == (Part(kind="training", what="training", flops=1000, seconds=10.0, machine=HERE),)
    assert off_the_shelf(parts) == parts
    whole = total(parts)
    assert (whole.flops, whole.seconds, whole.certainty, whole.timed, whole.machines) == (
        1000,
        10.0,
        "known",
        True,
        (HERE,),
    )


def test_the_whole_road_of_a_distillation_adds_up() -> None:
    """The probe is a part of total_flops and not of seconds; generated images are of neither."""
    parts = road(
        cost(
            teacher=teacher(classifier="probed"),
            probe={"flops": 300, "seconds": 2.0},
            looks={"flops": 50, "seconds": 1.0},
            extra={"images": 6000, "pipeline": "tiny", "seconds": 40.0, "flops": 7000, "machine": THERE},
        )
    )
    assert [(part.kind, part.flops, part.seconds, part.machine) for part in parts] == [
        ("teacher", 5000, None, None),
        ("probe", 300, 2.0, HERE),
        ("looks", 50, 1.0, HERE),
        ("generation", 7000, 40.0, THERE),
        ("training", 650, 10.0, HERE),
    ]
    assert parts[3].what == "generation of 6,000 images by tiny"
    everything, shelf = total(parts), total(off_the_shelf(parts))
    assert everything.flops == 5000 + 1000 + 7000
    assert shelf.flops == everything.flops - 5000
    assert everything.seconds == shelf.seconds == 53.0
    assert (everything.timed, shelf.timed) == (False, True)  # nobody took the teacher's time
    assert shelf.machines == (HERE, THERE)


@pytest.mark.parametrize(
    ("of", "wanted"), [("known", "known"), ("estimated", "estimated"), ("unknown", "unknown"), (None, "unknown")]
)
def test_the_least_certain_part_speaks_for_the_sum(of: str | None, wanted: str) -> None:
    flops = None if of in ("unknown", None) else 5000
    parts = road(cost(teacher=teacher(flops=flops, certainty=of)))
    whole = total(parts)
    assert whole.certainty == wanted
    assert whole.flops == 1000 + (flops or 0), "what is known is the least that was paid"
    assert total(off_the_shelf(parts)).certainty == "known"


def test_extra_images_without_a_manifest_are_images_and_no_generation() -> None:
    """Somebody had them: nothing is known of a price, so none is missing."""
    parts = road(cost(extra={"images": 1200}), of="resnet8 by seed")
    assert [(part.kind, part.what) for part in parts] == [
        ("training", "training of resnet8 by seed, with 1,200 extra images")
    ]
    images = total(parts)
    assert (images.certainty, images.timed, images.flops) == ("known", True, 1000)
    told = total(road(cost(extra={"images": 12, "pipeline": "tiny", "seconds": None, "flops": None})))
    assert (told.certainty, told.timed, told.flops) == ("unknown", False, 1000)


def test_a_teachers_own_road_comes_along() -> None:
    """A student of a student: every part keeps its time and its machine, and all of it may be had off the shelf."""
    first = road(cost(4000, 90.0), of="resnet50 by dino")
    middle = cost(
        3000, 60.0, teacher=teacher(parts=written(first)), probe={"flops": 100, "seconds": 1.0}, machine=THERE
    )
    second = written(road(middle, of="resnet18 by kd"))
    last = road(json.loads(json.dumps(cost(teacher=teacher(flops=7000, parts=second)))))
    assert [(part.kind, part.what, part.flops, part.seconds, part.machine) for part in last] == [
        ("teacher", "training of resnet50 by dino", 4000, 90.0, HERE),
        ("teacher", "linear probe of resnet50 by dino", 100, 1.0, THERE),
        ("teacher", "distillation of resnet18 by kd", 2900, 60.0, THERE),
        ("training", "distillation", 1000, 10.0, HERE),
    ]
    assert total(last).flops == 8000
    assert total(off_the_shelf(last)).flops == 1000


def test_an_encoder_that_is_handed_out_pays_for_its_pre_training() -> None:
    """As in the paper's Figure 3; its own teacher, if it had one, is off the shelf."""
    before = written(road(cost(2000, 30.0, teacher=teacher()), of="resnet18 by seed"))
    parts = road(cost(10, 1.0, teacher=teacher(origin="resnet18 by seed", parts=before, handed_out=True)))
    assert [(part.kind, part.what, part.flops) for part in parts] == [
        ("teacher", "training of resnet50 by dino", 5000),
        ("pre-training", "distillation of resnet18 by seed", 2000),
        ("probe", "linear probe", 10),
    ]
    assert total(off_the_shelf(parts)).flops == 2010
    public = road(cost(10, 1.0, teacher=teacher(flops=None, certainty="unknown", handed_out=True)))
    assert [part.what for part in public] == ["pre-training of resnet50 by dino", "linear probe"]
    assert total(off_the_shelf(public)).certainty == "unknown", "a pre-training that nobody knows is not nothing"
    # and where that run teaches, no shelf has its probe
    kept = road(cost(teacher=teacher(parts=written(parts))))
    assert [part.kind for part in kept] == ["teacher", "teacher", "probe", "training"]


def test_a_probe_of_a_probe_pays_for_the_pre_training() -> None:
    first = road(cost(5, 1.0, teacher=teacher(flops=1000, handed_out=True)), of="resnet50 by probe")
    recorded = json.loads(json.dumps(written(first)))
    second = road(cost(7, 1.0, teacher=teacher(flops=1005, parts=recorded, handed_out=True)))
    assert [(part.kind, part.what, part.flops) for part in second] == [
        ("pre-training", "pre-training of resnet50 by dino", 1000),
        ("probe", "linear probe of resnet50 by probe", 5),
        ("probe", "linear probe", 7),
    ]
    assert total(second).flops == total(off_the_shelf(second)).flops == 1012
    of_before = [{**part, "kind": kind} for part, kind in zip(recorded, ("teacher", "probe"), strict=True)]
    assert road(cost(7, 1.0, teacher=teacher(parts=of_before, handed_out=True)))[0].kind == "pre-training"
    taught = road(cost(20, teacher=teacher(flops=1012, parts=written(second))))
    assert [part.kind for part in taught] == ["teacher", "probe", "probe", "training"]


def test_a_student_that_is_handed_out_pays_for_all_that_made_it() -> None:
    """Its teacher's probe, looks and images are its own bill, and only once it teaches itself a shelf may have them."""
    made = cost(
        65,
        3.0,
        teacher=teacher(),
        probe={"flops": 5, "seconds": 1.0},
        looks={"flops": 20, "seconds": 1.0},
        extra={"images": 9, "pipeline": "tiny", "seconds": 7200.0, "flops": 100, "machine": THERE},
    )
    recorded = json.loads(json.dumps(written(road(made, of="resnet18 by kd"))))
    parts = road(cost(15, 1.0, teacher=teacher(flops=5165, parts=recorded, handed_out=True)))
    shelf = off_the_shelf(parts)
    assert [(part.kind, part.flops) for part in shelf] == [
        ("probe", 5),
        ("looks", 20),
        ("generation", 100),
        ("pre-training", 40),
        ("probe", 15),
    ]
    assert (total(shelf).flops, total(shelf).seconds) == (180, 7200 + 1 + 1 + 3 + 1)
    assert total(parts).flops == 5180
    taught = road(cost(30, teacher=teacher(flops=5180, parts=written(parts))))
    assert total(off_the_shelf(taught)).flops == 15 + 30, "the probe of the one that teaches is no shelf's"


def test_what_one_device_did_before_the_launch_is_not_timed_by_two() -> None:
    pair = "2 x H100"
    named = {"flops": 5, "seconds": 1.0, "machine": "H100"}
    parts = road(cost(teacher=teacher(), probe=named, looks={"flops": 5, "seconds": 1.0}) | {"machine": pair})
    assert [part.machine for part in parts] == [None, "H100", pair, pair]  # a receipt of before names one machine


def test_a_teacher_that_learns_along_is_no_part_of_its_own() -> None:
    assert [part.kind for part in road(cost(teacher=teacher(flops=0)))] == ["training"]


@pytest.mark.parametrize("broken", [{}, {"total_flops": None}, {"total_flops": float("nan")}, {"total_flops": "many"}])
def test_nothing_recorded_is_no_road(broken: dict[str, object]) -> None:
    assert road(broken) == ()
    assert total(()).flops == 0


def test_damaged_parts_are_unknown() -> None:
    parts = road(cost(teacher=teacher(parts=[{"kind": "?", "flops": "x", "seconds": -1}]), probe=3, looks={}))
    assert [(part.kind, part.flops, part.seconds) for part in parts] == [
        ("teacher", None, None),
        ("looks", None, None),
        ("training", 1000, 10.0),
    ]
    assert total(parts).certainty == "unknown"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("distillation*/*.json")), ids=lambda path: path.stem)
def test_receipts_of_before_are_read(path: Path) -> None:
    receipt = json.loads(path.read_text(encoding="utf-8"))
    paid = receipt["cost"]
    parts = road(paid, machine=machine_name(receipt["hardware"]))
    whole, bill_before = total(parts), paid.get("teacher", {"flops": 0, "certainty": "known"})
    assert whole.flops == paid["total_flops"] + bill_before["flops"]
    assert whole.certainty == bill_before["certainty"]
    assert total(off_the_shelf(parts)).flops == paid["total_flops"]
    assert parts[-1].seconds == paid["seconds"]
    assert parts[-1].machine == f"{receipt['hardware']['name']}, 1 thread"


def test_a_probe_of_before_is_said_to_be_inside() -> None:
    *_, own = road(cost(teacher=teacher(classifier="probed")))
    assert (own.flops, own.what) == (1000, "distillation, and the teacher's probe, which was not timed")


def test_machines_have_names() -> None:
    assert machine_name({"device": "cpu", "name": "AMD EPYC", "threads": 1}) == "AMD EPYC, 1 thread"
    assert machine_name({"device": "cuda", "name": "H100", "threads": 8}, 4) == "4 x H100"
    assert machine_name({}) is None


@cache
def counted() -> TrainingCost:
    return count_training(small_method("barlow_twins"), 4, SIZE, steps=3)


def billed(**own: Any) -> Any:
    """What the ledger writes of three steps, as a receipt has it."""
    words = {"steps": 3, "batch_size": 4, "seconds": 6.0, "waited": 1.0, "machine": HERE, "ahead": {}} | own
    return json.loads(json.dumps(bill(counted(), device=torch.device("cpu"), **words)))


@pytest.mark.parametrize("handed_out", [False, True])
def test_the_ledger_writes_what_the_road_reads(handed_out: bool) -> None:
    taught = small_teacher(stock.spec("resnet8", SIZE))
    if not handed_out:
        taught.take(nn.Linear(taught.features, 3))
    ahead = {} if handed_out else {"probe": Ahead(flops=counted().flops // 4, seconds=1.5, machine=THERE)}
    parts = road(billed(ahead=ahead, teacher=taught, handed_out=handed_out))
    kinds = ["pre-training", "probe"] if handed_out else ["teacher", "probe", "training"]
    assert [part.kind for part in parts] == kinds
    assert total(parts).flops == taught.bill.flops + counted().flops
    assert total(parts[1:]).seconds == (6.0 if handed_out else 7.5)
    assert [part.machine for part in parts[1:]] == ([HERE] if handed_out else [THERE, HERE])


def test_the_ledger_says_which_machine_drew_the_images() -> None:
    """Half of a folder's images are used: half of what they took."""
    made = {"pipeline": "tiny", "seconds": 60.0, "flops": 4000, "hardware": {"device": "cuda", "name": "H100"}}
    images, _ = road(billed(extra=SimpleNamespace(extra=range(6), found=12, made=made)))
    assert (images.kind, images.flops, images.seconds, images.machine) == ("generation", 2000, 30.0, "H100")
    assert images.what == "generation of 6 images by tiny"
