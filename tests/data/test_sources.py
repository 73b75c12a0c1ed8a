from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from reading import array, labels, names
from wisp.data.sources import (
    CorruptImage,
    Subset,
    labels_of,
    open_source,
    shown,
    split_source,
)
from wisp.errors import WispError

# folders


def test_nested_folder_is_unlabelled_and_sorted(write_folder, picture):
    root = write_folder(["b/x/2.png", "b/1.png", "a/y/z/9.PNG", "top.png"])
    source = open_source(str(root))
    assert names(source) == ["a/y/z/9.PNG", "b/1.png", "b/x/2.png", "top.png"]
    assert source.classes is None
    assert labels(source) == [None] * 4
    assert torch.equal(source.read(2), array(picture(0)))


def test_class_folders_give_labels(write_folder):
    source = open_source(str(write_folder(["dog/1.png", "cat/7.png", "dog/2.png", "ant/3.png"])))
    assert source.classes == ("ant", "cat", "dog")
    assert labels(source) == [0, 1, 2, 2]


@pytest.mark.parametrize("files", [["only/1.png", "only/2.png"], ["a/1.png", "b/2.png", "top.png"], ["1.png", "2.png"]])
def test_other_layouts_have_no_classes(files, write_folder):
    assert open_source(str(write_folder(files))).classes is None


def test_hidden_and_foreign_files_are_left_out(write_folder):
    files = {
        "a/1.png": b"",
        "a/._1.png": b"",
        ".trash/2.png": b"",
        "a/notes.txt": b"",
        "a/.DS_Store": b"",
        "b/3.jpeg": b"",
    }
    assert names(open_source(str(write_folder(files)))) == ["a/1.png", "b/3.jpeg"]


def test_links_are_followed_but_not_for_ever(write_folder):
    root = write_folder(["a/1.png"])
    elsewhere = write_folder(["2.png"], name="elsewhere")
    (root / "b").symlink_to(elsewhere)
    (root / "a" / "up").symlink_to(root)
    assert names(open_source(str(root))) == ["a/1.png", "b/2.png"]


def test_file_that_vanished_is_corrupt(write_folder):
    source = open_source(str(write_folder(["1.png"])))
    os.remove(Path(source.root) / "1.png")
    with pytest.raises(CorruptImage, match=r"1\.png: no such file"):
        source.read(0)


def test_unprintable_names_are_escaped(tmp_path, write_folder):
    root = write_folder(["a/1.png"])
    (root / "b").mkdir()
    os.rename(os.fsencode(root / "a" / "1.png"), os.fsencode(root / "b") + b"/caf\xe9\x1b[31m.png")
    source = open_source(str(root))
    assert names(source) == ["b/caf\\udce9\\x1b[31m.png"]
    assert source.read(0).shape == (3, 16, 20)


def test_folder_with_split_names(write_folder):
    root = write_folder(["train/a/1.png", "train/b/2.png", "val/a/3.png", "val/b/4.png"])
    assert names(open_source(str(root))) == ["a/1.png", "b/2.png"]
    assert names(open_source(str(root), "test")) == ["a/3.png", "b/4.png"]
    assert open_source(str(root)).classes == ("a", "b")


def test_a_class_called_train_is_no_split(write_folder):
    source = open_source(str(write_folder(["train/1.png", "plane/2.png", "ship/3.png"])))
    assert source.classes == ("plane", "ship", "train")
    assert len(open_source(str(write_folder(["train/1.png", "plane/2.png"])), "test")) == 3


def test_a_photo_may_be_called_like_a_split(write_folder):
    files = [*(f"img_{k:02}.jpg" for k in range(20)), "train_station.jpg", "test.jpg", "val/eval.jpg", "val/train.jpg"]
    root = str(write_folder(files))
    for split in ("train", "test"):
        assert names(open_source(root, split)) == sorted(files)


@pytest.mark.parametrize(
    ("files", "train", "test", "classes"),
    [
        ("train/1 val/2 train/3", "1 3", "2", None),
        ("Training/1 Valid/2", "1", "2", None),
        ("train_images/1 test_images/2", "1", "2", None),
        ("set/train/a/1 set/train/b/2 set/val/a/3 set/val/b/4", "a/1 b/2", "a/3 b/4", ("a", "b")),
        ("images/train/1 masks/train/1 images/val/2 masks/val/2", "images/train/1 masks/train/1", "", None),
        ("cup/train/good/1 cup/test/bad/2 nut/train/good/3", "cup/train/good/1 nut/train/good/3", "bad/2", None),
    ],
    ids=["top", "other words", "first words", "below a wrapper", "below each kind", "below each class"],
)
def test_folders_name_splits_on_one_level(files, train, test, classes, write_folder):
    root = str(write_folder([f"{file}.png" for file in files.split()]))
    found = open_source(root)
    assert names(found) == [f"{file}.png" for file in train.split()]
    assert found.classes == classes
    if test:
        assert names(open_source(root, "test")) == [f"{file}.png" for file in test.split()]


@pytest.mark.parametrize(
    "files",
    [
        "train_station/1 test_tube/2 apple/3",
        "2023/train/1 2024/test/2 2024/rome/3",
        "train/1 train/2 extra/3",
        "train2017/1 val2017/2",
    ],
)
def test_other_names_leave_nothing_out(files, write_folder):
    files = [f"{file}.png" for file in files.split()]
    root = str(write_folder(files))
    assert names(open_source(root)) == names(open_source(root, "test")) == sorted(files)


@pytest.mark.parametrize(
    ("files", "inside", "named"),
    [
        ("train/a/1 val/a/2 unlabelled/3", "", "train/ and val/"),
        ("train/1 test/2 val/3 3", "", "test/ and train/ and val/"),
        ("set/Train/1 set/Test/2 set/x/y/3", "/set", "Test/ and Train/"),
    ],
)
def test_images_beside_the_splits_are_neither_dropped_nor_taken(files, inside, named, write_folder):
    root = write_folder([f"{file}.png" for file in files.split()])
    stray = f"{files.split()[-1]}.png"
    for split in ("train", "test"):
        with pytest.raises(WispError) as refusal:
            open_source(str(root), split)
        assert str(refusal.value) == (
            f'"{root}{inside}" has other images beside {named} ({stray}): '
            "give one of these folders, or move the other images into them"
        )


@pytest.mark.parametrize("layout", [[], ["sub/"]])
def test_empty_folder(layout, tmp_path):
    for folder in layout:
        (tmp_path / folder).mkdir()
    with pytest.raises(WispError, match="is empty" if not layout else "no image in the folder"):
        open_source(str(tmp_path))


def test_folder_without_images_names_the_extensions(write_folder):
    with pytest.raises(WispError, match=r"no image in the folder .* \.jpg .*\.png .*\.parquet and \.tar"):
        open_source(str(write_folder({"readme.txt": b"hello"})))


def test_a_file_is_not_a_folder(write_folder):
    with pytest.raises(WispError, match=r'"\S+1.png" is a file, not a folder of images: give its folder'):
        open_source(str(write_folder(["1.png"]) / "1.png"))


@pytest.mark.parametrize(("wrong", "right"), [("digit", "digits"), ("cifar1", "CIFAR10"), ("Cifar-100", "CIFAR100")])
def test_unknown_name_gets_the_nearest(wrong, right):
    with pytest.raises(WispError, match=f'no such folder or data set "{wrong}"; nearest: {right}, .*, '):
        open_source(wrong)


def test_missing_folder_gets_its_neighbours(write_folder, tmp_path):
    write_folder(["1.png"], name="photos")
    with pytest.raises(WispError, match=rf'no such folder or data set "\S+photo"; nearest: {tmp_path}/photos$'):
        open_source(str(tmp_path / "photo"))


def test_the_folder_above_may_be_the_wrong_one(write_folder, tmp_path):
    write_folder(["train/1.png"], name="photos")
    with pytest.raises(WispError, match=rf"nearest: {tmp_path}/photos/train$"):
        open_source(str(tmp_path / "photo" / "train"))


# parts of a source


def test_subset_is_some_images():
    whole = open_source("digits")
    part = Subset(whole, [5, 9, 7])
    assert len(part) == 3
    assert torch.equal(part.read(1), whole.read(9))
    assert names(part) == [whole.name(k) for k in (5, 9, 7)]
    assert labels(part) == [whole.label(k) for k in (5, 9, 7)]
    assert part.classes == whole.classes


def test_split_is_stratified_seeded_and_complete():
    source = Subset(open_source("digits"), range(300))
    train, val = split_source(source, 0.1, seed=3)
    assert sorted([*train.indices.tolist(), *val.indices.tolist()]) == list(range(300))
    assert set(labels(val)) == set(range(10))
    assert 25 <= len(val) <= 35
    assert val.indices.tolist() == split_source(source, 0.1, seed=3)[1].indices.tolist()
    assert val.indices.tolist() != split_source(source, 0.1, seed=4)[1].indices.tolist()
    assert torch.equal(val.read(2), source.read(int(val.indices[2])))
    assert val.name(2) == source.name(int(val.indices[2]))


def test_split_keeps_the_only_image_of_a_class(write_folder):
    source = open_source(str(write_folder(["a/1.png", "b/1.png", "b/2.png"])))
    train, val = split_source(source, 0.5, seed=0)
    assert labels(train) == [0, 1]
    assert labels(val) == [1]


def test_split_needs_labels(write_folder):
    source = open_source(str(write_folder(["1.png", "2.png"])))
    for wants_labels in (split_source, labels_of):
        with pytest.raises(WispError, match="have no labels: use one sub-folder per class"):
            wants_labels(source)
    with pytest.raises(WispError, match="between 0 and 1"):
        split_source(open_source("digits"), 1.0)
    with pytest.raises(WispError, match="no class has two images"):
        split_source(Subset(open_source("digits"), range(10)))


def test_shown_is_short():
    assert shown(["a", "b"]) == "a, b"
    assert shown(list("abcde")) == "a, b, c and 2 more"
