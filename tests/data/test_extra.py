"""Which extra images are taken, what they are called, and how they look beside the task's own."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from reading import labels, names
from wisp.data.cache import common_size, decoded_once
from wisp.data.extra import mix, parted, pathless
from wisp.data.sources import CorruptImage, Subset, open_source
from wisp.errors import WispError


@pytest.fixture
def task(write_folder):
    """Two images each of cat and dog, 20 x 16 pixels."""
    return open_source(str(write_folder(["cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png"], name="task")))


@pytest.fixture
def synth(write_folder):
    """Two images of cat and six of dog, 90 x 60 pixels."""
    files = [f"cat/{k}.png" for k in range(2)] + [f"dog/{k}.png" for k in range(6)]
    return write_folder(files, name="synth", size=(90, 60))


def mixed(task, extra, **options):
    return mix(task, str(extra), **{"labels": True, "own": task.places()} | options)


def test_all_extra_images_follow_the_tasks_own_under_names_of_their_own(task, synth):
    source = mixed(task, synth)
    assert len(source) == 12
    assert names(source)[:5] == [*names(task), "--extra synth/cat/0.png"]
    assert len(set(names(source))) == 12
    assert source.classes == ("cat", "dog")
    assert labels(source) == [0, 0, 1, 1, 0, 0, *[1] * 6]
    assert source.places() == task.places() | open_source(str(synth)).places()
    assert source.told().startswith("synth: all 8 images, 2 x the task's; an epoch passes over all 12")


def test_labels_go_by_name_and_not_by_number(write_folder, task):
    both = write_folder(["dog/1.png", "cat/1.png"], name="both")
    alone = write_folder(["dog/1.png", "dog/2.png"], name="alone")
    assert labels(mixed(task, both))[4:] == [0, 1]
    source = mixed(task, alone)  # one folder is no data set with classes, and says of which class its images are
    assert labels(source)[4:] == [1, 1]
    assert source.told().endswith("none of cat")


def test_a_slash_in_a_class_stands_as_an_underscore_in_a_folder(write_folder, task):
    task.classes = ("F/A-18", "dog")
    source = mixed(task, write_folder(["F_A-18/1.png", "dog/1.png"], name="jets"))
    assert labels(source)[4:] == [0, 1]


@pytest.mark.parametrize(("ratio", "per_class"), [("0", {}), ("0.5", {0: 1, 1: 1}), ("1.5", {0: 2, 1: 4})])
def test_a_ratio_is_of_the_task_and_even_over_the_classes(ratio, per_class, task, synth):
    source = mixed(task, f"{synth}:{ratio}")
    assert len(source) == 4 + round(float(ratio) * 4)
    assert Counter(labels(source)[4:]) == per_class


def test_a_part_is_spread_over_its_class_and_always_the_same(task, synth):
    source = mixed(task, f"{synth}:1.25")
    assert names(source)[4:] == [f"--extra synth/{name}.png" for name in ("cat/0", "cat/1", "dog/0", "dog/2", "dog/4")]
    assert names(mixed(task, f"{synth}:1.25")) == names(source)


def test_a_ratio_counts_the_task_after_its_subset(task, synth):
    assert len(mixed(Subset(task, [0, 2]), f"{synth}:2")) == 6


def test_without_a_need_for_labels_any_images_will_do(write_folder, task):
    photos = write_folder(["x/1.png", "y/z/2.png", "3.png"], name="photos")
    source = mixed(task, photos, labels=False)
    assert (len(source), source.classes, labels(source)) == (7, None, [None] * 7)
    assert source.missing_labels == 3
    bare = open_source(str(write_folder(["1.png", "2.png"], name="bare")))
    assert mixed(bare, photos, labels=False).missing_labels == 0


def test_extra_images_of_another_size_take_that_of_a_small_task(task, synth):
    source = mixed(task, synth)
    assert {tuple(source.read(k).shape) for k in range(12)} == {(3, 16, 20)}
    assert source.open(11).size == (20, 16)
    seen = decoded_once(source, lambda *_: None)
    assert seen is not None
    assert torch.equal(seen[0][11], source.read(11))
    whole = open_source(str(synth)).read(7).float()
    assert source.read(11).float().mean() == pytest.approx(whole.mean(), abs=8)  # the same picture, smaller
    assert source.told().endswith("brought to the task's 20 x 16 px")


@pytest.mark.parametrize("sizes", [((90, 60), (90, 60)), ((20, 16), (16, 16))])
def test_otherwise_every_image_keeps_its_size(sizes, write_folder, encoded, picture, synth):
    files = {f"{name}/1.png": encoded(picture(k, *sizes[k])) for k, name in enumerate(("cat", "dog"))}
    source = mixed(open_source(str(write_folder(files, name="uneven"))), synth)
    assert source.read(9).shape == (3, 60, 90)
    assert decoded_once(source, lambda *_: None) is None


def test_the_size_of_a_task_is_told_by_its_readable_images(write_folder, encoded, picture):
    files = {"a/0.png": b"no picture", "a/1.png": encoded(picture(1)), "b/2.png": encoded(picture(2))}
    assert common_size(open_source(str(write_folder(files)))) == (20, 16)
    assert common_size(open_source(str(write_folder({"x.png": b""}, name="none")))) is None


def test_a_corrupt_extra_image_is_named_as_one(task, write_folder, encoded, picture):
    files = {"cat/1.png": b"no picture", "dog/1.png": encoded(picture(1, 90, 90))[:900]}
    source = mixed(task, write_folder(files, name="broken"))
    for index, name in ((4, "cat/1.png: not an image"), (5, "dog/1.png: ")):
        with pytest.raises(CorruptImage, match=f"--extra broken/{name}"):
            source.read(index)


def test_a_manifest_is_no_image_and_is_read(task, synth):
    assert mixed(task, synth).made is None
    for text in ("{", "[]", '{"files": 3}'):  # another program's
        (synth / "manifest.json").write_text(text)
        assert mixed(task, synth).made is None
    (synth / "manifest.json").write_text(json.dumps({"pipeline": "tiny", "seconds": 4.0}))
    source = mixed(task, synth)
    assert (len(source), source.made) == (12, {"pipeline": "tiny", "seconds": 4.0})


# the words of --extra


def test_a_folder_with_a_colon_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a:b", "c", "c:2", "digits"):
        Path(name).mkdir()
    assert parted("a:b") == (Path("a:b"), None)
    assert parted("a:b:0.5") == (Path("a:b"), 0.5)
    assert parted("c:2") == (Path("c:2"), None)
    assert parted("./c/:2") == (Path("c"), 2.0)
    assert parted("c:1e-1") == (Path("c"), 0.1)
    assert [pathless(text) for text in ("x/a:b", "/x/a:b:0.5", "gone/c:2", "/x/c/:2")] == [
        "a:b",
        "a:b:0.5",
        "c:2",
        "c:2",
    ]


def test_a_folder_is_meant_even_where_a_data_set_has_its_name(tmp_path, monkeypatch, task, write_folder):
    write_folder(["cat/1.png", "dog/1.png"], name="digits")
    monkeypatch.chdir(tmp_path)
    assert len(mixed(task, "digits")) == 6


@pytest.mark.parametrize("ratio", ["-1", "nan", "inf", "two", ""])
def test_a_ratio_that_is_none(ratio, task, synth):
    with pytest.raises(WispError, match=f'the ratio behind the colon is "{ratio}"; it must be a number of 0 or more'):
        mixed(task, f"{synth}:{ratio}")


def test_more_images_than_there_are(task, synth):
    with pytest.raises(
        WispError, match=r":3 wants 12 images, 3 x the 4 of the task, and .*synth has 8; use .*synth:2 or"
    ):
        mixed(task, f"{synth}:3")


@pytest.mark.parametrize(("text", "said"), [("gone", "gone"), ("gone:2", "gone"), ("gone:x", "gone:x"), (":2", ":2")])
def test_a_folder_that_is_not_there(text, said, task):
    with pytest.raises(WispError, match=f'--extra: no such folder "{said}"; name one of class folders'):
        mixed(task, text)


def test_images_that_are_the_tasks_own(task, synth):
    with pytest.raises(WispError, match="holds images of the task itself"):
        mixed(task, task.root)
    with pytest.raises(WispError, match="holds images of the task itself"):
        mixed(task, synth, own={str((synth / "dog" / "3.png").resolve())})


def test_classes_that_are_missing_or_unknown(task, write_folder):
    with pytest.raises(WispError, match=r"bare has no labels, and the method needs them"):
        mixed(task, write_folder(["1.png"], name="bare"))
    with pytest.raises(WispError, match=r"classes that --data does not have \(bird, cow\): rename"):
        mixed(task, write_folder(["cat/1.png", "bird/1.png", "cow/1.png"], name="zoo"))
