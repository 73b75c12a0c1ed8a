"""Files are whole or absent."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from wisp.errors import WispError
from wisp.files import atomic, plain, read_json, write_bytes, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_folder(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a" / "b" / "file", b"content")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"content"
    assert names(tmp_path / "a" / "b") == ["file"]


def test_nobody_sees_a_part(tmp_path: Path) -> None:
    write_bytes(tmp_path / "file", b"old")
    with atomic(tmp_path / "file") as file:
        file.write(b"ne")
        file.flush()
        assert (tmp_path / "file").read_bytes() == b"old"
        file.write(b"w")
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_whatever_happens_meanwhile_the_old_file_stays(tmp_path: Path, error: type[BaseException]) -> None:
    write_bytes(tmp_path / "file", b"old")
    with pytest.raises(error), atomic(tmp_path / "file"):
        raise error
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "file", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WispError, match=r"cannot write .*file: No space left on device; what was complete stays"):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WispError, match="cannot write"):
        write_bytes(tmp_path / "file" / "below", b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WispError, match=r"cannot write .*folder: Is a directory"):
        write_bytes(tmp_path / "folder", b"x")


def test_the_leftover_of_a_kill_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".file.part").write_bytes(b"a long half of something")
    write_bytes(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"
    assert names(tmp_path) == ["file"]


@dataclass(frozen=True)
class Budget:
    epochs: int
    rates: tuple[float, ...]


def test_json_holds_plain_finite_values(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"budget": Budget(2, (0.5, float("nan"))), 20: "größer", "path": None})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"budget": {"epochs": 2, "rates": [0.5, None]}, "20": "größer", "path": None}
    assert "größer" in text
    assert text.endswith("}\n")
    assert read_json(tmp_path / "x.json") == plain(json.loads(text))


@pytest.mark.parametrize(
    ("content", "line"), [(None, "cannot read .*: No such file"), (b"{", "is no JSON"), (b"\xff", "is no JSON")]
)
def test_json_that_cannot_be_read(tmp_path: Path, content: bytes | None, line: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WispError, match=line):
        read_json(tmp_path / "x.json")
