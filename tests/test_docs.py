"""The page for who has labelled photos and a teacher, run as printed but shorter."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pages import blocks, commands, shortened
from wisp import api
from wisp.cli import main
from wisp.data.plain import plain_batches
from wisp.data.sources import open_source

PAGE = "docs/distill.md"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Upright ones and ones that a camera held sideways, of other sides than the network's."""
    monkeypatch.chdir(tmp_path)
    counts = {"photos/train": 40, "photos/val": 12, "more/photos": 6, "generated": 10}
    for folder, count in counts.items():
        for number in range(count):
            path = tmp_path / folder / ("cat", "dog")[number % 2] / f"{777 + number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = np.random.default_rng([len(folder), number]).integers(0, 256, (9, 12, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)
            exif = image.getexif()
            exif[0x0112] = 6 if number % 4 == 0 else 1
            image.save(path, exif=exif, quality=95)
    return tmp_path


def test_the_way_from_photos_to_a_program(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = []
    for line in commands(PAGE):
        words = shlex.split(line, comments=True)[1:]
        main(shortened(words))
        done.append(words[0])
    assert done == ["check", "pretrain", "pretrain", "distill", "evaluate", "compare", "distill"]
    capsys.readouterr()
    found: dict[str, Any] = {}
    for snippet in blocks(PAGE, "python"):
        exec(snippet, found)
    assert capsys.readouterr().out.strip() in ("cat", "dog")
    told = found["card"]["preprocessing"]
    source = open_source("photos/val")
    batches = plain_batches(
        source,
        range(len(source)),
        image_size=told["image_size"],
        mean=told["mean"],
        std=told["std"],
        batch_size=4,
        device=torch.device("cpu"),
        left_out=set(),
    )
    ours = torch.cat(list(batches))
    theirs = torch.cat([torch.from_numpy(found["pixels"](f"photos/val/{source.name(k)}")) for k in range(len(source))])
    assert (ours - theirs).abs().mean() < 0.02, "the page prepares an image as the training does"
    classifier = api.load("runs/taught/exported/1x/classifier")
    with torch.no_grad():
        assert torch.allclose(found["network"](ours), classifier(ours), atol=1e-5)
