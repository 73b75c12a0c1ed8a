"""What `wisp synthesize` asks for, and how it tells pictures apart; no pipeline needed."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from small_runs import Wisp, picture
from wisp.errors import WispError
from wisp.synthesis.pictures import ALIKE, Seen, bits_of, black, seed_of
from wisp.synthesis.prompts import PRESETS, filled, readable, template


def test_the_papers_prompts_by_name_as_help_says_them(wisp: Wisp) -> None:
    """Table 7."""
    assert [template(name) for name in ("caltech-101", "dtd", "MIT_67")] == [
        "a picture of a {class}",
        "{class} texture",
        "the inside of a {class}",
    ]
    told = "".join(wisp("synthesize", "--help").out.replace("│", "").split())
    assert all(name in told for name in PRESETS)
    assert all("".join(prompt.split()) in told for prompt in PRESETS.values())


def test_a_prompt_of_ones_own() -> None:
    assert filled(template("{a {class}, {x}"), "bus_stop") == "{a bus stop, {x}"
    with pytest.raises(WispError, match=r"has no \{class\}.*such as dtd"):
        template("dt")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bus_stop", "bus stop"),
        ("012.Yellow_billed_cuckoo", "Yellow billed cuckoo"),
        ("003-tench", "tench"),
        ("7", "7"),
        ("1.5", "1.5"),
        ("747-400", "747-400"),
        ("__odd__", "odd"),
        ("3D_model", "3D model"),
    ],
)
def test_class_names_are_made_readable(name: str, said: str) -> None:
    assert readable(name) == said


def test_every_picture_has_a_seed_of_its_own() -> None:
    seeds = {seed_of(s, n, k, a) for s in range(3) for n in ("a", "b", "1/a") for k in range(12) for a in range(3)}
    assert len(seeds) == 3 * 3 * 12 * 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seed_of(0, "tench", 0, 0) == 9187265080282614314, "of all versions, so that a folder can be continued"


def test_bits_against_a_loop() -> None:
    image = picture(3, side=72)
    grey = np.asarray(image.convert("L")).astype(float)
    means = [[grey[9 * r : 9 * r + 9, 8 * c : 8 * c + 8].mean().round() for c in range(9)] for r in range(8)]
    wanted = 0
    for row in means:
        for left, right in itertools.pairwise(row):
            wanted = 2 * wanted + (right > left)
    assert (bits_of(image) ^ wanted).bit_count() <= 2, "PIL rounds in between"


def test_a_picture_that_is_saved_or_resized_stays_alike() -> None:
    image = picture(0, side=64)
    compressed = io.BytesIO()
    image.save(compressed, "JPEG", quality=80)
    seen = Seen()
    seen.add("a", bits_of(image))
    with Image.open(compressed) as again:
        assert ("a", bits_of(again)) in seen
    assert ("a", bits_of(image.resize((48, 40)))) in seen
    assert ("a", bits_of(image.point(lambda value: value // 2 + 40))) in seen


def test_other_pictures_are_not_alike() -> None:
    seen = Seen()
    for seed in range(200):
        bits = bits_of(picture(seed))
        assert ("a", bits) not in seen
        seen.add("a", bits)


def test_near_counts_within_a_class_and_equal_everywhere() -> None:
    seen = Seen()
    seen.add("a", 0)
    limit = (1 << ALIKE) - 1
    assert ("a", limit) in seen
    assert ("a", 2 * limit + 1) not in seen
    assert ("b", limit) not in seen
    assert ("b", 0) in seen


def test_black_is_all_of_it() -> None:
    image = Image.new("RGB", (8, 8))
    assert black(image)
    image.putpixel((3, 3), (0, 0, 1))
    assert not black(image)
