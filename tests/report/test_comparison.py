import json
import re
from html.parser import HTMLParser

import pytest

from wisp.errors import WispError
from wisp.report.comparison import compare, comparison_table, run_keys
from wisp.report.formats import MISSING, THIN, si
from wisp.report.page import write_report
from wisp.report.runs import read_run
from wisp.report.sections import headline, title


class Text(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def folders(run_folder):
    return [
        run_folder("sacl"),
        run_folder("xd", method_name="xd", gain=-3.0),
        run_folder("barlow", method_name="barlow_twins", gain=-6.0, epochs=10, lr=0.1),
    ]


def test_the_text_table_is_aligned_and_complete(folders):
    lines = comparison_table(folders).splitlines()
    assert len(lines) == 2 + 6
    head, rule, *rows = lines
    for word in ("run", "method", "kNN-20", "kNN-200", "linear", "untrained", "FLOP", "epochs"):
        assert word in head
    ends = [match.end() for match in re.finditer(r"-+", rule)]
    starts = [match.start() for match in re.finditer(r"-+", rule)]
    for line in (head, *rows):
        padded = line.ljust(len(rule))
        for end, start in zip(ends, starts[1:], strict=False):
            assert padded[end:start] == "  "
    assert "95.1" in rows[0]
    assert "89.1" in rows[4]
    assert "10" in rows[4].split()[-1]


def test_the_page_sets_the_runs_side_by_side(folders, tmp_path):
    source = compare(folders, tmp_path / "compare.html").read_text(encoding="utf-8")
    page = Text(source)
    assert "By kNN-20, sacl is ahead with 95.1" in page.text
    assert "3.0 points before the next" in page.text
    assert (
        source[source.index('id="charts"') :].count('class="mark') == 12
    )  # six encoders by kNN and by the linear probe
    assert "kNN accuracy by epoch" in page.text
    differences = Text(source[source.index('id="differences"') :]).text
    for setting in ("method_name", "barlow_twins", "epochs", "lr"):
        assert setting in differences
    assert "precision" not in differences
    assert not re.search(r"https?://", source)


def test_numbers_that_do_not_compare_are_called_out(run_folder):
    folders = [run_folder("a"), run_folder("b", data="cifar10"), run_folder("c", finished=False)]
    table = comparison_table(folders)
    assert "Different data" in table
    assert "Not finished, the monitor's last word is shown: c." in table
    assert "is ahead" not in compare(folders[:2], folders[0].parent / "page.html").read_text()


def test_what_differs_between_protocols_is_named(run_folder):
    one, other = run_folder("one"), run_folder("other")
    file = other / "result.json"
    receipt = json.loads(file.read_text(encoding="utf-8"))
    receipt["protocol"] = (receipt.get("protocol") or {}) | {"questions": 7, "image_size": 8}
    file.write_text(json.dumps(receipt), encoding="utf-8")
    (said,) = [line for line in comparison_table([one, other]).splitlines() if "protocols" in line]
    assert "questions" in said
    assert "image_size" in said
    assert "knn" not in said


def test_one_run_and_runs_without_anything_in_common(run_folder, tmp_path):
    only = run_folder("only")
    alone = compare([only], tmp_path / "one.html").read_text()
    assert "is ahead" not in alone
    assert "1 run, 2 encoders." in alone
    bare = run_folder("bare", finished=False, epochs=0)
    source = compare([only, bare], tmp_path / "two.html").read_text()
    assert "is ahead" not in source
    assert len(comparison_table([bare]).splitlines()) == 4


def test_hostile_names_stay_text(run_folder, tmp_path):
    nasty = "<script>document.title='pwned'</script>"
    folders = [
        run_folder("<img src=x onerror=alert(1)>", model=nasty),
        run_folder("b", method_name=nasty, **{nasty: nasty}),
    ]
    page = Text(compare(folders, tmp_path / "compare.html").read_text())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert page.text.count(nasty) >= 4


def test_nothing_to_compare(tmp_path):
    with pytest.raises(WispError, match="at least one"):
        compare([], tmp_path / "compare.html")
    with pytest.raises(WispError, match="not a run folder"):
        comparison_table([tmp_path])


def test_keys_go_on_after_z():
    assert run_keys(28)[-3:] == ["Z", "AA", "AB"]


def taught(folder, bill):
    result = json.loads((folder / "result.json").read_text())
    result["cost"]["teacher"] = {"origin": "resnet50 by dino", "note": "", **bill}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_teachers_bill_is_part_of_the_price(run_folder, tmp_path):
    alone = run_folder("alone")
    own = json.loads((alone / "result.json").read_text())["cost"]["total_flops"]
    assert "teacher" not in comparison_table([alone])
    folders = [
        alone,
        taught(run_folder("known"), {"flops": 10**15, "certainty": "known", "labels": False}),
        taught(run_folder("guessed"), {"flops": 2 * 10**15, "certainty": "estimated", "labels": True}),
        taught(run_folder("unknown"), {"flops": None, "certainty": "unknown", "labels": False}),
    ]
    lines = comparison_table(folders).splitlines()
    for line, cells in zip(
        lines[2:10:2],
        [
            (si(own), MISSING, si(own)),
            (si(own), si(1e15), si(own + 1e15)),
            (si(own), f"~{si(2e15)}", f"~{si(own + 2e15)}"),
            (si(own), "unknown", f"≥ {si(own)}"),
        ],
        strict=True,
    ):
        assert re.search(r"\s+".join(map(re.escape, cells)), line), line
    assert lines[-2:] == [
        "Nobody knows what the teacher cost, it is not counted: unknown.",
        "Not label-free, by their own training or their teacher's: guessed.",
    ]


def test_time_and_operations_of_a_run_are_of_the_same_parts(run_folder):
    folder = run_folder("probed")
    result = json.loads((folder / "result.json").read_text())
    result["cost"] |= {"seconds": 60.0, "probe": {"flops": 10, "seconds": 30.0}}
    result["cost"]["teacher"] = {
        "origin": "resnet50 by dino",
        "flops": 7,
        "certainty": "known",
        "note": "",
        "seconds": 900,
    }
    (folder / "result.json").write_text(json.dumps(result))
    assert f"1{THIN}min 30{THIN}s" in comparison_table([folder]).splitlines()[2]


def test_who_saw_labels_is_named_beside_those_who_did_not(run_folder):
    blind, told = run_folder("blind"), run_folder("told")
    result = json.loads((told / "result.json").read_text())
    next(iter(result["encoders"].values()))["classifier"] = {"top1": 50.0}
    (told / "result.json").write_text(json.dumps(result))
    assert "Not label-free, by their own training or their teacher's: told." in comparison_table([blind, told])
    assert "label-free" not in comparison_table([told])
    guided = taught(run_folder("guided"), {"flops": 1, "certainty": "known", "labels": True})
    assert "Not label-free, by their own training or their teacher's: guided." in comparison_table([guided])
    unsaid = taught(run_folder("unsaid"), {"flops": 1, "certainty": "known", "labels": None})
    assert "Nobody knows whether their teacher saw labels: unsaid." in comparison_table([blind, unsaid])


def test_of_a_teacher_whose_bill_is_known_in_part_that_part_counts(run_folder, tmp_path):
    """A student of a public teacher teaches: 45 G were counted, and nobody knows the rest."""
    parts = [{"kind": "teacher", "what": "training of x", "flops": None}, {"kind": "training", "flops": 45 * 10**9}]
    folder = taught(run_folder("partly"), {"flops": None, "certainty": "unknown", "parts": parts})
    own = json.loads((folder / "result.json").read_text())["cost"]["total_flops"]
    text = comparison_table([folder])
    assert re.search(rf"{re.escape(si(own))}\s+≥ {si(45e9)}\s+≥ {re.escape(si(own + 45e9))}", text), text
    assert "Nobody knows all that the teacher cost, it is counted only in part: partly." in text
    assert "it is not counted" not in text
    page = write_report(folder, None, tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<dd>≥ {si(45e9, 'FLOP')}</dd>" in page
    assert f"its teacher's training: ≥ {si(45e9, 'FLOP')}" in page.replace("&#x27;", "'")


def test_dots_stand_at_the_whole_price(run_folder, tmp_path):
    alone, with_teacher = run_folder("a"), taught(run_folder("b"), {"flops": 10**17, "certainty": "known"})
    blind = taught(run_folder("c"), {"flops": None, "certainty": "unknown"})
    source = compare([alone, with_teacher, blind], tmp_path / "page.html").read_text(encoding="utf-8")
    charts = source[source.index('id="charts"') :]
    places = [float(x) for x in re.findall(r'class="mark c\d" cx="([\d.]+)"', charts)][:3]
    assert places[0] == places[2] < places[1]
    assert "C 1x + ?" in source
    assert "its teacher's training: 100" in source.replace("&#x27;", "'")
    page = write_report(with_teacher, None, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "resnet50 by dino" in page
    assert "(known)" in page


def test_a_reading_says_so_in_every_row_and_on_its_own_page(run_folder, tmp_path):
    folders = [run_folder("first", method_name="rekd"), run_folder("second", method_name="xd")]
    assert comparison_table(folders).count("rekd (a reading)") == 2  # a row an encoder
    page = compare(folders, tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "rekd (a reading)" in page
    assert "xd (a reading)" not in page
    record = read_run(folders[0])
    assert "rekd (a reading)" in headline(record)
    assert "rekd (a reading)" in title(record)
