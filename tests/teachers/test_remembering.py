"""What a teacher makes of the training images is computed once, kept, and never mistaken for something else's."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from small_methods import small_teacher
from small_runs import SMALL, Wisp, picture, write_classes
from wisp.cost.count import count_forward
from wisp.data.plain import plain_batches
from wisp.data.sources import Source, Subset, open_source
from wisp.encoders import stock
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.export.card import card
from wisp.export.stock import export_encoder
from wisp.teachers import remembering

STUDENT = stock.spec("resnet8", 16)
NO_MEMORY = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Asked:
    """Remembers, with what was said and how often the teacher looked."""

    def __init__(self, teacher: Teacher | None = None) -> None:
        self.said: list[str] = []
        self.looks = 0
        self.teacher = teacher or small_teacher(STUDENT)
        self.teacher.encoder.register_forward_hook(self._count)

    def __call__(self, source: Source, shown: str = "features", **changes: object) -> Tensor:
        options = {"data": "photos", "batch_size": 7, "device": torch.device("cpu"), "tell": self.said.append}
        return remembering.remember(self.teacher, source, shown, **(options | changes))

    def _count(self, *_: object) -> None:
        self.looks += 1


def files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.npy"))


def rows_by_hand(teacher: Teacher, source: Source, show: Callable[[Tensor], Tensor]) -> Tensor:
    """One image at a time, at the teacher's own resolution."""
    sight = {"image_size": teacher.own.image_size, "mean": teacher.own.mean, "std": teacher.own.std}
    found = [next(plain_batches(source, [i], batch_size=1, left_out=set(), **sight)) for i in range(len(source))]
    with torch.no_grad():
        return torch.cat([show(image) for image in found])


def test_rows_are_the_teachers_in_the_order_of_the_images(photos: Path) -> None:
    asked, source = Asked(), open_source(str(photos))
    teacher = asked.teacher
    features = asked(source)
    assert features.dtype == torch.float16
    by_hand = rows_by_hand(teacher, source, teacher.encoder)
    torch.testing.assert_close(features.float(), by_hand, rtol=1e-3, atol=1e-4)
    assert (by_hand[0] - by_hand[1]).abs().max() > 1e-2, "the teacher tells the images apart"
    assert by_hand.norm(dim=1).std() > 1e-2, "rows keep their lengths, which differ"
    assert teacher.head is not None
    embeddings = asked(source, "embeddings")
    wanted = rows_by_hand(teacher, source, lambda image: teacher.head(teacher.encoder(image)))
    torch.testing.assert_close(embeddings.float(), wanted, rtol=1e-3, atol=1e-4)
    assert features.shape == (24, 24)
    assert embeddings.shape == (24, 16)


def test_a_second_time_nothing_is_computed(photos: Path, cache: Path) -> None:
    first = Asked()
    rows = first(open_source(str(photos)))
    assert len(first.said) == 1
    assert "features of 24 images by the teacher small; they are kept in" in first.said[0]
    again = Asked(small_teacher(STUDENT))
    assert torch.equal(again(open_source(str(photos)), batch_size=3), rows)
    assert (again.looks, again.said) == (0, [])
    assert len(files(cache)) == 1
    assert [file.name for file in cache.rglob("*.part")] == []


def test_rows_are_mapped_and_the_file_stays_as_it_is(photos: Path, cache: Path) -> None:
    rows = Asked()(open_source(str(photos)))
    before = files(cache)[0].read_bytes()
    rows.zero_()
    assert files(cache)[0].read_bytes() == before
    assert Asked()(open_source(str(photos))).abs().sum() > 0


def test_another_student_size_is_the_same_file(photos: Path, cache: Path) -> None:
    Asked()(open_source(str(photos)))
    other = Asked(small_teacher(stock.spec("resnet8", 32)))
    other(open_source(str(photos)))
    assert other.looks == 0


def test_another_teacher_or_part_of_the_data_is_another_file(photos: Path, cache: Path) -> None:
    source = open_source(str(photos))
    whole = Asked()(source)
    even = Asked()(Subset(source, range(0, 24, 2)))
    assert torch.equal(even, whole[::2])
    assert len(files(cache)) == 2
    backwards = Asked()(Subset(source, reversed(range(24))))
    assert torch.equal(backwards, whole.flip(0))
    other = Asked(small_teacher(STUDENT, seed=12))(source)
    assert not torch.equal(other, whole)
    sight = small_teacher(STUDENT)
    object.__setattr__(sight.own, "image_size", 24)
    assert not torch.equal(Asked(sight)(source), whole)
    Asked()(source, "embeddings")
    Asked()(source, data="elsewhere/photos")
    assert len(files(cache)) == 7
    last = Asked()
    assert torch.equal(last(source), whole)
    assert last.looks == 0


@pytest.mark.parametrize("damage", ["truncated", "emptied", "scribbled", "misshapen"])
def test_a_damaged_file_is_made_again_and_that_is_said(photos: Path, cache: Path, damage: str) -> None:
    rows = Asked()(open_source(str(photos))).clone()  # the mapped file is about to change under it
    (file,) = files(cache)
    content = file.read_bytes()
    other = content.replace(b"(24, 24)", b"(12, 24)")
    file.write_bytes(
        {"truncated": content[:-1], "emptied": b"", "scribbled": b"x" * len(content), "misshapen": other}[damage]
    )
    again = Asked()
    assert torch.equal(again(open_source(str(photos))), rows)
    assert again.looks
    assert len(again.said) == 1
    assert "again: the kept file is damaged" in again.said[0]
    assert file.read_bytes() == content


def test_changed_images_are_looked_at_again_and_that_is_said(photos: Path, cache: Path) -> None:
    rows = Asked()(open_source(str(photos)))
    picture(99).save(photos / "05.png")
    os.utime(photos / "05.png", (1, 1))
    again = Asked()
    new = again(open_source(str(photos)))
    assert [i for i in range(24) if not torch.equal(new[i], rows[i])] == [5]
    assert len(again.said) == 1
    assert "again: the images changed" in again.said[0]
    assert len(files(cache)) == 1, "the stale one is gone"


def test_a_moved_data_set_is_the_same(photos: Path) -> None:
    Asked()(open_source(str(photos)))
    moved = photos.parent / "elsewhere" / "photos"
    moved.parent.mkdir()
    photos.rename(moved)
    again = Asked()
    again(open_source(str(moved)))
    assert again.looks == 0


@pytest.mark.parametrize("broken", [[0], [23], [3, 4], [6, 7], list(range(7, 14))])
def test_an_unreadable_image_moves_no_other_ones_row(tmp_path: Path, broken: list[int]) -> None:
    """Batches of 7: the first, the last, neighbours, across a border, a whole batch."""
    folder = write_classes(tmp_path / "photos")
    source = open_source(str(folder))
    whole = Asked()(source)
    for index in broken:
        (folder / source.name(index)).write_bytes(b"no picture")
    rows = Asked()(open_source(str(folder)))
    assert [i for i in range(24) if not rows[i].any()] == broken
    good = [i for i in range(24) if i not in broken]
    assert torch.equal(rows[good], whole[good])


def test_too_many_unreadable_images_leave_no_file(photos: Path, cache: Path) -> None:
    for index in range(11):
        (photos / f"{index:02}.png").write_bytes(b"no picture")
    with pytest.raises(WispError, match="images cannot be read"):
        Asked()(open_source(str(photos)))
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [".lock"]


def test_of_two_at_once_one_computes(photos: Path) -> None:
    """As two processes of one training: each has a handle of its own on the folder that is locked."""
    one, two = Asked(), Asked()
    inside, go_on = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        assert go_on.wait(30)

    one.teacher.encoder.register_forward_pre_hook(wait)
    found: list[Tensor] = []
    first = threading.Thread(target=lambda: found.append(one(open_source(str(photos)))))
    first.start()
    assert inside.wait(30)

    def tell(text: str) -> None:
        two.said.append(text)
        go_on.set()

    found.append(two(open_source(str(photos)), tell=tell))
    first.join()
    assert torch.equal(*found)
    assert (bool(one.looks), two.looks) == (True, 0)
    assert two.said == ["another process computes the teacher's features; waiting for it"]


def test_a_cache_that_cannot_be_written_is_said_in_one_line(
    photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file")
    with pytest.raises(WispError, match=r"cannot write .*; WISP_CACHE names another folder"):
        Asked()(open_source(str(photos)))
    cache.unlink()
    monkeypatch.setattr(remembering.shutil, "disk_usage", lambda path: _Full())
    with pytest.raises(WispError, match=r"GB left; set WISP_CACHE to a folder on another disk"):
        Asked()(open_source(str(photos)))


class _Full:
    free = 1000


@pytest.mark.parametrize("full", [torch.OutOfMemoryError("CUDA out of memory. Tried"), NO_MEMORY])
def test_a_teacher_that_takes_too_much_memory_is_one_line(photos: Path, cache: Path, full: RuntimeError) -> None:
    asked = Asked()

    def fail(*_: object) -> None:
        raise full

    handle = asked.teacher.encoder.register_forward_pre_hook(fail)
    line = r"^the device's memory is full while the teacher small looks at 7 images of 20 px at a time; lower --batch-"
    with pytest.raises(WispError, match=line):
        asked(open_source(str(photos)))
    assert files(cache) == []
    handle.remove()
    asked.teacher.encoder.register_forward_pre_hook(lambda *_: torch.empty(2, 3) @ torch.empty(2, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        asked(open_source(str(photos)))


def test_a_teacher_of_broken_numbers_is_refused(photos: Path, cache: Path) -> None:
    teacher = small_teacher(STUDENT)
    next(teacher.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(WispError, match="not finite"):
        Asked(teacher)(open_source(str(photos)))
    assert files(cache) == []


def test_a_teacher_of_huge_numbers_is_refused(photos: Path, cache: Path) -> None:
    asked = Asked()
    asked.teacher.encoder.register_forward_hook(lambda *given: given[-1] * 1e6)
    with pytest.raises(
        WispError, match=r"^the teacher gives numbers of [0-9.]+e\+06, and what is kept of it ends at 65504;"
    ):
        asked(open_source(str(photos)))
    assert files(cache) == []


def test_a_teacher_of_tiny_numbers_is_refused(photos: Path, cache: Path) -> None:
    asked = Asked()
    asked.teacher.encoder.register_forward_hook(lambda *given: given[-1] * 1e-7)
    with pytest.raises(WispError, match="and what is kept of it is exact from 6e-5 on; name another one"):
        asked(open_source(str(photos)))
    assert files(cache) == []


def test_the_teacher_is_as_it_was(photos: Path) -> None:
    asked = Asked()
    before = {
        name: value.clone() for name, value in (*asked.teacher.named_buffers(), *asked.teacher.named_parameters())
    }
    asked(open_source(str(photos)))
    after = dict((*asked.teacher.named_buffers(), *asked.teacher.named_parameters()))
    assert all(torch.equal(after[name], value) for name, value in before.items())


# whole runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def distil(wisp: Wisp, photos: Path, tmp_path: Path) -> Wisp:
    """Runs `wisp distill compress --method.cached` with a small teacher on 24 photos."""
    spec, folder = stock.spec("resnet8", 16), tmp_path / "teacher"
    torch.manual_seed(3)
    export_encoder(spec.build(), spec, folder, card=card(spec, name="1x", method={"name": "byol"}))
    words = ("distill", "compress", "--data", photos, *SMALL[:-4], "--teacher", folder, "--method.cached")
    return lambda *more: wisp(*words, *more)


@pytest.mark.usefixtures("quick")
def test_a_cached_training_asks_no_teacher_and_pays_for_its_one_look(
    distil: Wisp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the teacher was asked")

    monkeypatch.setattr(Teacher, "_through", refuse)
    first = distil("--out", tmp_path / "one")
    assert first.code == 0, first.err
    assert first.out.startswith("computing features of 24 images by the teacher resnet8 by byol; they are kept in")
    monkeypatch.setattr(remembering, "_rows", refuse)
    second = distil("--out", tmp_path / "two")
    assert second.code == 0, second.err
    assert "computing" not in second.out
    spec = stock.spec("resnet8", 16)
    for run in ("one", "two"):
        cost = json.loads((tmp_path / run / "result.json").read_text())["cost"]
        assert cost["total_flops"] == 6 * cost["step_flops"] + 24 * count_forward(spec.build(), 16)
        assert "teacher" not in cost["branches"]
    weights = [(tmp_path / run / "exported/1x/encoder.safetensors").read_bytes() for run in ("one", "two")]
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("quick")
def test_a_diagnosis_needs_nothing_that_the_teacher_remembers(
    distil: Wisp, wisp: Wisp, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **options: object) -> None:
        raise AssertionError("the teacher was asked")

    assert distil("--out", tmp_path / "run", "--record").code == 0
    (file,) = files(cache)
    file.unlink()
    monkeypatch.setattr(remembering, "_rows", refuse)
    answer = wisp("diagnose", tmp_path / "run", "--grid", "0")
    assert answer.code == 0, answer.err
    assert files(cache) == []


def test_bad_settings_are_told_before_the_teacher_looks(distil: Wisp, tmp_path: Path, cache: Path) -> None:
    for options, said in {
        ("--method.queue", "7"): "a queue of 7 is no multiple of the 8 keys of a step; use --method.queue 8",
        ("--method.queues", "3q"): "3q",
        ("--method.temperature", "0"): "temperature is 0",
        ("--method.momentum", "2"): "momentum is 2",
        ("--method.teacher-head", "pretrained"): "comes without a projection head",
        ("--plan", "simclr"): "--plan simclr does not have the one view of compress; use",
        ("--batch-size", "30"): "--batch-size 30 is larger than the 24 training images",
    }.items():
        assert said in distil("--out", tmp_path / "run", *options).refusal()
    assert not cache.exists()
    assert not (tmp_path / "run").exists()
