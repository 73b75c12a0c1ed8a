"""The page in a real browser. The only test of the project that may skip: where there is no browser."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wisp.report.page import POLICY, write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SCRIPT = "<script>document.title='pwned'</script><img src=x onerror=\"document.title='pwned'\">"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


def browse(page: Path, profile: Path, *flags: str) -> str:
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def test_the_page_renders_and_no_label_becomes_a_script(run_folder, gallery, tmp_path):
    hostile = replace(gallery, classes=[f"{i} {SCRIPT}" for i in range(10)], names=[SCRIPT] * len(gallery))
    folder = run_folder(method_name=SCRIPT, warning=SCRIPT)
    page = write_report(folder, hostile, folder / "report.html")
    # Without the policy nothing but the escaping stands between the labels and the browser.
    bare = folder / "bare.html"
    bare.write_text(page.read_text(encoding="utf-8").replace(POLICY, ""), encoding="utf-8")
    for number, path in enumerate((page, bare)):
        dom = browse(path, tmp_path / f"dom{number}", "--dump-dom")
        assert "<title>resnet20 · &lt;script&gt;" in dom
        assert "<title>pwned" not in dom
        for name in ("neighbours", "map", "curves", "encoders", "cost", "load", "files", "settings", "environment"):
            assert f'<section id="{name}">' in dom


@pytest.mark.parametrize(("width", "height", "dark"), [(1200, 4800, False), (1200, 4800, True), (390, 8500, False)])
def test_the_page_is_drawn_in_light_dark_and_narrow(run_folder, gallery, tmp_path, width, height, dark):
    folder = run_folder()
    page = write_report(folder, gallery, folder / "report.html")
    shot = tmp_path / "page.png"
    mode = ("--force-dark-mode",) if dark else ()
    # headless Chromium has a smallest window of about 500 pixels: a frame makes a phone
    if width < 500:
        frame = folder / "frame.html"
        frame.write_text(
            f'<body style="margin:0"><iframe src="report.html" style="border:0;width:{width}px;height:{height}px">'
        )
        page = frame
    browse(page, tmp_path / "profile", f"--window-size={max(width, 500)},{height}", f"--screenshot={shot}", *mode)
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)[:, :width]
    assert pixels.shape == (height, width, 3)
    background = pixels[5, 5]
    assert (background.mean() < 60) == dark
    ink = (np.abs(pixels - background).sum(axis=-1) > 60).reshape(10, -1).mean(axis=1)
    assert (ink > 0.002).all()  # something is drawn in every tenth of the page
    assert not (np.abs(pixels[:, -4:] - background).sum(axis=-1) > 60).any()  # and nothing runs over its right edge
