"""`wisp synthesize` with a real, tiny, random pipeline: loaded from its folder, sampled, written, continued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from small_diffusion import save_pipeline
from small_runs import Answer, Wisp, write_classes
from wisp.data.check import check
from wisp.data.sources import open_source
from wisp.synthesis import drawing, pictures
from wisp.synthesis.pipeline import Drawn, Painter

CLASSES = ["002.Yellow_cuckoo", "bus_stop", "tench"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("hub") / "tiny")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three classes, with a picture each."""
    root = write_classes(tmp_path / "photos")
    for folder in ("a", "b"):
        shutil.rmtree(root / folder)
    for name in CLASSES:
        (root / name).mkdir()
        Image.new("RGB", (8, 8)).save(root / name / "0.png")
    return root


@pytest.fixture
def draw(wisp: Wisp, tiny: Path, photos: Path, here: Path) -> Any:
    """`draw("--out", "x", ...)`: two pictures of each of three classes in two steps, unless told otherwise."""

    def run(*more: str | Path, out: str = "out", pipeline: str | Path = tiny, per_class: int = 2) -> Answer:
        words = ["--classes-from", photos, "--out", out, "--pipeline", pipeline, "--per-class", str(per_class)]
        return wisp("synthesize", *words, "--steps", "2", "--precision", "fp32", "--accelerator", "cpu", *more)

    return run


@pytest.fixture
def refused(draw: Any, here: Path) -> Any:
    """The one line of a command that wrote nothing."""

    def run(*more: str | Path, **others: Any) -> str:
        before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
        line: str = draw(*more, **others).refusal()
        assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before
        return line

    return run


def manifest(folder: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "manifest.json").read_text())
    return found


def files(folder: str | Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*.png"))}


def without_time(folder: str | Path) -> dict[str, Any]:
    return {key: value for key, value in manifest(folder).items() if key != "seconds"}


# pictures ------------------------------------------------------------------------------------------------------------


def test_class_folders_of_pictures_and_a_manifest(draw: Any, tiny: Path) -> None:
    answer = draw()
    assert (answer.code, answer.err) == (0, ""), "not a byte of diffusers' own"
    assert set(files("out")) == {f"{name}/{number:05}.png" for name in CLASSES for number in range(2)}
    found = manifest("out")
    assert found["schema"] == 1
    assert (found["pipeline"], found["kind"]) == ("tiny", "StableDiffusionPipeline")
    assert found["licence"] == "creativeml-openrail-m"
    assert (found["prompt"], found["per_class"], found["steps"]) == ("a picture of a {class}", 2, 2)
    assert (found["guidance"], found["image_size"], found["seed"], found["precision"]) == (7.5, 16, 0, "fp32")
    assert found["seconds"] > 0
    assert (found["drawn"], found["dropped"], found["duplicates"], found["left_out"]) == (6, 0, 0, [])
    assert set(found["images"]) == set(files("out"))
    entry = found["images"]["002.Yellow_cuckoo/00001.png"]
    assert entry["prompt"] == "a picture of a Yellow cuckoo"
    assert entry["seed"] == pictures.seed_of(0, "002.Yellow_cuckoo", 1, 0)
    assert str(tiny.parent) not in Path("out/manifest.json").read_text(), "no path of this machine"
    assert "next: wisp distill au --data" in answer.out
    assert "6 pictures of 3 classes" in answer.out
    with Image.open("out/tench/00000.png") as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")


def test_the_folder_is_a_data_set(draw: Any) -> None:
    draw()
    source = open_source("out")
    assert (source.classes, len(source)) == (tuple(CLASSES), 6)
    report = check("out")
    assert report.usable
    assert not report.bad
    assert not report.duplicates


def test_a_picture_is_what_the_pipeline_draws_from_its_prompt_and_seed(draw: Any, tiny: Path) -> None:
    draw("--guidance", "3")
    pipeline = StableDiffusionPipeline.from_pretrained(str(tiny), dtype=torch.float32)
    for path, entry in manifest("out")["images"].items():
        generator = torch.Generator().manual_seed(entry["seed"])
        wanted = pipeline(entry["prompt"], generator=generator, num_inference_steps=2, guidance_scale=3.0).images[0]
        with Image.open(Path("out") / path) as found:
            assert _apart(found, wanted) <= 1


def _apart(a: Image.Image, b: Image.Image) -> int:
    return int(np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


@pytest.mark.parametrize("size", [1, 5])
def test_the_batch_size_changes_no_picture(draw: Any, size: int) -> None:
    """Seeds are the same; a level of 255 is left to kernels, which may sum in another order for another batch."""
    draw()
    draw("--batch-size", str(size), out="other")
    assert set(files("out")) == set(files("other"))
    for path in files("out"):
        with Image.open(f"out/{path}") as one, Image.open(f"other/{path}") as another:
            assert _apart(one, another) <= 1
    seeds = [{path: entry["seed"] for path, entry in manifest(x)["images"].items()} for x in ("out", "other")]
    assert seeds[0] == seeds[1]


def test_another_seed_draws_other_pictures(draw: Any) -> None:
    draw()
    draw("--seed", "1", out="other")
    assert not set(files("out").values()) & set(files("other").values())


def test_the_operations_do_not_depend_on_the_batch(draw: Any, tiny: Path) -> None:
    draw(per_class=1)
    draw("--batch-size", "1", out="other", per_class=1)
    assert manifest("out")["flops"] == manifest("other")["flops"] > 0
    draw("--steps", "4", out="longer", per_class=1)
    assert manifest("out")["flops"] < manifest("longer")["flops"] < 2 * manifest("out")["flops"], "the decoder is once"


def test_what_cannot_be_counted_is_null(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, display: bool) -> None:
            pass

        def __enter__(self) -> None:
            raise RuntimeError("no kernel for this mode")

        def __exit__(self, *_: object) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr("wisp.synthesis.pipeline.FlopCounterMode", Broken)
        assert draw(per_class=1).code == 0
    assert manifest("out")["flops"] is None
    assert draw(per_class=2).code == 0
    assert manifest("out")["flops"] is None, "a sum with an unknown part"


def test_a_slash_in_a_name_is_no_folder(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        classes = ("door/inside", "door/outside")

    monkeypatch.setattr("wisp.synthesis.synthesize.open_source", lambda data: Named())
    draw(per_class=1)
    assert set(files("out")) == {"door_inside/00000.png", "door_outside/00000.png"}
    assert manifest("out")["images"]["door_inside/00000.png"]["prompt"] == "a picture of a door inside"
    assert open_source("out").classes == ("door_inside", "door_outside")


# going on ------------------------------------------------------------------------------------------------------------


@contextmanager
def stopped(batches: int) -> Iterator[None]:
    """A command in it is interrupted when it begins one batch more than these."""
    whole, calls = Painter.draw, iter(range(batches))

    def draw(self: Painter, prompts: Sequence[str], seeds: Sequence[int]) -> list[Drawn]:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return whole(self, prompts, seeds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Painter, "draw", draw)
        yield


def test_an_interrupted_command_goes_on_to_the_very_same_folder(draw: Any) -> None:
    draw("--batch-size", "2", out="whole")
    with stopped(2):
        answer = draw("--batch-size", "2")
    assert answer.code == 130
    assert "the same command goes on from there" in answer.err
    assert len(files("out")) == 4
    assert set(manifest("out")["images"]) == set(files("out"))
    assert not list(Path("out").rglob(".*"))
    answer = draw("--batch-size", "2")
    assert (answer.code, answer.err) == (0, "")
    assert "4 of them are there" in answer.out
    assert files("out") == files("whole")
    assert without_time("out") == without_time("whole")


def test_interrupted_before_the_first_picture_leaves_nothing(draw: Any) -> None:
    with stopped(0):
        assert draw(out="deep/out").code == 130
    assert not Path("deep").exists()


def test_a_complete_folder_needs_no_pipeline(draw: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw()
    before = files("out"), manifest("out")
    monkeypatch.setattr(Painter, "__init__", None)
    answer = draw()
    assert answer.code == 0
    assert "complete" in answer.out
    assert (files("out"), manifest("out")) == before


def test_more_pictures_of_each_class_are_those_of_one_command(draw: Any) -> None:
    draw(per_class=1)
    draw(per_class=2)
    draw(per_class=2, out="whole")
    assert files("out") == files("whole")
    assert without_time("out") == without_time("whole")


def test_a_listed_picture_that_has_gone_comes_back(draw: Any) -> None:
    """As after a kill between the manifest and its pictures; alone in its batch, so up to rounding."""
    draw()
    gone = Path("out/tench/00001.png").rename("gone.png")
    assert draw().code == 0
    with Image.open(gone) as before, Image.open("out/tench/00001.png") as after:
        assert _apart(before, after) <= 1
    assert manifest("out")["duplicates"] == 0, "it is not its own duplicate"
    assert manifest("out")["drawn"] == 7


# what may not stay ---------------------------------------------------------------------------------------------------


def test_a_duplicate_is_drawn_again_from_the_next_seed(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pictures.seed_of

    def same(seed: int, name: str, number: int, attempt: int) -> int:
        return real(seed, "tench", 0, 0) if name == "tench" and attempt < 2 else real(seed, name, number, attempt)

    monkeypatch.setattr(drawing, "seed_of", same)
    answer = draw()
    found = manifest("out")
    assert len(files("out")) == len(set(files("out").values())) == 6
    assert (found["duplicates"], found["dropped"], found["drawn"]) == (2, 0, 8)
    assert found["images"]["tench/00001.png"]["seed"] == real(0, "tench", 1, 2)
    assert "2 like an earlier one" in answer.out


def test_after_six_attempts_its_place_stays_empty(draw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "seed_of", lambda seed, name, number, attempt: pictures.seed_of(seed, name, 0, 0))
    answer = draw()
    found = manifest("out")
    assert set(files("out")) == {f"{name}/00000.png" for name in CLASSES}
    assert found["left_out"] == [f"{name}/00001.png" for name in CLASSES]
    assert found["duplicates"] == 3 * drawing.ATTEMPTS
    assert "after 6 attempts: 3" in answer.out
    assert "complete" in draw().out, "and is not tried again"


def _checker(blacks_out: Sequence[int], says: bool) -> Any:
    """A safety checker that finds something in the pictures of these numbers, counted over the whole command."""
    counter = iter(range(10**6))

    def run(self: Any, image: Any, device: Any, dtype: Any) -> Any:
        found = [next(counter) in blacks_out for _ in image]
        for k, flag in enumerate(found):
            if flag:
                image[k] = -1.0
        return image, found if says else None

    return run


@pytest.mark.parametrize("says", [True, False])
def test_what_a_safety_checker_blacks_out_is_drawn_again(
    draw: Any, monkeypatch: pytest.MonkeyPatch, says: bool
) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "run_safety_checker", _checker([1], says))
    answer = draw()
    found = manifest("out")
    assert (found["dropped"], found["duplicates"], found["drawn"], len(files("out"))) == (1, 0, 7, 6)
    assert found["images"]["bus_stop/00000.png"]["seed"] == pictures.seed_of(0, "bus_stop", 0, 1)
    assert "1 flagged or black" in answer.out


def test_a_pipeline_that_only_draws_black_is_refused(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StableDiffusionPipeline, "run_safety_checker", _checker(range(100), True))
    assert "flagged or black; try --precision fp32" in refused()


# bad input -----------------------------------------------------------------------------------------------------------


def test_a_prompt_without_a_class(refused: Any) -> None:
    assert 'the prompt "a cat" has no {class}' in refused("--prompt", "a cat")
    assert "such as mit-67" in refused("--prompt", "mit")


@pytest.mark.parametrize("flag", ["--per-class", "--steps", "--batch-size"])
def test_fewer_than_one(refused: Any, flag: str) -> None:
    assert refused(flag, "0") == f"{flag} is 0; it must be 1 or more"


def test_data_without_classes(refused: Any, here: Path) -> None:
    for k in range(2):
        (here / "plain").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(here / "plain" / f"{k}.png")
    assert '"plain" has no classes' in refused("--classes-from", "plain")
    assert 'no such folder or data set "nowhere"' in refused("--classes-from", "nowhere")


def test_a_pipeline_that_cannot_be_loaded(refused: Any, tiny: Path, here: Path) -> None:
    assert "holds no pipeline: model_index.json is missing" in refused(pipeline="photos")
    assert "is a file" in refused(pipeline=tiny / "model_index.json")
    assert 'no such folder "./nothing"' in refused(pipeline="./nothing")
    shutil.copytree(tiny, here / "broken")
    shutil.rmtree(here / "broken" / "unet")
    assert 'cannot load the pipeline "broken"' in refused(pipeline="broken")
    (here / "broken" / "model_index.json").write_text("{")
    assert 'cannot load the pipeline "broken"' in refused(pipeline="broken")


def test_a_hub_name_without_a_network(refused: Any, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    line = refused(pipeline="nobody-at-all/no-such-pipeline")
    assert "cannot be had from the hub" in line
    assert "hf download nobody-at-all/no-such-pipeline --local-dir FOLDER" in line


def test_a_pipeline_that_takes_no_prompt(refused: Any, here: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(16,), norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet=unet, scheduler=DDPMScheduler()).save_pretrained(here / "unconditional")
    assert "is a DDPMPipeline, which draws no pictures of prompts" in refused(pipeline="unconditional")


def test_a_size_that_the_pipeline_cannot_draw(refused: Any) -> None:
    line = refused("--image-size", "15")
    assert "the pipeline cannot draw" in line
    assert "divisible by 8" in line
    assert "--image-size is 4" in refused("--image-size", "4")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "3"], "--steps is 3 here and 2 there"),
        (["--seed", "3"], "--seed is 3 here and 0 there"),
        (["--prompt", "dtd"], '--prompt is "{class} texture" here and "a picture of a {class}" there'),
        (["--guidance", "2"], "--guidance is 2.0 here and the pipeline's own there"),
        (["--image-size", "32"], "--image-size is 32 here and the pipeline's own there"),
        (["--precision", "bf16"], '--precision is "bf16" here and "fp32" there'),
        (["--classes-from", "digits"], "pictures of other classes (002.Yellow_cuckoo, bus_stop, tench)"),
        (["--per-class", "1"], "--per-class is 1; it can only grow"),
    ],
)
def test_another_command_in_the_same_folder(refused: Any, draw: Any, words: list[str], told: str) -> None:
    draw()
    assert told in refused(*words)


def test_the_pipelines_own_settings_may_be_said_too(draw: Any) -> None:
    draw()
    assert draw("--guidance", "7.5", "--image-size", "16").code == 0


def test_another_pipeline_in_the_same_folder(refused: Any, draw: Any, here: Path) -> None:
    draw(per_class=1)
    save_pipeline(here / "other", seed=1)
    assert '--pipeline is "other" here and "tiny" there' in refused(pipeline="other")
    save_pipeline(here / "again" / "tiny", seed=1)
    assert "other weights" in refused(pipeline="again/tiny", per_class=2)


def test_a_folder_of_somebody_elses(refused: Any, draw: Any, here: Path) -> None:
    shutil.copytree("photos", "mine")
    assert "mine holds images and no manifest.json" in refused(out="mine")
    (here / "mine" / "manifest.json").write_text('{"images": 3}')
    assert "no manifest of this version" in refused(out="mine")
    (here / "mine" / "manifest.json").write_text("{")
    assert "no JSON" in refused(out="mine")
    assert "lies in the data set" in refused(out="photos/more")
    (here / "file").write_text("")
    assert "is a file" in refused(out="file")
    draw(per_class=1)
    shutil.copy("out/tench/00000.png", "out/tench/00001.png")
    assert "out/tench/00001.png is not in manifest.json" in refused()
    whole = manifest("out")
    for damage in ({"classes": None}, {"seconds": "long"}, {"drawn": None}):
        (here / "out" / "manifest.json").write_text(json.dumps(whole | damage))
        assert "no manifest of this version" in refused()


def test_a_class_that_can_have_no_folder(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Named:
        classes = (".hidden", "shown")

    monkeypatch.setattr("wisp.synthesis.synthesize.open_source", lambda data: Named())
    assert 'the class ".hidden"' in refused()
    Named.classes = ("a/b", "a_b")
    assert 'the classes "a/b" and "a_b"' in refused()


def test_without_the_extra(refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wisp.synthesis.pipeline.importlib.util.find_spec", lambda name: None)
    assert refused() == "wisp synthesize needs diffusers and transformers; pip install -e '.[synth]'"
