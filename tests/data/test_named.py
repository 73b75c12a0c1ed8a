from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from reading import array, labels, names
from wisp.data.sources import NAMES, labels_of, open_source
from wisp.data.sources.named import TorchvisionSource
from wisp.errors import WispError


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


def test_a_damaged_file_is_one_line_whatever_reads_it(monkeypatch, tmp_path):
    """scipy's reader of the lists of Stanford Cars has an error of its own."""

    class MatReadError(Exception):
        pass

    def torn(*_: object, **__: object) -> None:
        raise MatReadError("Mat file appears to be empty")

    monkeypatch.setattr("torchvision.datasets.StanfordCars", torn)
    monkeypatch.setenv("WISP_CACHE", str(tmp_path))
    with pytest.raises(WispError, match=r"could not be read \(Mat file appears to be empty\)"):
        open_source("stanfordcars")


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


class Imagenette:
    """What torchvision's data set of this name has; no targets, no labels."""

    classes: ClassVar = [("tench", "Tinca tinca"), ("English springer", "English springer spaniel"), ("chain saw",)]

    def __init__(self, picture, targets) -> None:
        self._samples = [(f"{k}.jpeg", target) for k, target in enumerate(targets)]
        self._pictures = [picture(k) for k in range(len(targets))]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index):
        return self._pictures[index], self._samples[index][1]


def test_torchvision_classes_with_synonyms(picture):
    source = TorchvisionSource("Imagenette", Imagenette(picture, [0, 0, 2, 1]))
    assert source.classes == ("tench", "English springer", "chain saw")
    assert labels(source) == labels_of(source) == [0, 0, 2, 1]
    assert torch.equal(source.read(2), array(picture(2)))


@pytest.mark.parametrize("key", ["targets", "labels", "_labels"])
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_torchvision_labels(key, kind):
    def source(targets):
        return TorchvisionSource("X", SimpleNamespace(**{key: kind(targets)}))

    full, some, none = source([2, 0, 1, 0]), source([2, -1, 1, -1]), source([-1, -1])
    assert (full.classes, full.label(0), full.missing_labels) == (("0", "1", "2"), 2, 0)
    assert type(full.label(0)) is int
    assert (some.classes, some.label(0), some.missing_labels) == (None, None, 2)
    assert (none.classes, none.label(0), none.missing_labels) == (None, None, 0)


def test_names_are_torchvision_classes():
    from torchvision import datasets

    ours = {"digits", "CUB200", "MIT67"}  # these two are folders with lists of their makers
    assert {name for name in NAMES if not hasattr(datasets, name)} == ours
