from __future__ import annotations

import datetime
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from reading import array, labels
from wisp.data.sources import CorruptImage, Subset, open_source
from wisp.data.sources import parquet as parquet_module
from wisp.errors import WispError


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


@pytest.mark.parametrize("some", [[0, None, 2, -1], ["dog", None, "cat", None], [-1, 1, 1, None]])
def test_parquet_labels_count_only_when_complete(some, write_parquet, encoded, picture):
    source = open_source(str(write_parquet([encoded(picture(k)) for k in range(4)], some)))
    assert source.classes is None
    assert labels(source) == [None] * 4
    assert source.missing_labels == Subset(source, [0]).missing_labels == 2
    assert open_source(str(write_parquet([encoded(picture(0))], [None]))).missing_labels == 0


@pytest.mark.parametrize("label", [[0, 1], {"name": "cat"}, [[0.0, 0.5]], 0.5, b"cat", datetime.date(2024, 1, 1)])
def test_parquet_labels_that_are_no_class(label, write_parquet, encoded, picture):
    source = open_source(str(write_parquet([encoded(picture(k)) for k in range(2)], [label, label])))
    assert (source.classes, source.missing_labels, labels(source)) == (None, 0, [None, None])
    assert torch.equal(source.read(1), array(picture(1)))


def test_parquet_with_two_columns_of_labels(tmp_path, encoded, picture):
    columns = {"image": [encoded(picture(k)) for k in range(2)], "label": [[0, 1], [1]], "fine_label": [1, 0]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    assert labels(open_source(str(tmp_path / "x.parquet"))) == [1, 0]


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


def test_parquet_files_of_no_split_are_neither_dropped_nor_taken(write_parquet, encoded, picture, tmp_path):
    for file in ("data/train-00000-of-00001", "data/test-00000-of-00001", "data/unlabeled-00000-of-00001"):
        write_parquet([encoded(picture(0))], file=f"{file}.parquet")
    with pytest.raises(WispError, match=r'others \(data/unlabeled-00000-of-00001\.parquet\): give those .* "train-\*'):
        open_source(str(tmp_path))
    assert len(open_source(str(tmp_path / "data" / "*.parquet"))) == 3
    (tmp_path / "data" / "test-00000-of-00001.parquet").unlink()
    assert len(open_source(str(tmp_path))) == 2


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
