"""The commands and snippets of a page, and the same commands in less time."""

from __future__ import annotations

import dataclasses
import glob
import re
from pathlib import Path

from wisp import methods

ROOT = Path(__file__).parents[1]
SHORTER = {"--epochs": "3", "--image-size": "32", "--method.hidden": "32", "--method.out": "32"}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a file below the project's root."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line.startswith("wisp ")]


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
