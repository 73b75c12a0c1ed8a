"""Settings that hardly suit the data: the training goes on, and says so on the screen and in its log."""

from __future__ import annotations

from pathlib import Path

import pytest

from small_methods import IMAGES, small_method
from small_runs import SMALL, Wisp
from wisp import methods

pytestmark = pytest.mark.usefixtures("quick", "here")


def test_a_warning_is_shown_and_kept(wisp: Wisp, photos: Path, here: Path) -> None:
    words = ("pretrain", "dino", "--data", photos, *SMALL, "--method.prototypes", "40", "--out", "run")
    answer = wisp(*words)
    assert (answer.code, answer.err) == (0, "")
    line = "40 prototypes for 24 images are fewer than 10 images for each; --method.prototypes 2 or fewer suit them"
    before, _, _ = answer.out.partition("epoch 1:")
    assert f"   warning  {line}\n" in before
    assert (here / "run" / "train.log").read_text().count(f"  warning: {line}\n") == 1


@pytest.mark.parametrize("name", ["swav", "dino", "oss"])
def test_ten_images_for_every_prototype(name: str) -> None:
    enough = IMAGES // 10
    assert small_method(name, prototypes=enough).warnings() == []
    (line,) = small_method(name, prototypes=enough + 1).warnings()
    assert line.startswith(f"{enough + 1} prototypes for {IMAGES} images")
    assert line.endswith(f"--method.prototypes {enough} or fewer suit them")


@pytest.mark.parametrize(("name", "base"), [("moco_v2", {}), ("slimclr", {}), ("sacl_xd", {"loss": "moco_v2"})])
def test_a_queue_that_holds_most_of_the_data(name: str, base: dict[str, object]) -> None:
    """Also of a method that builds on another; its size is told either way."""
    step = 16 if name == "sacl_xd" else 8  # both directions give keys
    half = IMAGES // 2
    fitting, overlong = (small_method(name, batch_size=8, queue=size, **base) for size in (half, half + step))
    assert fitting.warnings() == []
    assert fitting.chosen() == {"queue": half}
    (line,) = overlong.warnings()
    assert line == f"a queue of {half + step} keys holds more than half of the {IMAGES} training images; " + (
        f"use --method.queue {half} or less"
    )


def test_a_batch_that_holds_most_of_the_data() -> None:
    """The smallest queue is a step's keys, and already too long."""
    (line,) = small_method("moco_v2", batch_size=IMAGES // 2 + 8).warnings()
    assert line.endswith("use a smaller --batch-size")


@pytest.mark.parametrize("name", sorted(set(methods.names()) - {"swav", "dino", "oss"}))
def test_the_smallest_form_of_the_others_has_nothing_to_warn_of(name: str) -> None:
    assert small_method(name).warnings() == []
