"""A whole run with views of several sides, from images in memory and from large ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from small_runs import SMALL, Wisp, write_classes

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(("side", "options"), [(18, []), (80, ["--workers", "2"])], ids=["in memory", "by workers"])
def test_it_trains_and_says_what_it_shows(wisp: Wisp, tmp_path: Path, side: int, options: list[str]) -> None:
    data, run = write_classes(tmp_path / "data", side), tmp_path / "run"
    general = SMALL[: SMALL.index("--method.hidden")]
    answer = wisp(
        *("pretrain", "supervised", "--data", data, *general, "--plan", "multicrop_small", "--out", run, *options)
    )
    assert (answer.code, answer.err) == (0, "")
    assert "images, views multicrop_small at 2 x 16 + 4 x 8 px" in answer.out
    assert json.loads((run / "result.json").read_text())["resolved"]["plan"] == "multicrop_small"
