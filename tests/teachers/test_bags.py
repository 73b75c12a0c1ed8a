"""Bags are the nearest images by the teacher's features, found once, and what a training is shown images from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from small_methods import SIZE, small_teacher
from small_runs import SMALL, Wisp, picture, write_photos
from wisp import training
from wisp.cost.count import count_forward, count_training
from wisp.data.loader import Loader
from wisp.data.plain import plain_batches
from wisp.data.sources import Subset, open_source
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.run import from_json
from wisp.session import prepare
from wisp.teachers import bags
from wisp.teachers.bags import find_bags, nearest

STUDENT = stock.spec("resnet8", SIZE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def found():
    """`found(folder, count)`: the bags, and what was said."""

    def find(source, count=5, **changes):
        said = []
        options = {"data": "photos", "batch_size": 7, "device": torch.device("cpu"), "tell": said.append}
        source = open_source(str(source)) if isinstance(source, Path) else source
        return find_bags(small_teacher(STUDENT), source, count, **(options | changes)), said

    return find


@pytest.fixture
def rows() -> torch.Tensor:
    """40 rows of length 1; the 7th, 8th and 30th are equal."""
    found = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found[8] = found[30] = found[7]
    return torch.nn.functional.normalize(found, dim=1)


@pytest.mark.parametrize("block", [4096, 7, 40, 3])
def test_they_are_the_nearest_by_the_cosine_and_never_itself(rows, block, monkeypatch):
    monkeypatch.setattr(bags, "_BLOCK", block)
    calls = []
    found = nearest(rows, 5, progress=lambda done, of: calls.append((done, of)))
    assert found.dtype == torch.int64
    assert found.shape == (40, 5)
    for place, row in enumerate(rows):
        others = sorted(((float(row @ other), -i) for i, other in enumerate(rows) if i != place), reverse=True)
        mine = [float(row @ rows[i]) for i in found[place]]
        assert mine == pytest.approx([cosine for cosine, _ in others[:5]], abs=1e-6)
        assert place not in found[place]
        assert len(set(found[place].tolist())) == 5
    assert {8, 30} <= set(found[7].tolist())
    assert calls[-1] == (40, 40)


def test_lengths_mean_nothing(rows):
    longer = rows * torch.linspace(0.1, 90, len(rows), dtype=rows.dtype)[:, None]
    assert (nearest(longer, 3) != nearest(rows, 3)).float().mean() < 0.05, "but for the order of equal ones"


def test_all_others_may_be_asked_for(rows):
    assert all(
        sorted(row.tolist()) == [i for i in range(40) if i != place] for place, row in enumerate(nearest(rows, 39))
    )


def test_half_precision_is_enough(rows):
    apart = (nearest(rows.half(), 3) != nearest(rows, 3)).float().mean()
    assert apart < 0.1


def test_bags_are_of_the_teachers_features_without_its_head(photos, found):
    teacher, source = small_teacher(STUDENT), open_source(str(photos))
    sight = {"image_size": teacher.own.image_size, "mean": teacher.own.mean, "std": teacher.own.std}
    (images,) = plain_batches(source, range(24), batch_size=24, left_out=set(), **sight)
    with torch.no_grad():
        features = teacher.encoder(images)
    assert torch.equal(found(photos)[0], nearest(features.half(), 5))


def test_they_are_found_once(photos, found, cache):
    first, said = found(photos)
    assert first.dtype == torch.int64
    assert len(said) == 2
    assert "finding the 5 nearest of each of 24 images by the teacher small; they are kept in" in said[1]
    again, said = found(photos)
    assert torch.equal(first, again)
    assert said == []
    for features in cache.rglob("*.npy"):
        if "nearest" not in features.name:
            features.unlink()
    assert found(photos)[1] == [], "a training with known bags needs no features"


def test_another_number_is_another_file_of_the_same_features(photos, found, cache):
    five = found(photos)[0]
    three, said = found(photos, 3)
    assert len(said) == 1
    assert torch.equal(three, five[:, :3])
    assert len(list(cache.rglob("*.npy"))) == 3
    assert len(found(Subset(open_source(str(photos)), range(12)), 5)[0]) == 12
    assert torch.equal(found(photos)[0], five)


def test_changed_images_have_new_bags(photos, found, cache):
    five = found(photos)[0].clone()
    for place in range(12):
        picture(100 + place).save(photos / f"{place:02}.png")
    other, said = found(photos)
    assert "again: the images changed" in said[0]
    assert not torch.equal(other, five)
    assert len(list(cache.rglob("*.npy"))) == 2, "the stale ones are gone"
    assert {path.stem for path in cache.rglob("*.json")} == {path.stem for path in cache.rglob("*.npy")}


@pytest.mark.parametrize("damage", ["truncated", "emptied", "scribbled"])
def test_a_damaged_file_is_made_again_and_that_is_said(photos, found, cache, damage):
    five = found(photos)[0].clone()
    (file,) = cache.rglob("*nearest*.npy")
    content = file.read_bytes()
    file.write_bytes({"truncated": content[:-1], "emptied": b"", "scribbled": content[:-1] + b"\x7f"}[damage])
    again, said = found(photos)
    assert torch.equal(again, five)
    assert len(said) == 1
    assert "again: the kept file is damaged" in said[0]
    assert file.read_bytes() == content


def test_images_must_be_more_than_neighbours(photos, found, cache):
    with pytest.raises(WispError, match="24 images have no 24 neighbours each; use more than 24 images"):
        found(photos, 24)
    assert not cache.exists()
    assert found(photos, 23)[0].shape == (24, 23)


# from the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    torch.save(stock.spec("resnet8").build().state_dict(), tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"


@pytest.fixture
def distill(wisp: Wisp, teacher: Path):
    taught = ("--teacher", teacher, "--method.teacher-model", "resnet8", "--method.teacher-head", "none")

    def run(data: Path, out: Path, *more: str):
        return wisp("distill", "bingo", "--data", data, *SMALL[:-2], "--out", out, *taught, *more)

    return run


@pytest.mark.parametrize("side", [18, 70])
@pytest.mark.usefixtures("quick")
def test_a_training_shows_each_image_with_one_of_its_bag(distill, tmp_path, cache, side, monkeypatch):
    given = []

    class Watched(Loader):
        def __init__(self, *arguments, companions, **options):
            given.append(companions)
            super().__init__(*arguments, companions=companions, **options)

    monkeypatch.setattr(training, "Loader", Watched)
    data = write_photos(tmp_path / "large", side)
    answer = distill(data, tmp_path / "run", "--method.bag", "4")
    assert answer.code == 0, answer.err
    assert answer.out.count("finding the 4 nearest") == 1
    assert (tmp_path / "run" / "result.json").exists()
    (file,) = cache.rglob("*nearest-4.npy")
    assert torch.equal(given[0], torch.from_numpy(np.load(file)))
    session = prepare(from_json((tmp_path / "run" / "run.json").read_text(), "run.json"))
    steps = count_training(session.method(), 8, session.spec.image_size, 6).flops
    looks = 24 * count_forward(session.teacher.encoder, session.teacher.own.image_size)
    paid = json.loads((tmp_path / "run" / "result.json").read_text())["cost"]["total_flops"]
    assert paid == steps + looks + 2 * 24 * 24 * session.teacher.features
    other = distill(data, tmp_path / "other", "--method.bag", "4", "--seed", "1")
    assert other.code == 0, other.err
    assert "nearest" not in other.out, "they are known now"


def test_too_few_images_for_a_bag_are_refused_before_anything_is_written(distill, photos, tmp_path, cache):
    for place in range(4, 24):
        (photos / f"{place:02}.png").unlink()
    line = distill(photos, tmp_path / "run", "--batch-size", "2").refusal()
    assert line == (
        "a bag of 5 needs as many other images, and there are 4 in all; use more images, or --method.bag 3 or less"
    )
    assert not (tmp_path / "run").exists()
    assert not cache.exists()
