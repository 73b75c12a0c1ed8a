import math

import pytest

from wisp.report.formats import THIN, count, duration, esc, number, percent, plain, points, short_si, shorten, si, tick


def test_text_is_safe_in_html_attributes_and_utf8():
    text = esc("<b> & \"quoted\" 'single' 猫 \x00\x1b \udc80")
    assert text == "&lt;b&gt; &amp; &quot;quoted&quot; &#x27;single&#x27; 猫 \ufffd\ufffd \ufffd"
    text.encode("utf-8")


@pytest.mark.parametrize("value", [None, "7", True, math.nan, math.inf, [1]])
def test_what_is_no_finite_number_is_missing(value):
    assert number(value) is None
    assert {percent(value), si(value), count(value), duration(value), plain(value)} == {"–"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (272_000, "272_k"),
        (999_600, "1.00_M"),
        (1.843e9, "1.84_G"),
        (3.4e13, "34.0_T"),
        (0.25, "0.25"),
        (1e30, "1.00e+30"),
    ],
)
def test_si(value, text):
    assert si(value).replace(THIN, "_") == text


def test_si_keeps_the_unit_with_its_prefix():
    assert si(1.843e9, "FLOP").replace(THIN, " ") == "1.84 GFLOP"
    assert si(12, "B").replace(THIN, " ") == "12 B"


def test_axis_labels():
    assert [tick(value, 0.5) for value in (-0.5, 0.0, 1.0)] == ["−0.5", "0.0", "1.0"]
    assert [tick(value, 20) for value in (0, 120)] == ["0", "120"]
    assert tick(20_000, 10_000).replace(THIN, " ") == "20 k"
    assert tick(3e-7, 1e-7) == "3e−07"
    assert [short_si(value).replace(THIN, " ") for value in (3e12, 1.5e12, 1e30, 100)] == [
        "3 T",
        "1.5 T",
        "1.00e+30",
        "100",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1.24, "1.2_s"),
        (42, "42_s"),
        (59.7, "1_min 00_s"),
        (252, "4_min 12_s"),
        (11_220, "3_h 07_min"),
        (180_000, "2_d 2_h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds).replace(THIN, "_") == text


def test_accuracies_and_their_differences():
    assert percent(0.9534).replace(THIN, " ") == "95.3 %"
    assert [points(value) for value in (0.071, -0.0309, 0.0001)] == ["+7.1 points", "−3.1 points", "±0.0 points"]


def test_plain_numbers():
    assert [plain(value) for value in (12.3456, 0.00012, -2.9, 123_456.7)] == ["12.35", "0.00012", "−2.9", "123,457"]


def test_long_text_keeps_its_end():
    assert shorten("a" * 50 + ".jpeg", 20) == "a" * 13 + "…" + "a.jpeg"
    assert shorten("short", 20) == "short"
