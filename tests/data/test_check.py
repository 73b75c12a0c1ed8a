from __future__ import annotations

import pytest

from wisp.data.check import check
from wisp.errors import WispError


@pytest.fixture
def folder(write_folder, encoded, picture):
    """Two classes with a bit of everything in them."""
    return write_folder(
        {
            "cat/1.png": encoded(picture(1)),
            "cat/2.jpg": encoded(picture(2, 60, 50), "JPEG"),
            "cat/3.png": encoded(picture(3).convert("L")),
            "cat/text.jpg": b"I am no picture",
            "dog/again.png": encoded(picture(1)),
            "dog/half.jpg": encoded(picture(4, 300, 300), "JPEG", quality=95)[:9000],
            "dog/notes.txt": b"",
            "dog/phone.HEIC": b"",
            "dog/phone2.heic": b"",
        }
    )


def test_report_counts_and_names(folder):
    report = check(str(folder))
    assert (report.images, report.looked_at) == (6, 6)
    assert report.per_class == {"cat": 4, "dog": 2}
    assert sorted(report.sizes) == [(20, 16), (20, 16), (20, 16), (60, 50)]
    assert report.modes == {"RGB": 3, "L": 1}
    assert [name for name, _ in report.bad] == ["cat/text.jpg", "dog/half.jpg"]
    assert report.bad[0][1] == "not an image"
    assert report.bad[1][1].startswith("image file is truncated")
    assert report.duplicates == (("dog/again.png", "cat/1.png"),)
    assert report.ignored == {".heic": 2, ".txt": 1}
    assert report.usable


def test_report_as_text(folder):
    text = "\n".join(check(str(folder)).lines())
    assert f"{folder}: 6 images, all looked at" in text
    assert "classes  2, images in each: 2 to 4, median 3\n         cat 4, dog 2\n" in text
    assert "width    20 to 60, median 20\nheight   16 to 50, median 16\nmodes    RGB 3, L 1" in text
    assert "ignored  2 .heic, 1 .txt" in text
    assert "twice    1 image has the pixels of another one:\n    dog/again.png = cat/1.png" in text
    assert (
        "bad      2 images cannot be read:\n    cat/text.jpg: not an image\n    dog/half.jpg: image file is trunc"
        in text
    )
    assert text.endswith("A training replaces each bad image by the next good one, an evaluation leaves it out.")


def test_clean_data(write_folder):
    report = check(str(write_folder(["1.png", "2.png"])))
    assert report.lines()[1:] == [
        "classes  none: only evaluations and methods for a task need labels, of two classes or more",
        "width    20",
        "height   16",
        "modes    RGB 2",
        "bad      0",
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a/1.png", "b/1.png", "stray.png"], "has 1 image outside its 2 class folders, stray.png; move it into these"),
        (
            ["a/1.png", "a/more/1.png", "b/1.png", "stray.png"],
            "has 2 images outside its 2 class folders, such as a/more/1.png; move them into these",
        ),
        (["a/1.png", "a/2.png"], "has a single class folder, a; there must be two or more"),
        (["deep/er/a/1.png", "deep/er/b/1.png"], "has its class folders further down; name {root}/deep/er"),
    ],
)
def test_a_folder_that_almost_has_classes_is_told_what_is_missing(write_folder, files, said):
    root = write_folder(files)
    report = check(str(root))
    assert report.per_class is None
    assert f"         the folder {said.format(root=root)}" in report.lines()


@pytest.mark.parametrize("files", [["1.png"], ["1.png", "a/1.png"], ["a/b/1.png", "c/d/1.png"]])
def test_a_folder_without_the_shape_of_classes_is_told_nothing(write_folder, files):
    assert check(str(write_folder(files))).unclassed is None


def test_sample_is_spread_over_the_whole(write_folder, encoded, picture):
    files = {f"{k:02d}.png": encoded(picture(k)) if k != 15 else b"" for k in range(20)}
    root = str(write_folder(files))
    report = check(root, sample=4)
    assert (report.images, report.looked_at) == (20, 4)
    assert report.bad == (("15.png", "empty file"),)
    assert "20 images, 4 of them looked at" in report.lines()[0]
    assert check(root, sample=100).looked_at == 20
    with pytest.raises(WispError, match="at least one image, not 0"):
        check(root, sample=0)


def test_too_many_bad_images(write_folder, encoded, picture):
    report = check(str(write_folder({f"{k:02d}.png": encoded(picture(0)) if k > 10 else b"" for k in range(20)})))
    assert not report.usable
    assert report.lines()[-1] == "Too many are bad: a training replaces up to 10. Repair or remove them."


def test_nothing_readable(write_folder):
    report = check(str(write_folder({"1.png": b"", "2.png": b"text"})))
    assert not report.usable
    assert report.lines()[-1] == "None can be read: this is nothing to train on."


def test_threads_find_the_same(write_folder, encoded, picture):
    import torch

    files = {f"{k:02d}.png": encoded(picture(k % 30, 80, 70)) if k % 9 else b"" for k in range(1, 45)}
    root = str(write_folder(files))
    alone = check(root)
    torch.set_num_threads(3)
    assert check(root) == alone
    assert len(alone.bad) == 4
    assert len(alone.duplicates) == 14 - 2


def test_progress(write_folder, monkeypatch):
    monkeypatch.setattr("wisp.data.check._NEWS", 2)
    calls = []
    check(str(write_folder(["1.png", "2.png", "3.png", "4.png", "5.png"])), progress=lambda *now: calls.append(now))
    assert calls == [(2, 5), (4, 5)]


def test_other_sources(write_parquet, write_tar, encoded, picture):
    images = [encoded(picture(k)) for k in range(4)]
    report = check(str(write_parquet([*images, b""], [0, 0, 1, 1, 1], names=["cat", "dog"])))
    assert report.per_class == {"cat": 2, "dog": 3}
    assert report.bad == (("train.parquet row 4 (pic4.png)", "empty file"),)
    assert check(str(write_tar({"1.png": images[0], "2.png": images[0]}))).duplicates == (
        ("shard.tar:2.png", "shard.tar:1.png"),
    )


def test_images_without_a_label_are_counted(write_parquet, encoded, picture):
    report = check(str(write_parquet([encoded(picture(k)) for k in range(3)], [0, 1, None])))
    assert (report.per_class, report.missing_labels) == (None, 1)
    assert report.lines()[1] == "classes  none: 1 image without a label, and the probes need all of them"


def test_many_classes_are_not_listed(write_folder):
    lines = check(str(write_folder([f"c{k:02d}/1.png" for k in range(25)]))).lines()
    assert lines[1] == "classes  25, images in each: 1"
    assert lines[2].startswith("width")


def test_bad_data_is_one_line():
    with pytest.raises(WispError, match="no such folder or data set"):
        check("no-such-data-set")


def test_what_is_left_to_evaluations_and_what_is_empty(write_folder):
    folder = write_folder(["train/cat/1.png", "train/dog/1.png", "val/cat/2.png", "val/dog/2.png"])
    (folder / "train" / "aardvark").mkdir()
    lines = check(str(folder)).lines()
    assert lines[0].endswith("2 images, all looked at")
    assert f"part     train; the rest of {folder} is for evaluations" in lines
    assert "empty    aardvark" in lines
    lines = check(str(folder / "val")).lines()
    assert not any(line.startswith(("part", "empty")) for line in lines)


def test_a_listed_set_has_no_part_and_nothing_empty(write_folder, monkeypatch, tmp_path):
    lists = {
        "CUB_200_2011/images.txt": b"1 1.A/a.png\n2 2.B/b.png\n3 1.A/c.png\n",
        "CUB_200_2011/train_test_split.txt": b"1 1\n2 1\n3 0\n",
    }
    root = write_folder(["CUB_200_2011/images/1.A/a.png", "CUB_200_2011/images/2.B/b.png"], name="cache/CUB200")
    for name, content in lists.items():
        (root / name).write_bytes(content)
    monkeypatch.setenv("WISP_CACHE", str(root.parent))
    for data in ("CUB200", str(root)):
        assert not any(line.startswith(("part", "empty")) for line in check(data).lines())
