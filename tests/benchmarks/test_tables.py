"""Tables: what stands in the README and in docs is what the files under `results/` say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.markdown import MISSING

from benchmarks import accuracies, ratios, tables


def receipt(seed: int = 0, *, linear: float = 50.0, host: float | None = None, epochs: int = 10) -> dict[str, Any]:
    encoders = {"1x": {"knn": {"20": linear - 5, "200": linear - 6}, "linear": linear}}
    if host is not None:
        encoders["2x"] = {"knn": {"20": host - 5, "200": host - 6}, "linear": host}
    return {
        "recipe": {"model": "resnet20", "data": "cifar10/train.parquet"},
        "resolved": {"precision": "bf16"},
        "commit": "abc",
        "hardware": {"device": "cpu", "name": "Some CPU", "threads": 2},
        "seed": seed,
        "budget": {"epochs": epochs, "images": 20000, "steps": 780, "batch_size": 256},
        "protocol": {"questions": 10000},
        "encoders": encoders,
        "untrained": {"knn": {"20": 30.0, "200": 29.0}, "linear": 31.5},
        "cost": {"total_flops": 1.23e16, "seconds": 1830.0, "images_per_s": 1234.5},
    }


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_exported_encoder_comes_first_and_its_host_below() -> None:
    lines = accuracies.accuracies({"bt": receipt(), "sacl": receipt(linear=52.25, host=55.0)}).splitlines()
    head = ["run", "encoder", "kNN-20", "kNN-200", "linear", "training", "minutes", "images/s", "epochs", "seeds"]
    assert cells(lines[0]) == head
    assert cells(lines[2]) == ["untrained", "1x", "30.00", "29.00", "31.50", "", "", "", "", ""]
    assert cells(lines[3])[:5] == ["bt", "1x", "45.00", "44.00", "50.00"]
    assert cells(lines[4]) == ["sacl", "1x", "47.25", "46.25", "52.25", "12.3 PFLOP", "30", "1,234", "10", "0"]
    assert cells(lines[5]) == ["", "2x host", "50.00", "49.00", "55.00", "", "", "", "", ""]
    assert "20,000 images, batch 256, bf16." in lines[-1]
    assert "10,000 held-out images" in lines[-1]
    assert "Some CPU, 2 threads. Commit abc." in lines[-1]


def test_seeds_share_a_line_with_their_spread() -> None:
    made = accuracies.accuracies({"xd": receipt(0), "xd-s1": receipt(1, linear=53.0), "xd-s2": receipt(2, linear=47.0)})
    line = cells(made.splitlines()[3])
    assert line[4] == "50.00 (47.00 to 53.00)"
    assert line[-1] == "0, 1, 2"


def test_a_row_of_a_reading_says_so() -> None:
    found = {"online": receipt(), "plain": receipt()}
    found["online"]["recipe"]["method_name"] = "rekd"
    found["plain"]["recipe"]["method_name"] = "xd"
    rows = [cells(line)[0] for line in accuracies.accuracies(found).splitlines()[3:5]]
    assert rows == ["online (a reading)", "plain"]


def test_untrained_encoders_of_several_models_do_not_mix() -> None:
    large = receipt() | {"recipe": {"model": "resnet20x4", "data": "d"}, "untrained": {"knn": {"20": 7.0}}}
    lines = accuracies.accuracies({"teacher": large, "xd": receipt()}).splitlines()
    assert [cells(line)[:3] for line in lines[2:4]] == [
        ["untrained resnet20x4", "1x", "7.00"],
        ["untrained resnet20", "1x", "30.00"],
    ]


def test_untrained_encoders_beside_more_images_do_not_mix() -> None:
    """kNN asks among the training images, and knows more of more of them."""
    few = receipt() | {"untrained": {"knn": {"20": 7.0}}}
    few["budget"] = few["budget"] | {"images": 5000}
    lines = accuracies.accuracies({"few": few, "xd": receipt()}).splitlines()
    assert [cells(line)[:3] for line in lines[2:4]] == [
        ["untrained, 5,000 images", "1x", "7.00"],
        ["untrained, 20,000 images", "1x", "30.00"],
    ]


def test_a_taught_row_costs_its_teacher_as_well() -> None:
    """All that is known is added up: of an unknown part is left what is known, of an estimate `~`."""
    found = {name: receipt() for name in ("alone", "taught", "along", "file", "guessed", "partly")}
    bill = {"origin": "teacher", "certainty": "known", "flops": 1e15, "labels": False}
    found["taught"]["cost"]["teacher"] = bill
    found["along"]["cost"]["teacher"] = bill | {"flops": 0}
    found["file"]["cost"]["teacher"] = bill | {"origin": "resnet56", "flops": None, "labels": True}
    found["guessed"]["cost"]["teacher"] = bill | {"certainty": "estimated", "labels": None}
    parts = [{"kind": "teacher", "what": "training", "flops": None}, {"kind": "training", "flops": 10**15}]
    found["partly"]["cost"]["teacher"] = bill | {"flops": None, "parts": parts}
    lines = accuracies.accuracies(found, list(found)).splitlines()
    assert cells(lines[0])[5:8] == ["training", "its teacher", "in all"]
    assert [cells(line)[5:8] for line in lines[3:9]] == [
        ["12.3 PFLOP", "", "12.3 PFLOP"],
        ["12.3 PFLOP", "teacher: 1.00 PFLOP (known)", "13.3 PFLOP"],
        ["12.3 PFLOP", "part of it", "12.3 PFLOP"],
        ["12.3 PFLOP", "resnet56, with labels: unknown", "≥ 12.3 PFLOP"],
        ["12.3 PFLOP", "teacher, nobody knows whether with labels: 1.00 PFLOP (estimated)", "~13.3 PFLOP"],
        ["12.3 PFLOP", "teacher: ≥ 1.00 PFLOP", "≥ 13.3 PFLOP"],
    ]
    assert cells(lines[1])[5:8] == ["---:", "---", "---:"], "sums are numbers"


def test_generated_images_are_paid_for_without_a_teacher_too() -> None:
    """Seeds share a sum: the mean of their roads."""
    found = {name: receipt(seed) for seed, name in enumerate(("plain", "widened", "widened-s1"))}
    for name, flops in (("widened", 1e15), ("widened-s1", 3e15)):
        found[name]["cost"]["extra"] = {"images": 900, "pipeline": "tiny", "seconds": 1.0, "flops": flops}
    lines = accuracies.accuracies(found, list(found)).splitlines()
    assert cells(lines[0])[5:8] == ["training", "in all", "minutes"]
    assert [cells(line)[5:7] for line in lines[3:5]] == [["12.3 PFLOP", "12.3 PFLOP"], ["12.3 PFLOP", "14.3 PFLOP"]]


def test_one_thread_is_one() -> None:
    alone = receipt()
    alone["hardware"]["threads"] = 1
    assert "Some CPU, 1 thread. Commit" in accuracies.accuracies({"bt": alone})


def test_budgets_do_not_mix() -> None:
    made = accuracies.accuracies({"xd": receipt(), "xd-s1": receipt(1, epochs=200)})
    assert [cells(line)[-2] for line in made.splitlines()[3:5]] == ["10", "200"]


def test_rows_stand_in_the_order_of_their_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "ablation"
    folder.mkdir()
    for name in ("alpha-0.5", "barlow_twins", "zzz", "width-4"):
        (folder / f"{name}.json").write_text(json.dumps(receipt()), encoding="utf-8")
    lines = tables.table("ablation", tmp_path).splitlines()[3:7]
    assert [cells(line)[0] for line in lines] == ["barlow_twins", "alpha-0.5", "width-4", "zzz"]


def test_a_run_without_labels_has_no_accuracy() -> None:
    blind = receipt()
    blind["untrained"] = None
    blind["encoders"]["1x"] = {"knn": None, "linear": None}
    assert cells(accuracies.accuracies({"xd": blind}).splitlines()[3])[:3] == ["xd", "1x", MISSING]


LINES = [
    {"k": 2, "sliced_over_masked": 0.678, "seconds": {"sliced": 1.5}, "bench": "step", "cpu": "X", "threads": 2},
    {"xd_over_barlow": 1.04, "decoded": 35366.2, "bench": "step", "cpu": "X", "threads": 2},
]


def test_a_benchmark_shows_what_was_measured_and_where() -> None:
    lines = ratios.benchmark(LINES).splitlines()
    assert cells(lines[0]) == ["k", "sliced over masked", "seconds: sliced", "xd over barlow", "decoded"]
    assert cells(lines[2]) == ["2", "0.678", "1.50", MISSING, MISSING]
    assert cells(lines[3]) == [MISSING, MISSING, MISSING, "1.04", "35,366"]
    assert lines[-1].endswith("threads 2; cpu X.")


def test_all_ratios_stand_beside_their_limits(tmp_path: Path) -> None:
    """One table from every file of a folder; a limit that this machine cannot meet is left out."""
    about = {"cpu": "X", "threads": 2, "precision": "fp32"}
    lines = {
        "views": [{"px": 32, "plan": "p", "vs_torchvision": 23.4, "vs_kornia": 4.0}, {"px": 32, "bench": "decode"}],
        "step": [{"k": 2, "sliced_over_masked": 0.678, "limit": 0.7}],
        "epoch": [
            {"wisp_over_lightly": 0.5, "limit": None},
            {"method": "byol", "batch": 256, "step_over_lightly": 0.97, "limit": 1.05},
        ],
        "widths": [{"model": "m", "widths": "1/0.5", "batch": 128, "widths_over_masked": 0.58, "limit": 0.6}],
        "zz": [{"model": "m", "teacher": "w", "batch": 128, "au_over_kd": 1.01, "limit": 1.05}],
    }
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name, rows in lines.items():
        text = "".join(f"{json.dumps(row | about)}\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    rows = [cells(line) for line in tables.table("benchmarks", tmp_path).splitlines()[2:]]
    assert [row[1:3] for row in rows] == [
        ["0.50", MISSING],
        ["0.97", "at most 1.05"],
        ["0.68", "at most 0.70"],
        ["23.40", "at least 15"],
        ["4.00", "at least 3"],
        ["0.58", "at most 0.60"],
        ["1.01", "at most 1.05"],
    ]
    assert rows[0][0] == "epoch of Barlow Twins, fp32: wisp / lightly in fp32"
    assert rows[1][0] == "step of byol, batch 256, fp32: wisp / lightly"
    assert rows[5][0] == "SlimCLR step, m, widths 1/0.5, batch 128: sliced / masked"
    assert rows[6][0] == "A/U step, w teaches m, batch 128, fp32: A/U / KD"
    assert rows[3][0] == "two views, 32 px, plan p: torchvision / wisp"


def project(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "results" / "benchmarks").mkdir(parents=True)
    (tmp_path / "results" / "cifar").mkdir()
    (tmp_path / "README.md").write_text("before\n<!-- table: cifar -->\n<!-- end -->\nafter\n", encoding="utf-8")
    doc = "<!-- table: benchmarks/step -->\nold\n<!-- end -->\n\n<!-- table: absent -->\n<!-- end -->\n"
    (tmp_path / "docs" / "speed.md").write_text(doc, encoding="utf-8")
    (tmp_path / "results" / "cifar" / "xd.json").write_text(json.dumps(receipt()), encoding="utf-8")
    text = "".join(f"{json.dumps(line)}\n" for line in LINES)
    (tmp_path / "results" / "benchmarks" / "step.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_marked_blocks_are_rewritten_and_nothing_else(tmp_path: Path) -> None:
    root = project(tmp_path)
    tables.main([], root)
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("before\n<!-- table: cifar -->\n| run |")
    assert readme.endswith("\n<!-- end -->\nafter\n")
    speed = (root / "docs" / "speed.md").read_text(encoding="utf-8")
    assert "old" not in speed
    assert "0.678" in speed
    assert speed.endswith(f"<!-- table: absent -->\n{tables.NOTHING}\n<!-- end -->\n")
    tables.main(["--check"], root)
    tables.main([], root)
    assert (root / "README.md").read_text(encoding="utf-8") == readme


def test_check_names_what_is_out_of_date_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path)
    tables.main([], root)
    (root / "results" / "cifar" / "xd.json").write_text(json.dumps(receipt(linear=99.0)), encoding="utf-8")
    before = (root / "README.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        tables.main(["--check"], root)
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert "README.md" in message
    assert "speed.md" not in message
    assert (root / "README.md").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_broken_receipt_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = project(tmp_path)
    (root / "results" / "cifar" / "xd.json").write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        tables.main([], root)
    assert stop.value.code == 2
    assert "xd.json" in capsys.readouterr().err


def test_the_projects_own_tables_are_up_to_date() -> None:
    tables.main(["--check"])
