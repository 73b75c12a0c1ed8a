"""The README's commands, run as printed but shorter, in a folder with somebody's photos."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pages import blocks, commands, expanded, shortened
from wisp.cli import main


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = [tmp_path / "photos" / f"trip {number % 3}" / "day" / f"{number}.jpg" for number in range(20)]
    labelled = [tmp_path / "labelled" / "ab"[number % 2] / f"{number}.jpg" for number in range(80)]
    for number, path in enumerate(mine + labelled):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def test_every_command_and_every_snippet(photos: None, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands("README.md")
    assert len(lines) >= 4
    done: set[str] = set()
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        main(expanded(shortened(words)))
        done.add(words[0])
    assert done >= {"check", "pretrain", "distill", "list", "compare", "evaluate", "diagnose"}, (
        "the README shows them all"
    )
    assert "1x" in capsys.readouterr().out
    snippets = blocks("README.md", "python")
    assert snippets
    for snippet in snippets:
        exec(snippet.replace("epochs=100", "epochs=1").replace("image_size=96", "image_size=32"), {})
