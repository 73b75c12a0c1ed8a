"""The README's commands, run as printed but shorter, in a folder with somebody's photos."""

from __future__ import annotations

import dataclasses
import glob
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wisp import methods
from wisp.cli import main

README = Path(__file__).parents[1] / "README.md"
SHORTER = {"--epochs": "3", "--image-size": "32", "--method.hidden": "32", "--method.out": "32"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith("wisp ")]


def shortened(words: list[str]) -> list[str]:
    """The same training with three epochs, which a diagnosis needs, small images, a small teacher and a narrow head."""
    words = ["resnet18" if word == "resnet50" else word for word in words]
    if words[0] not in ("pretrain", "distill"):
        return words
    method = words[1] if words[1] in methods.names() else "sacl_xd"
    known = {f"--method.{field.name}" for field in dataclasses.fields(methods.load(method).Config)}
    pairs = {word: value for word, value in SHORTER.items() if not word.startswith("--method.") or word in known}
    kept = [w for i, w in enumerate(words) if w not in SHORTER and (i == 0 or words[i - 1] not in SHORTER)]
    return [*kept, *(word for pair in pairs.items() for word in pair)]


def expanded(words: list[str]) -> list[str]:
    return [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]


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
    lines = commands()
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
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        exec(snippet.replace("epochs=100", "epochs=1").replace("image_size=96", "image_size=32"), {})
