import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from wisp.errors import WispError
from wisp.report.gallery import Gallery, save_gallery
from wisp.report.page import write_report

NASTY = (
    "<script>document.title='pwned'</script>\"><img src=x onerror=\"document.title='pwned'\"> & 'q' 猫 \u202e "
    + "x" * 200
)
VOID = {"meta", "link", "img", "br", "wbr", "input"}
SECTIONS = ["neighbours", "map", "curves", "encoders", "cost", "load", "files", "settings", "environment"]


class Page(HTMLParser):
    """Tags, attributes and text; checks that what is opened is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open[-1:] != ["style"]:
            self.text += data

    @property
    def ids(self) -> list[str]:
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]

    def check(self) -> None:
        """Self-contained and without scripts."""
        for tag, attributes in self.tags:
            assert tag not in {"script", "iframe", "object", "embed", "base", "form"}
            assert not any(key.startswith("on") for key in attributes)
            if tag == "img":
                assert attributes["src"].startswith("data:image/")
                assert set(attributes) <= {"src", "alt", "title", "class", "style"}
            for key in ("href", "src", "xlink:href"):
                assert not re.match(r"\s*(\w+:)?//|javascript:", attributes.get(key, ""), re.IGNORECASE)
        assert not re.search(r"https?://|@import|url\(", self.source)


@pytest.fixture(scope="module")
def made(finished_run, gallery):
    return finished_run, Page(write_report(finished_run, gallery, finished_run / "report.html"))


def test_every_section_is_there_and_the_file_stands_alone(made):
    _, page = made
    assert page.ids == SECTIONS
    page.check()
    assert len(page.source) < 3e6


def test_the_headline_says_what_and_how_well(made):
    _, page = made
    text = re.sub(r"\s+", " ", page.text)
    assert "resnet20 trained with sacl_xd on digits" in text
    assert "The exported encoder names the class of 95.1 % of held-out images by their 20 nearest neighbours" in text
    assert "the same network untrained gets 88.0 %. That is +7.1 points." in text
    for number in ("95.1 %", "90.2 %", "96.8 %", "93.1 %", "97.4 %", "+3.7 points"):
        assert number in text


def test_the_bill_adds_up(made):
    text = re.sub(r"\s+", " ", made[1].text)
    for share in (
        "81.0 GFLOP23.8 %",
        "204 GFLOP60.0 %",
        "340 GFLOP",
        "81.6 TFLOP",
        "4 min 28 s",
        "612 MB",
        "AMD EPYC, 2 threads",
    ):
        assert share in text


def test_the_method_s_own_diagnostics_and_the_configuration_are_complete(made):
    _, page = made
    assert "inner_correlation" in page.text
    assert "inner_decorrelation" in page.text
    for setting in ("lambda_", "0.0051", "batch_size", "projector", "2048", "temperature", "warmup_steps", "2.15.0"):
        assert setting in page.text


def test_three_lines_load_the_result(made):
    assert (
        "import torch\nencoder = torch.export.load('encoder.pt2').module()\nfeatures = encoder(images)" in made[1].text
    )


def test_links_lead_to_the_files(made):
    folder, page = made
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert "./exported/1x/encoder.safetensors" in links
    assert all((folder / link).is_file() for link in links)


def test_pictures_six_neighbours_a_query_and_every_image_on_the_map(made, gallery):
    _, page = made
    classes = [attributes.get("class", "") for tag, attributes in page.tags if tag == "figure"]
    assert classes.count("near query") == 10
    assert classes.count("near same") + classes.count("near other") == 60
    assert classes.count("near same") > 40
    on_map = [attributes for tag, attributes in page.tags if tag == "img" and "left:" in attributes.get("style", "")]
    assert len(on_map) == len(gallery)
    assert len({attributes["style"] for attributes in on_map}) == len(gallery)
    assert on_map[0]["title"] == "0 · digit-0000.png"


def test_the_same_input_gives_the_same_page(made, gallery, tmp_path):
    folder, page = made
    again = write_report(folder, gallery, tmp_path / "again.html")
    links = str(tmp_path)
    assert re.sub('href="[^"]*"', "", again.read_text()) == re.sub('href="[^"]*"', "", page.source)
    assert links not in again.read_text()


def test_a_later_report_takes_the_stored_gallery(run_folder, gallery):
    folder = run_folder()
    assert "map" not in Page(write_report(folder, None, folder / "report.html")).ids
    save_gallery(gallery, folder / "gallery.npz")
    assert "map" in Page(write_report(folder, None, folder / "report.html")).ids


def test_the_receipt_may_come_before_its_file(run_folder, gallery):
    folder = run_folder()
    written = write_report(folder, None, folder / "report.html").read_text()
    receipt = json.loads((folder / "result.json").read_text())
    (folder / "result.json").unlink()
    receipt["encoders"]["1x"]["knn"] = {20: 95.1, 200: 90.2}  # as a caller has them, before JSON makes text of the keys
    early = write_report(folder, None, folder / "early.html", result=receipt).read_text()
    without_files = re.compile(r'<section id="files">.*?</section>', re.DOTALL)
    assert without_files.sub("", early) == without_files.sub("", written)


def test_pictures_of_training_images_are_called_so(run_folder, gallery):
    folder = run_folder(epochs=2)
    save_gallery(replace(gallery, held_out=False), folder / "gallery.npz")
    text = Page(write_report(folder, None, folder / "report.html")).text
    assert "Left: a training image" in text
    assert "120 training images" in text


def test_hostile_names_stay_text(run_folder):
    rng = np.random.default_rng(0)
    hostile = Gallery(
        images=rng.integers(0, 256, (12, 3, 8, 8), dtype=np.uint8),
        features=rng.normal(size=(12, 4)),
        names=[f"{i} {NASTY} \udcff\x00" for i in range(12)],
        labels=np.arange(12) % 2,
        classes=[NASTY, f"b {NASTY}"],
    )
    folder = run_folder(
        warning=NASTY, method_name=NASTY, model=NASTY, data=f"a/b/{NASTY}", **{NASTY: NASTY, "group": {NASTY: [NASTY]}}
    )
    for name in ("env.json", "result.json", "metrics.jsonl"):
        path = folder / name
        text = path.read_text()
        for old in ("host", "inner_correlation", "sub-network", "1x", "torch", "AMD EPYC", "kept_channels_changed"):
            text = text.replace(f'"{old}"', '"' + f"{old} {NASTY}".replace("\\", "\\\\").replace('"', '\\"') + '"')
        path.write_text(text, encoding="utf-8")
    (folder / "exported" / "1x" / '"><img src=x onerror=alert(1)>#?%.bin').write_bytes(b"0")
    page = Page(write_report(folder, hostile, folder / "report.html"))
    page.check()
    assert page.text.count("<script>document.title='pwned'</script>") > 30
    assert page.ids == SECTIONS


@pytest.mark.parametrize(
    "options",
    [
        {"finished": False},
        {"finished": False, "epochs": 1, "nan": True, "labels": False},
        {"finished": False, "epochs": 0},
        {"epochs": 1},
        {"labels": False, "epochs": 2},
        {"nan": True, "warning": "collapsed", "exported": False},
    ],
)
def test_what_is_missing_is_said_and_nothing_breaks(run_folder, options):
    folder = run_folder(**options)
    page = Page(write_report(folder, None, folder / "report.html"))
    page.check()
    assert {"neighbours", "curves", "cost", "load", "files", "settings"} <= set(page.ids)
    assert not re.search(r"\bnan\b|\bNone\b|\binf\b", page.text)
    assert ("Not finished" in page.text) == (not options.get("finished", True))
    if options.get("labels") is False and options.get("finished", True):
        assert "no labels to hold out" in page.text
    if options.get("warning"):
        assert "collapsed" in page.text


@pytest.mark.parametrize("features", ["same", "nan", "few"])
def test_a_collapsed_gallery_says_so(run_folder, gallery, features):
    broken = {
        "same": replace(gallery, features=np.ones((len(gallery), 4))),
        "nan": replace(gallery, features=np.full((len(gallery), 4), np.nan)),
        "few": gallery.subset([0]),
    }[features]
    folder = run_folder(epochs=2)
    page = Page(write_report(folder, broken, folder / "report.html"))
    page.check()
    assert page.text.count("Too few" if features == "few" else "point the same way") == 2


def test_photographs_stay_below_three_megabytes(run_folder):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 240, (600, 3, 12, 12), dtype=np.uint8)
    grain = rng.integers(0, 16, (600, 3, 96, 96), dtype=np.uint8)
    photos = Gallery(
        images=coarse.repeat(8, axis=2).repeat(8, axis=3) + grain,
        features=rng.normal(size=(600, 16)),
        names=[f"{i}.jpg" for i in range(600)],
    )
    folder = run_folder(epochs=2)
    stored = save_gallery(photos.subset(range(60)), folder / "gallery.npz")
    assert stored.stat().st_size < 0.4e6
    assert write_report(folder, photos, folder / "report.html").stat().st_size < 3e6


def test_a_folder_that_is_no_run_leaves_nothing_behind(tmp_path):
    with pytest.raises(WispError, match="not a run folder"):
        write_report(tmp_path, None, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_a_diagnosis_is_drawn_as_far_as_it_goes(run_folder, tmp_path):
    folder = run_folder()
    assert "interference" not in Page(write_report(folder, None, tmp_path / "before.html")).ids
    conditions = {NASTY: {"mean": 0.5, "total": 20.0, "relative": 1.5}}
    (folder / "diagnosis.json").write_text(json.dumps({"schema": 1, "conditions": conditions}))
    page = Page(write_report(folder, None, tmp_path / "after.html"))
    page.check()
    assert page.ids.index("interference") == page.ids.index("encoders") + 1
    assert "150" in page.text
    assert "rest / smallest" not in page.text
    gradients = {"steps": [0, 9], "norms": [[0, 0, 0], [3.0, 2.0, 1.0]], "share": 0.25, "shared": True}
    gradients |= {"places": [[0.0, 1.0], [1.0, 0.0]], "explained": [0.7, 0.2], "cosines": [0.123]}
    (folder / "diagnosis.json").write_text(json.dumps({"schema": 1, "gradients": gradients}))
    page = Page(write_report(folder, None, tmp_path / "gradients.html"))
    page.check()
    assert "rest / smallest" in page.text
    assert "cosine 0.123" in page.text
    assert "Eq. 23" not in page.text
