from __future__ import annotations

import json
import pickle

import pytest
import torch

from reading import array, labels
from wisp.data.sources import open_source
from wisp.errors import WispError


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
    assert source.missing_labels == 1
    assert open_source(str(write_tar({"1.png": encoded(picture(1))}))).missing_labels == 0


def test_bad_shards(write_tar, encoded, picture, tmp_path):
    with pytest.raises(WispError, match="only uncompressed tar files"):
        open_source(str(write_tar({"1.png": encoded(picture(1))}, "packed.tar", "w:gz")))
    with pytest.raises(WispError, match=r"no image in .* looked for members ending in \.jpg"):
        open_source(str(write_tar({"1.txt": b"hello"}, "texts.tar")))
    with pytest.raises(WispError, match='no file matches "none-'):
        open_source("none-{0..3}.tar")
