"""A checkpoint is whole, loads without running code, and says what is wrong with it."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from wisp.errors import WispError
from wisp.train import checkpoint


def state(value: float) -> dict[str, Any]:
    weight = torch.full((4, 3, 3, 3), value).to(memory_format=torch.channels_last)
    return {"method": {"weight": weight}, "progress": {"step": 3, "seconds": 0.5, "replaced": ["a.png: empty"]}}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.save(path, state(1.5))
    found = checkpoint.load(path)
    assert torch.equal(found["method"]["weight"], state(1.5)["method"]["weight"])
    assert found["method"]["weight"].is_contiguous(memory_format=torch.channels_last), (
        "the next step sums in this order"
    )
    assert found["progress"] == state(1.5)["progress"]
    assert torch.load(path, weights_only=True)["schema"] == checkpoint.SCHEMA


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")]
)
def test_a_full_disk_leaves_the_former_one(tmp_path: Path, error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, state(1.0))

    def full(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WispError, match=f"cannot write .*last.ckpt: {error.strerror}"):
        checkpoint.save(path, state(2.0))
    assert checkpoint.load(path)["method"]["weight"].mean() == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_disk_that_fills_up_while_torch_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, state(1.0))

    class Small(io.FileIO):
        room = 1000

        def write(self, data: Any) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, mode: Small(self, mode))
        with pytest.raises(WispError, match=r"cannot write .*last\.ckpt: "):
            checkpoint.save(path, {"weight": torch.zeros(1 << 12)})
    assert checkpoint.load(path)["method"]["weight"].mean() == 1.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    checkpoint.save(path, state(1.0))
    whole = path.read_bytes()
    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(WispError, match="is truncated or no checkpoint; delete it to start again"):
            checkpoint.load(path)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ({"state_dict": {}}, "was not written by wisp"),
        ([1, 2], "was not written by wisp"),
        ({"mark": checkpoint.MARK}, "has schema None"),
        ({"mark": checkpoint.MARK, "schema": checkpoint.SCHEMA + 1}, "install a newer wisp"),
    ],
)
def test_what_is_not_ours_is_named(tmp_path: Path, content: object, line: str) -> None:
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(WispError, match=line):
        checkpoint.load(tmp_path / "last.ckpt")


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Bad:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"mark": checkpoint.MARK, "schema": 1, "bad": Bad()}, tmp_path / "last.ckpt")
    with pytest.raises(WispError, match="truncated or no checkpoint"):
        checkpoint.load(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()
