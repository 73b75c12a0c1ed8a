from __future__ import annotations

import json
import os
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor

from wisp.data.sources import (
    NAMES,
    CorruptImage,
    Source,
    Subset,
    labels_of,
    open_source,
    shown,
    split_source,
)
from wisp.data.sources import parquet as parquet_module
from wisp.errors import WispError


def array(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def names(source: Source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def labels(source: Source) -> list[int | None]:
    return [source.label(i) for i in range(len(source))]


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
    with pytest.raises(WispError, match=rf'no such folder or data set "\S+photo"; nearest: {tmp_path}/photos, '):
        open_source(str(tmp_path / "photo"))


# parquet


def test_parquet_with_class_names(write_parquet, encoded, picture):
    images = [encoded(picture(k)) for k in range(10)]
    source = open_source(str(write_parquet(images, [k % 2 for k in range(10)], names=["cat", "dog", "emu"])))
    assert source.classes == ("cat", "dog", "emu")
    assert labels(source) == [0, 1] * 5
    assert source.name(7) == "train.parquet row 7 (pic7.png)"
    for k in (9, 0, 4, 3):
        assert torch.equal(source.read(k), array(picture(k)))


def test_parquet_without_names_or_labels(write_parquet, encoded, picture):
    images = [encoded(picture(k)) for k in range(3)]
    assert open_source(str(write_parquet(images, [0, 2, 2], file="a.parquet"))).classes == ("0", "1", "2")
    assert open_source(str(write_parquet(images, [-1, -1, -1], file="b.parquet"))).classes is None
    assert open_source(str(write_parquet(images, file="c.parquet"))).classes is None
    words = open_source(str(write_parquet(images, ["dog", "cat", "dog"], file="d.parquet")))
    assert (words.classes, labels(words)) == (("cat", "dog"), [1, 0, 1])


def test_parquet_with_plain_bytes(tmp_path, encoded, picture):
    pq.write_table(pa.table({"img": [encoded(picture(0))], "fine_label": [5]}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"))
    assert torch.equal(source.read(0), array(picture(0)))
    assert source.name(0) == "x.parquet row 0"
    assert source.label(0) == 5


def test_parquet_folder_takes_its_split(write_parquet, encoded, picture, tmp_path):
    for k, file in enumerate(["train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001"]):
        write_parquet([encoded(picture(k))], [k], file=f"data/{file}.parquet")
    train = open_source(str(tmp_path))
    assert [torch.equal(train.read(k), array(picture(k))) for k in range(len(train))] == [True, True]
    assert train.name(1) == "train-00001-of-00002.parquet row 0 (pic0.png)"
    test = open_source(str(tmp_path), "test")
    assert torch.equal(test.read(0), array(picture(2)))
    assert len(test) == 1


def test_parquet_files_of_two_data_sets(write_parquet, encoded, picture, tmp_path):
    write_parquet([encoded(picture(0))], [0], names=["cat"], file="a.parquet")
    write_parquet([encoded(picture(0))], [0], names=["tench"], file="b.parquet")
    with pytest.raises(WispError, match="name different classes"):
        open_source(str(tmp_path))


def test_large_parquet_is_read_by_row_groups(write_parquet, encoded, picture, monkeypatch):
    path = str(write_parquet([encoded(picture(k)) for k in range(11)]))
    monkeypatch.setattr(parquet_module, "_RESIDENT", 0)
    source = open_source(path)
    assert not source._held
    for k in (10, 3, 4, 0):
        assert torch.equal(source.read(k), array(picture(k)))
        assert len(source._held) == 1
    monkeypatch.setattr(parquet_module, "_GROUP", 100)
    with pytest.raises(WispError, match="write it again with row_group_size=100"):
        open_source(path)


def test_pickled_parquet_source_leaves_the_images_behind(write_parquet, encoded, picture):
    source = open_source(str(write_parquet([encoded(picture(k, 200, 200)) for k in range(8)])))
    frozen = pickle.dumps(source)
    assert len(frozen) < 5_000
    assert torch.equal(pickle.loads(frozen).read(6), source.read(6))


def test_parquet_row_without_bytes(write_parquet):
    with pytest.raises(CorruptImage, match=r"train.parquet row 0 \(pic0.png\): the row holds no image bytes"):
        open_source(str(write_parquet([None]))).read(0)


def test_parquet_without_image_column(write_parquet, tmp_path):
    with pytest.raises(WispError, match=r"has no column `image` \(it has picture, label\): write"):
        open_source(str(write_parquet([b""], [1], column="picture")))
    pq.write_table(pa.table({"image": [1, 2]}), tmp_path / "numbers.parquet")
    with pytest.raises(WispError, match="must hold encoded images"):
        open_source(str(tmp_path / "numbers.parquet"))


def test_parquet_without_rows_or_that_is_none(write_parquet, tmp_path):
    with pytest.raises(WispError, match="has no rows"):
        open_source(str(write_parquet([], pa.array([], pa.int64()))))
    (tmp_path / "fake.parquet").write_bytes(b"not a parquet file at all")
    with pytest.raises(WispError, match=r"cannot read .*fake\.parquet"):
        open_source(str(tmp_path / "fake.parquet"))


# tar shards


@pytest.fixture
def shards(write_tar, encoded, picture, tmp_path):
    for shard in range(3):
        members = {}
        for k in range(2):
            number = 2 * shard + k
            members[f"s{number}.cls"] = str(number % 2).encode()
            members[f"s{number}.png"] = encoded(picture(number))
        write_tar(members, f"set-{shard:03d}.tar")
    return tmp_path


@pytest.mark.parametrize("pattern", ["", "set-{000..002}.tar", "set-*.tar", "set-{000,001,002}.tar"])
def test_shards_by_folder_braces_and_wildcard(pattern, shards, picture):
    source = open_source(str(shards / pattern) if pattern else str(shards))
    assert len(source) == 6
    assert labels(source) == [0, 1] * 3
    assert source.classes == ("0", "1")
    assert source.name(3) == "set-001.tar:s3.png"
    for k in (5, 0, 3):
        assert torch.equal(source.read(k), array(picture(k)))
    assert torch.equal(pickle.loads(pickle.dumps(source)).read(4), source.read(4))


def test_one_shard_with_json_labels(write_tar, encoded, picture):
    members = {f"d/{k}.png": encoded(picture(k)) for k in range(3)}
    members |= {f"d/{k}.json": json.dumps({"label": 2 - k}).encode() for k in range(3)}
    source = open_source(str(write_tar(members)))
    assert labels(source) == [2, 1, 0]
    assert len(source.classes) == 3


def test_shard_labels_count_only_when_complete(write_tar, encoded, picture):
    members = {
        "1.png": encoded(picture(1)),
        "1.cls": b"0",
        "2.png": encoded(picture(2)),
        "._2.png": b"",
        "2.txt": b"cat",
    }
    source = open_source(str(write_tar(members)))
    assert source.classes is None
    assert labels(source) == [None, None]


def test_bad_shards(write_tar, encoded, picture, tmp_path):
    with pytest.raises(WispError, match="only uncompressed tar files"):
        open_source(str(write_tar({"1.png": encoded(picture(1))}, "packed.tar", "w:gz")))
    with pytest.raises(WispError, match=r"no image in .* looked for members ending in \.jpg"):
        open_source(str(write_tar({"1.txt": b"hello"}, "texts.tar")))
    with pytest.raises(WispError, match='no file matches "none-'):
        open_source("none-{0..3}.tar")


# data sets by name


def test_digits_are_real_fixed_and_stratified():
    train, test = open_source("digits"), open_source("digits", "test")
    assert (len(train), len(test)) == (1442, 355)
    assert not set(names(train)) & set(names(test))
    assert train.read(0).shape == (3, 32, 32)
    assert [train.label(k) for k in range(10)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    shares = [count / 355 for count in Counter(labels(test)).values()]
    assert max(shares) - min(shares) < 0.01
    pixels = torch.stack([train.read(k) for k in range(200)])
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert pixels[17].float().mean() == pytest.approx(open_source("DIGITS").read(17).float().mean())


def test_digits_has_two_splits():
    with pytest.raises(WispError, match="train and test"):
        open_source("digits", "unlabeled")


def test_download_without_a_network(monkeypatch, tmp_path):
    def offline(*_: object, **__: object) -> None:
        raise OSError("network is unreachable. try later")

    monkeypatch.setattr("torchvision.datasets.STL10", offline)
    monkeypatch.setenv("WISP_CACHE", str(tmp_path))
    with pytest.raises(
        WispError, match=r"STL10 is not in .* could not be downloaded \(network is unreachable.\): connect"
    ):
        open_source("stl10")


def test_torchvision_data_set_from_the_cache(monkeypatch, tmp_path, picture):
    """USPS is one small text file; with its checksum set to this one's, torchvision finds it and downloads nothing."""
    import bz2
    import hashlib

    from torchvision import datasets

    rows = [f"{k + 1} " + " ".join(f"{p + 1}:{(k * 0.1) - 1:.4f}" for p in range(256)) for k in range(10)]
    packed = bz2.compress("\n".join(rows).encode())
    (tmp_path / "USPS").mkdir()
    (tmp_path / "USPS" / "usps.bz2").write_bytes(packed)
    url = datasets.USPS.split_list["train"][0]
    entry = [url, "usps.bz2", hashlib.md5(packed, usedforsecurity=False).hexdigest()]
    monkeypatch.setitem(datasets.USPS.split_list, "train", entry)
    monkeypatch.setenv("WISP_CACHE", str(tmp_path))
    source = open_source("usps")
    assert len(source) == 10
    assert source.read(3).shape == (3, 16, 16)
    assert labels(source) == list(range(10))
    assert source.classes == tuple("0123456789")
    assert source.name(3) == "USPS 3"


def test_names_are_torchvision_classes():
    from torchvision import datasets

    assert "digits" in NAMES
    assert all(hasattr(datasets, name) for name in NAMES if name != "digits")


# parts of a source


def test_subset_is_the_first_images():
    whole, part = open_source("digits"), open_source("digits", subset=7)
    assert len(part) == 7
    assert torch.equal(part.read(6), whole.read(6))
    assert part.classes == whole.classes
    assert len(open_source("digits", subset=10**6)) == len(whole)
    with pytest.raises(WispError, match="at least one"):
        open_source("digits", subset=0)


def test_split_is_stratified_seeded_and_complete():
    source = open_source("digits", subset=300)
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
