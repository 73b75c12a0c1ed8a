"""The methods' own words in the README and in docs."""

from __future__ import annotations

from benchmarks import methods as notes
from wisp import methods
from wisp.methods import seed, slimclr


def test_the_overview_names_every_method_once() -> None:
    lines = notes.overview().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == methods.names()
    assert all(line.count("|") == 6 for line in lines)


def test_a_section_holds_every_setting_with_its_note() -> None:
    text = notes.sections({}, lambda receipts: "")
    for name in methods.names():
        section = text.partition(f"## `{name}`\n")[2].partition("\n## ")[0]
        config = methods.load(name).Config()
        rows = [line for line in section.splitlines() if line.startswith("| `") and "`--method.`" not in line]
        assert len(rows) == len(vars(config))
        assert all(row.rsplit("|", 2)[1].strip() for row in rows), f"a setting of {name} says nothing"
        for settings in methods.load(name).SETTINGS.values():
            assert settings.source in section


def test_receipts_stand_at_their_method() -> None:
    receipts = {"folder": {"a": {"recipe": {"method_name": "xd"}}, "b": {"recipe": {"method_name": "byol"}}}}
    text = notes.sections(receipts, lambda found: f"rows: {', '.join(found)}")
    assert "rows: a" in text.partition("## `xd`")[2]
    assert text.count("rows: ") == 2


def test_field_notes_are_the_strings_below_the_fields() -> None:
    found = notes.field_notes(slimclr.Config)
    assert found["lr_jump"].startswith("Factor on the learning rate")
    assert set(found) == set(vars(slimclr.Config()))
    found = notes.field_notes(seed.Config)  # of the class that it begins with, too
    assert set(found) == set(vars(seed.Config()))


def test_fields_that_methods_share_bring_their_notes_along() -> None:
    section = notes.sections({}, lambda receipts: "").partition("## `rekd`\n")[2].partition("\n## ")[0]
    assert "| `teacher` | None | A timm name" in section
    assert "teacher-size" not in section
