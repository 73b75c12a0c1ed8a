"""The examiner: labels stay with their images, also where an image cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from small_runs import write_classes
from wisp.data.sources import Source, Subset, open_source
from wisp.errors import WispError
from wisp.evaluate.examiner import Examiner


def examiner(train: Source | None, test: Source | None) -> Examiner:
    return Examiner(train, test, image_size=16, mean=(0, 0, 0), std=(1, 1, 1), device=torch.device("cpu"), batch_size=4)


class Mean(nn.Module):
    """[B,3,H,W] -> [B,3]: tells images apart."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture
def data(tmp_path: Path) -> Source:
    """24 pictures; that of a/02.png is torn, the three of class c can none be read."""
    root = write_classes(tmp_path / "data")
    (root / "a" / "02.png").write_bytes(b"")
    (root / "c").mkdir()
    for k in range(3):
        (root / "c" / f"{k}.png").write_bytes(b"")
    return open_source(str(root))


def test_an_image_that_cannot_be_read_is_left_out(data: Source) -> None:
    asked = examiner(data, Subset(data, range(26)))
    found = asked.both(Mean())
    assert found is not None
    assert len(found.train) == len(found.train_labels) == 23
    assert len(found.test) == len(found.test_labels) == 23
    assert found.train_labels.tolist() == [0] * 11 + [1] * 12
    names = {text.partition(":")[0] for text in asked.unreadable["train"].values()}
    assert asked.unreadable["test"].keys() == {1, 24, 25}, "of the questions, too"
    assert names == {"a/02.png", "c/0.png", "c/1.png", "c/2.png"}


def test_nothing_stands_in_for_it(data: Source) -> None:
    features, seen = examiner(None, None).features(Mean(), data, range(24))
    assert seen == [0, *range(2, 24)]
    assert len({tuple(row) for row in features.tolist()}) == 23


def test_images_of_another_source_are_neither_neighbours_nor_questions(data: Source) -> None:
    asked = examiner(Subset(data, range(12)), Subset(data, range(12, 24)))
    asked.images(data, [0, 1, 24])
    assert asked.unreadable["others"].keys() == {1, 24}
    assert not asked.unreadable["train"]
    assert not asked.unreadable["test"]


def test_which_rows_are_left(data: Source) -> None:
    features, seen = examiner(None, None).features(Mean(), data, [25, 0, 24, 13])
    assert seen == [0, 13]
    assert len(features) == 2


def test_between_epochs_the_classifier_answers_from_the_same_features(data: Source) -> None:
    """As the whole network answers about the same images."""
    asked = examiner(data, Subset(data, range(24)))
    classifier = nn.Linear(3, 2)
    with torch.no_grad():
        classifier.weight.copy_(torch.tensor([[1.0, 0, -1], [-1, 0, 1]]))
        classifier.bias.fill_(0.0)
    found = asked.monitor(Mean(), classifier)
    assert found is not None
    knn, top1 = found
    assert top1 == asked.answers(nn.Sequential(Mean(), classifier)).top1
    assert top1 not in (0, 100)
    assert asked.monitor(Mean()) == (knn, None)


def test_no_labels_no_accuracy(data: Source) -> None:
    assert examiner(data, None).monitor(Mean()) is None
    assert examiner(None, None).final(Mean()) is None


def test_too_many_stop_it(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "data")
    for k in range(11):
        (root / "b" / f"bad{k}.png").write_bytes(b"")
    with pytest.raises(WispError, match="`wisp check DATA` names all"):
        examiner(None, None).features(Mean(), open_source(str(root)), range(35))


def test_augmented_passes_keep_to_the_rows_of_the_plain_ones(data: Source) -> None:
    asked = examiner(data, Subset(data, range(26)))
    found = asked.both(Mean(), augmented=2)
    assert found is not None
    assert [extra.shape for extra in found.augmented] == [found.train.shape] * 2
    plain = asked.both(Mean())
    assert plain is not None
    assert torch.equal(plain.train, found.train)
    assert plain.augmented == ()
