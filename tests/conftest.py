"""What tests of whole runs share: the command line in this process, pictures, and a run without slow exports."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from small_runs import Answer, Wisp, write_classes, write_photos
from wisp import finishing
from wisp.cli import main
from wisp.export import stock


@pytest.fixture(scope="session", autouse=True)
def one_thread_everywhere() -> None:
    """Tensors this small are slower with more, and sums depend on the number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def wisp() -> Wisp:
    """`wisp("pretrain", "xd", ...)`: the command line, in this process."""

    def run(*words: str | Path) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        code: object = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(word) for word in words])
            except SystemExit as end:
                code = end.code
        assert isinstance(code, int)
        return Answer(code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Leaves out what takes most of a tiny run's time and has its own tests: the ONNX twin and the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finishing, "missing_extra", lambda: "no ONNX twin: left out by the test")
        patch.setattr(stock, "export_program", lambda network, images, path: path.write_bytes(b"left out"))
        yield


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 24 pictures without labels."""
    return write_photos(tmp_path / "photos")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder of 24 pictures in two classes."""
    return write_classes(tmp_path / "classes")


@pytest.fixture(scope="module")
def shared_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without labels, for tests that only read them."""
    return write_photos(tmp_path_factory.mktemp("shared") / "photos")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory of the test's own."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.chdir("/")
