"""Folders with lists of their makers, and torchvision's readers with splits that it does not know.

Every file here has the layout of the published archive, with a handful of images.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat

from reading import labels, names
from wisp.data.catalogue import NAMED
from wisp.data.sources import CorruptImage, official, open_source
from wisp.dividing import labelled, sources
from wisp.errors import WispError
from wisp.methods import xd
from wisp.run import Run

BIRDS = [*(f"001.Black_footed_Albatross/{name}.jpg" for name in ("a", "b", "d")), "002.Laysan_Albatross/c.jpg"]
ROOMS = ["kitchen/int1.jpg", "kitchen/int 2.jpg", "dining_room/d1.jpg", "dining_room/d2.jpg", "dining_room/odd.jpg"]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder of a test, with no network behind it."""

    def offline(*_: object, **__: object) -> None:
        raise OSError("network is unreachable. try later")

    for place in ("caltech", "sun397", "dtd"):
        monkeypatch.setattr(f"torchvision.datasets.{place}.download_and_extract_archive", offline)
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def jpegs(encoded, picture):
    """`jpegs(prefix, names)`: contents of so many different files below a folder."""
    return lambda prefix, files: {f"{prefix}{f}": encoded(picture(k), "JPEG") for k, f in enumerate(files)}


@pytest.fixture
def birds(write_folder, jpegs):
    """CUB-200-2011 as its archive unpacks: three images for training, one for testing."""

    def write(name: str, **more: bytes):
        lists = {
            "CUB_200_2011/images.txt": "".join(f"{k + 1} {file}\n" for k, file in enumerate(BIRDS)).encode(),
            "CUB_200_2011/train_test_split.txt": b"1 1\n2 0\n3 1\n4 1\n",
            "attributes.txt": b"1 has_bill_shape::curved\n",
        }
        return write_folder(jpegs("CUB_200_2011/images/", BIRDS) | lists | more, name=name)

    return write


@pytest.fixture
def rooms(write_folder, jpegs):
    """MIT-67 as its archive unpacks, with its two lists beside the images; one image is on neither."""

    def write(name: str, images: str = "Images/"):
        lists = {
            "TrainImages.txt": "\r\n".join([ROOMS[0], ROOMS[3], ""]).encode(),
            "TestImages.txt": "\n".join([ROOMS[2], ROOMS[1]]).encode(),
        }
        return write_folder(jpegs(images, ROOMS) | lists, name=name)

    return write


@pytest.mark.parametrize("inside", ["", "CUB_200_2011"])
def test_birds_in_a_folder_have_their_split(inside, birds):
    root = birds("anywhere") / inside
    train, test = open_source(str(root)), open_source(str(root), "test")
    assert official(str(root))
    assert train.classes == test.classes == ("Black footed Albatross", "Laysan Albatross")
    assert (names(train), labels(train)) == ([BIRDS[0], BIRDS[2], BIRDS[3]], [0, 0, 1])
    assert (names(test), labels(test)) == ([BIRDS[1]], [0])  # numbered alike, though it has one class of the two
    assert train.read(2).shape == (3, 16, 20)
    assert not train.places() & test.places()


def test_birds_by_name(cache, birds):
    birds("cache/CUB200")
    assert len(open_source("cub200")) == 3
    assert len(open_source("CUB200", "test")) == 1


def test_such_a_folder_needs_no_val(birds):
    """The makers' test images are asked about, as where a data set is known by name."""
    root = birds("anywhere")
    train, neighbours, questions = sources(Run(data=str(root), method=xd.Config()))
    assert (train, names(train)) == (neighbours, [BIRDS[0], BIRDS[2], BIRDS[3]])
    assert names(questions) == [BIRDS[1]]
    assert [names(part) for part in labelled(str(root), None)] == [names(train), names(questions)]
    assert [names(part) for part in labelled(str(root), str(root))] == [names(train), names(questions)]


@pytest.mark.parametrize("images", ["Images/", "indoorCVPR_09/Images/"])
def test_rooms_in_a_folder_and_by_name(images, cache, rooms):
    root = rooms("cache/MIT67", images)
    for data in (str(root), "mit67"):
        train, test = open_source(data), open_source(data, "test")
        assert train.classes == ("dining room", "kitchen")
        assert (names(train), labels(train)) == ([ROOMS[3], ROOMS[0]], [0, 1])
        assert (names(test), labels(test)) == ([ROOMS[2], ROOMS[1]], [0, 1])


def test_an_image_that_is_listed_and_absent_is_corrupt(birds):
    root = birds("anywhere")
    (root / "CUB_200_2011" / "images" / BIRDS[0]).unlink()
    with pytest.raises(CorruptImage, match="no such file"):
        open_source(str(root)).read(0)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("train_test_split.txt", "1 1\n2 0\n3 1\n", "does not say 0 or 1 for each image"),
        ("train_test_split.txt", "1 1\n2 0\n3 1\n4 x\n", "does not say 0 or 1 for each image"),
        ("train_test_split.txt", "1 1\n2 1\n3 1\n4 1\n", "name no test image"),
        ("images.txt", "1 a.jpg\n2 b.jpg\n3 c.jpg\n", r"no class/image \(a.jpg\)"),
        ("images.txt", "1 ../a.jpg\n", r"no class/image \(../a.jpg\)"),
    ],
)
def test_lists_that_are_damaged(file, text, said, birds):
    root = birds("anywhere")
    (root / "CUB_200_2011" / file).write_text(text)
    with pytest.raises(WispError, match=f"{said}.*; unpack the archive again"):
        open_source(str(root), "test")


def test_lists_without_images_are_a_folder_like_any_other(write_folder):
    root = write_folder({"images.txt": b"1 a/b.jpg\n", "train_test_split.txt": b"1 1\n"})
    assert not official(str(root))
    with pytest.raises(WispError, match="no image in the folder"):
        open_source(str(root))


def test_caltech_takes_the_first_four_fifths_of_each_class(cache, write_folder, jpegs):
    top = "caltech101/101_ObjectCategories/"
    counts = {"BACKGROUND_Google": 3, "Faces": 5, "accordion": 7}
    files = {}
    for name, count in counts.items():
        files |= jpegs(f"{top}{name}/", [f"image_{k + 1:04}.jpg" for k in range(count)])
    write_folder(files, name="cache/Caltech101")
    train, test = open_source("caltech101"), open_source("Caltech101", "test")
    assert train.classes == test.classes == ("Faces", "accordion")
    assert labels(train) == [0] * 4 + [1] * 5
    assert labels(test) == [0] + [1] * 2
    assert not set(names(train)) & set(names(test))
    assert train.read(8).shape == (3, 16, 20)


def test_sun_takes_its_first_partition(cache, write_folder, jpegs):
    places = [f"{place}/sun_{k}.jpg" for place in ("a/abbey", "b/barn/indoor", "b/bay") for k in "abc"]
    lists = {
        "SUN397/ClassName.txt": b"/a/abbey\n/b/barn/indoor\n/b/bay\n",
        "Training_01.txt": "".join(f"/{places[k]}\n" for k in (7, 0, 4)).encode(),
        "Testing_01.txt": "".join(f"/{places[k]}\n" for k in (1, 3, 8)).encode(),
    }
    root = write_folder(jpegs("SUN397/", places) | lists, name="cache/SUN397")
    train, test = open_source("sun397"), open_source("sun397", "test")
    assert train.classes == ("abbey", "barn/indoor", "bay")
    assert (labels(train), labels(test)) == ([2, 0, 1], [0, 1, 2])  # in the order of the list, not of the disk
    assert train.read(0).shape == (3, 16, 20)
    assert not set(names(train)) & set(names(test))
    (root / "SUN397" / places[4]).unlink()
    with pytest.raises(WispError, match=r"lacks 1 of the 3 listed images \(b/barn/indoor/sun_b.jpg\); unpack SUN397"):
        open_source("sun397")
    (root / "Training_01.txt").unlink()
    with pytest.raises(WispError, match=r"unpack SUN397.tar.gz, Partitions.zip \(from vision.princeton.edu"):
        open_source("sun397")


def test_cars_are_read_by_torchvision(cache, write_folder, jpegs):
    top = "stanford_cars/"
    files = jpegs(f"{top}cars_train/", ["1.jpg", "2.jpg"]) | jpegs(f"{top}cars_test/", ["1.jpg"])
    root = write_folder(files, name="cache/StanfordCars") / "stanford_cars"
    (root / "devkit").mkdir()
    kinds = [("fname", "O"), ("class", "O")]
    rows = {
        "devkit/cars_train_annos.mat": [("1.jpg", 2), ("2.jpg", 1)],
        "cars_test_annos_withlabels.mat": [("1.jpg", 2)],
    }
    for file, row in rows.items():
        savemat(root / file, {"annotations": np.array([*row, ("1.jpg", 1)], dtype=kinds)})
    savemat(
        root / "devkit" / "cars_meta.mat", {"class_names": np.array(["Ram C/V 2012", "Audi TT 2011"], dtype=object)}
    )
    train, test = open_source("stanfordcars"), open_source("StanfordCars", "test")
    assert train.classes == ("Ram C/V 2012", "Audi TT 2011")
    assert (labels(train), labels(test)) == ([1, 0, 0], [1, 0])
    assert train.read(1).shape == (3, 16, 20)
    (root / "cars_train" / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(CorruptImage, match="StanfordCars 1: cannot identify"):
        train.read(1)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "DTD",
            r"downloaded \(network .*\): connect to .*, or put dtd-r1.0.1.tar.gz \(from .*\) into {}/DTD/dtd, or",
        ),
        ("Caltech101", r"unpack 101_ObjectCategories.tar.gz \(it .*\) \(from .*\) into {}/Caltech101/caltech101, or"),
        (
            "StanfordCars",
            r"read \(Dataset not found.\): unpack cars_train.tgz, .* into {}/StanfordCars/stanford_cars, or",
        ),
        ("SUN397", r"SUN397 is not in {}/SUN397: unpack SUN397.tar.gz, Partitions.zip .* into {}/SUN397, or"),
        ("MIT67", r"unpack indoorCVPR_09.tar and, as they are, TrainImages.txt, .* into {}/MIT67, or"),
        ("CUB200", r"CUB200 is not in {}/CUB200: unpack CUB_200_2011.tgz .* into {}/CUB200, or give a folder"),
    ],
)
def test_without_a_network_one_line_says_what_to_put_where(name, said, cache):
    with pytest.raises(WispError, match=said.replace("{}", str(cache))) as caught:
        open_source(name.lower())
    assert "\n" not in str(caught.value)


def test_every_name_says_what_it_holds(wisp):
    listed = wisp("list", "data").out
    for name, known in NAMED.items():
        assert f"{name} " in listed
        assert known.about in listed
        assert "+" in known.about
