"""The road on the page and in the terminal: both readings, nothing unknown as zero, times of one machine or said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from wisp.report.comparison import compare, comparison_table
from wisp.report.page import write_report
from wisp.report.road import front, road_bars, road_cells, road_section, standings
from wisp.report.runs import RunRecord, read_runs
from wisp.report.scales import Scale

HERE = "AMD EPYC, 2 threads"
TEACHER = {"origin": "resnet50 by dino", "flops": 10**15, "certainty": "known", "note": "", "labels": False}
PARTS = [
    {"kind": "teacher", "what": "training of resnet50 by dino", "flops": 10**15, "seconds": 3600.0, "machine": HERE}
    | {"certainty": "known"}
]
UNKNOWN = {**TEACHER, "origin": "resnet50.a1_in1k", "flops": None, "certainty": "unknown"}

Make = Callable[..., Path]


@pytest.fixture
def paid(run_folder: Make) -> Make:
    """A finished run with a top-1 accuracy, FLOPs, seconds and whatever else its cost names."""

    def make(name: str, top1: float | None, flops: float, seconds: float, **more: Any) -> Path:
        folder = run_folder(name, epochs=3)
        result = json.loads((folder / "result.json").read_text())
        result["cost"] |= {"total_flops": flops, "seconds": seconds, "machine": HERE, **more}
        if top1 is not None:
            result["encoders"]["1x"]["classifier"] = {"top1": top1}
        (folder / "result.json").write_text(json.dumps(result))
        return folder

    return make


@pytest.fixture
def folders(paid: Make) -> list[Path]:
    probe = {"flops": 10**12, "seconds": 12.0}
    images = {"images": 900, "pipeline": "tiny", "seconds": 60.0, "flops": None, "machine": "H100"}
    return [
        paid("alone", 70.0, 2e12, 30.0),
        paid("taught", 90.0, 5e12, 50.0, teacher={**TEACHER, "parts": PARTS}, probe=probe),
        paid("worse", 60.0, 4e12, 40.0),
        paid("blind", 91.0, 5e12, 50.0, teacher=UNKNOWN),
        paid("widened", 92.0, 6e12, 70.0, extra=images),
        paid("probed", 80.0, 1e9, 1.0, teacher={**TEACHER, "flops": 3 * 10**12, "handed_out": True}),
    ]


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


def test_the_terminal_tells_every_part_and_both_sums(folders: list[Path]) -> None:
    lines = [re.sub(r" {2,}", " | ", plain(line)).strip(" |") for line in comparison_table(folders).splitlines()]
    for line in (
        f"alone | training | 2.00 T | 30 s | {HERE}",
        f"taught | training of resnet50 by dino | 1.00 P | 1 h 00 min | {HERE}",
        f"linear probe of resnet50 by dino | 1.00 T | 12 s | {HERE}",
        f"distillation | 4.00 T | 50 s | {HERE}",
        f"= teacher off the shelf | 5.00 T | 1 min 02 s | {HERE}",
        f"= everything counted | 1.00 P | 1 h 01 min | {HERE}",
        "blind | training of resnet50.a1_in1k | unknown | unknown | –",
        f"= everything counted | ≥ 5.00 T | ≥ 50 s | {HERE}",
        "widened | generation of 900 images by tiny | unknown | 1 min 00 s | H100",
        "= in either reading | ≥ 6.00 T | 2 min 10 s | 2 machines",
        f"= in either reading | 3.00 T | ≥ 1.0 s | {HERE}",
        "Times of several machines are added up, they are those of none: widened.",
        "Nobody knows the operations of the generated images, they are not counted: widened.",
    ):
        assert line in lines, line


def test_runs_that_only_trained_have_no_second_table(paid: Make) -> None:
    records = read_runs([paid("a", 70.0, 1e12, 10.0), paid("b", 71.0, 2e12, 10.0)])
    assert road_cells(records) == ([], [])


def test_extra_images_without_a_manifest_raise_no_question(paid: Make) -> None:
    folder = paid("widened", 70.0, 1e12, 10.0, teacher=UNKNOWN | {"flops": 10**12}, extra={"images": 900})
    text = plain(comparison_table([folder]))
    assert re.search(r" distillation, with 900 extra images +1\.00 T +10 s", text), text
    assert "= teacher off the shelf" in text
    assert "generation" not in text
    assert "generated" not in text
    assert "~2.00 T" in text, "the teacher is an estimate, and the sum no least"


def test_who_is_worth_the_price_depends_on_the_reading(folders: list[Path]) -> None:
    records = read_runs(folders)

    def names(reading: str) -> list[str]:
        return [records[each.number].name for each in front(standings(records, reading))]

    assert names("teacher off the shelf") == ["alone", "probed", "blind"]
    assert names("everything counted") == ["alone", "probed", "taught"]  # what nobody knows is no price
    page = plain(road_section(records, [*"ABCDEF"]))
    assert "B, C: a cheaper one is as good. Nobody knows the price of E." in page
    assert "C: a cheaper one is as good. Nobody knows the price of D, E." in page


def test_a_classifier_speaks_before_a_linear_probe(paid: Make) -> None:
    records = read_runs([paid("own", 70.0, 1e12, 1.0), paid("none", None, 1e12, 1.0)])
    assert [(each.protocol, each.accuracy) for each in standings(records, "everything counted")] == [
        ("top-1", 0.7),
        ("linear", pytest.approx(0.968)),
    ]


def test_a_disc_and_a_ring_for_each_and_dashes_where_nobody_knows(folders: list[Path]) -> None:
    section = road_section(read_runs(folders), [*"ABCDEF"])
    flops, seconds = (part.split("</svg>")[0] for part in section.split("<svg ")[1:])
    for chart, rings, dashes in ((flops, 1, 2), (seconds, 1, 2)):  # "taught"; the time of two teachers is unknown
        assert len(re.findall(r'class="mark c\d"', chart)) == 6
        assert chart.count('class="mark hollow') == rings
        assert chart.count('class="span open') == dashes
    disc, ring = (float(re.search(rf'class="{kind} c1" cx="([\d.]+)"', flops)[1]) for kind in ("mark", "mark hollow"))
    assert disc < ring
    assert ">E + ?</text>" in flops
    assert ">E</text>" in seconds
    assert "10 min" in plain(seconds)


def test_bars_begin_where_the_part_before_ended(folders: list[Path]) -> None:
    records = read_runs(folders)
    table = road_bars(records, [*"ABCDEF"])
    row = table[table.index("taught") : table.index("worse")]
    places = [tuple(map(float, found)) for found in re.findall(r"margin-left:([\d.]+)%;width:([\d.]+)%", row)]
    flops, seconds = places[0::2], places[1::2]
    for bars in (flops, seconds):
        assert bars[0][0] == 0
        for (left, width), (after, _) in pairwise(bars):
            assert after == pytest.approx(min(left + width, 99.0), abs=0.02)
    assert sum(width for _, width in seconds) == pytest.approx(100, abs=0.05)
    assert row.count("shelf") == 2 + 1  # both bars of the teacher, and the name of a sum
    assert table.count('class="unknown"') == 2 + 1 + 1  # a teacher, the operations of images, the time of a teacher
    assert "<th>Machine</th>" in table
    one = road_bars(records[:2], [*"AB"])
    assert "<th>Machine</th>" not in one
    assert f"All times are of one machine: {HERE}." in one


def test_the_pages_name_the_parts(folders: list[Path], tmp_path: Path) -> None:
    page = compare(folders, tmp_path / "compare.html").read_text(encoding="utf-8")
    assert '<section id="road">' in page
    assert "By top-1, <b><bdi>widened</bdi></b> is ahead" in page
    own = write_report(folders[1], None, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "linear probe of resnet50 by dino" in own
    assert "The whole road" not in write_report(folders[0], None, tmp_path / "alone.html").read_text(encoding="utf-8")


def test_runs_without_a_receipt_have_no_road(run_folder: Make) -> None:
    records = read_runs([run_folder("begun", finished=False)])
    assert [record.road for record in records] == [()]
    assert "No cost was recorded yet" in road_section(records, ["A"])


def test_hostile_words_stay_text(paid: Make) -> None:
    nasty = "<script>alert(1)</script>"
    parts = [{**PARTS[0], "what": nasty, "machine": nasty}]
    record: RunRecord = read_runs([paid("run", 70.0, 1e12, 1.0, teacher={**TEACHER, "origin": nasty, "parts": parts})])[
        0
    ]
    section = road_section([record], ["A"])
    assert "<script" not in section
    assert section.count("&lt;script&gt;") >= 2


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (2, 200, ["3 s", "10 s", "30 s", "1 min", "3 min"]),
        (50, 90000, ["1 min", "10 min", "1 h", "10 h"]),
        (290, 510, ["5 min", "6 min", "8 min"]),
        (301, 340, ["5.2 min", "5.4 min", "5.6 min"]),
        (86_000, 90_000, ["24.0 h", "24.2 h", "24.4 h", "24.6 h", "24.8 h", "25.0 h"]),
    ],
)
def test_an_axis_of_time_has_ticks_that_clocks_have(low: float, high: float, wanted: list[str]) -> None:
    assert [plain(text) for _, text in Scale(low, high, 0, 1, log=True, as_time=True).ticks()] == wanted
    assert len(Scale(1.2, 2.8, 0, 1, log=True, as_time=True).ticks()) > 1, "short ones have seconds"


@pytest.mark.parametrize(("low", "high"), [(1.02e12, 1.36e12), (3.1e12, 3.2e12), (1e9, 5e9), (1e9, 1e13)])
def test_an_axis_has_two_ticks_or_more_however_short_it_is(low: float, high: float) -> None:
    ticks = Scale(low, high, 0, 1, log=True).ticks()
    assert 2 <= len(ticks) <= 7
    assert len({text for _, text in ticks}) == len(ticks)
