"""A method that is a reading of a paper that could not be read says so wherever its name stands."""

from __future__ import annotations

import re

from benchmarks import methods as notes
from small_methods import config_of
from wisp import listing, methods
from wisp.run import Run

READINGS = ["oss", "rekd"]


def test_who_writes_of_an_unread_paper_says_that_it_is_a_reading() -> None:
    """In these words, or in any that come to mind: a source that speaks of what was not read, or hardly."""
    unread = re.compile(r"could (not )?be read|not be read|never read|unread|a reading", re.I)
    for name in methods.names():
        assert bool(unread.search(methods.about(name).source)) == methods.about(name).reading, name
    assert [name for name in methods.names() if methods.about(name).reading] == READINGS


def test_its_paper_is_still_found() -> None:
    assert [methods.about(name).paper for name in READINGS] == ["Choi et al. 2021", "Zheng et al. 2022"]


def test_names_that_are_no_methods_are_left_alone() -> None:
    assert [methods.titled(name) for name in ("rekd", "seed", "gone", "?")] == ["rekd (a reading)", "seed", "gone", "?"]


def test_every_table_says_it() -> None:
    listed = "\n".join(listing.LISTS["methods"]())
    overview = notes.overview()
    for name in READINGS:
        assert re.search(rf"^{name} \(a reading\) ", listed, re.M)
        assert f"| `{name}` (a reading) |" in overview
        assert Run(method=config_of(name), data="digits").method_title.startswith(f"{name} (a reading)")
    assert listed.count("(a reading)") == overview.count("(a reading)") == len(READINGS)
