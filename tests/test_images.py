"""A folder as people have them: images of every kind, and files that are none. It trains, counts, and names.

The very first file is one of the bad ones.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from small_runs import SMALL, Wisp, picture

pytestmark = pytest.mark.usefixtures("quick")

BAD = {"a/(0) empty.png": "empty file", "b/text.jpg": "not an image", "b/torn.jpg": "truncated"}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def kinds(side: int) -> dict[str, bytes]:
    """One picture in every form in which a camera, a scanner or the web delivers it; all of them can be read."""
    image = picture(99, side)
    sixteen = (np.asarray(image.convert("L")).astype(np.uint16) * 257).astype("<u2")
    frames = [picture(k, side).quantize(16) for k in range(3)]
    return {
        "sixteen.png": encoded(Image.fromarray(sixteen), "PNG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "see-through.png": encoded(image.convert("RGBA"), "PNG"),
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "animated.gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated.webp": encoded(image, "WEBP", save_all=True, append_images=[picture(1, side)]),
    }


def folder(root: Path, side: int) -> Path:
    files = {f"a/{name}": data for name, data in kinds(side).items()}
    files |= {f"{'ab'[k % 2]}/{k:02}.png": encoded(picture(k, side), "PNG") for k in range(16)}
    torn = encoded(picture(0, side), "JPEG", quality=95)
    files |= {"a/(0) empty.png": b"", "b/text.jpg": b"<html>404</html>", "b/torn.jpg": torn[: len(torn) // 2]}
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.mark.parametrize(
    ("side", "options"),
    [(18, []), (80, ["--workers", "0"]), (80, ["--workers", "2"])],
    ids=["in memory", "decoded every time", "by workers"],
)
def test_it_trains_counts_and_names(wisp: Wisp, tmp_path: Path, side: int, options: list[str]) -> None:
    data, run = folder(tmp_path / "data", side), tmp_path / "run"
    answer = wisp("pretrain", "xd", "--data", data, *SMALL, "--out", run, *options)
    assert (answer.code, answer.err) == (0, "")
    assert (
        f"{len(BAD)} images cannot be read: replaced in training, left out of evaluations; train.log names them"
        in answer.out
    )
    receipt = json.loads((run / "result.json").read_text())
    assert receipt["replaced"] == len(BAD)
    log = (run / "train.log").read_text()
    for name, reason in BAD.items():
        lines = [line for line in log.splitlines() if f": {name}: " in line]
        assert len(lines) == 1, log
        assert reason in lines[0]
        assert "unreadable, replaced by" in lines[0] or "unreadable, left out of" in lines[0]
    assert not any(name in log for name in kinds(8)), "what can be read is"


def test_check_names_them_too(wisp: Wisp, tmp_path: Path) -> None:
    answer = wisp("check", folder(tmp_path / "data", 18))
    assert answer.code == 0
    assert all(name in answer.out for name in BAD)
    assert not any(name in answer.out for name in kinds(8))


def labelled_here_and_there(root: Path) -> Path:
    """A parquet file in which every third picture has a label."""
    files = [encoded(picture(k), "PNG") for k in range(24)]
    labels = [k % 2 if k % 3 == 0 else None for k in range(24)]
    pq.write_table(pa.table({"image": files, "label": labels}), root / "some.parquet")
    return root / "some.parquet"


def one_in_each(root: Path) -> Path:
    """24 folders with one picture in each."""
    for k in range(24):
        (root / "one" / f"{k:02}").mkdir(parents=True)
        picture(k).save(root / "one" / f"{k:02}" / "1.png")
    return root / "one"


@pytest.mark.parametrize(
    ("write", "reason"),
    [(labelled_here_and_there, "16 of the images have no label; --val"), (one_in_each, "no class has two images")],
    ids=["some labels", "one in each"],
)
def test_labels_that_nobody_can_be_asked_about(
    wisp: Wisp, tmp_path: Path, write: Callable[[Path], Path], reason: str
) -> None:
    """The run ends like any other, without accuracies and with all of its pictures."""
    answer = wisp("pretrain", "xd", "--data", write(tmp_path), *SMALL, "--out", tmp_path / "run")
    assert (answer.code, answer.err) == (0, "")
    assert f"health only: {reason}" in answer.out
    receipt = json.loads((tmp_path / "run" / "result.json").read_text())
    assert receipt["budget"]["images"] == 24
    assert receipt["protocol"]["questions"] == 0
    assert {entry["linear"] for entry in receipt["encoders"].values()} == {None}
    assert (tmp_path / "run" / "report.html").exists()
