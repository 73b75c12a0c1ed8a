from dataclasses import replace

import numpy as np
import pytest

from wisp.errors import WispError
from wisp.report.gallery import (
    MOST,
    SIDE,
    Gallery,
    agreement,
    cells,
    directions,
    load_gallery,
    neighbours,
    plane,
    queries,
    save_gallery,
)


def random_gallery(count: int = 20, side: int = 16, features: int = 8) -> Gallery:
    rng = np.random.default_rng(0)
    return Gallery(
        images=rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8),
        features=rng.normal(size=(count, features)).astype(np.float32),
        names=[f"{index}.png" for index in range(count)],
        labels=rng.integers(0, 3, count),
        classes=["a", "b", "c"],
    )


def test_neighbours_are_the_largest_cosines_and_never_the_image_itself():
    features = random_gallery().features
    found = neighbours(features, k=4)
    for i, row in enumerate(features):
        cosine = [
            -9 if i == j else float(row @ other / np.linalg.norm(row) / np.linalg.norm(other))
            for j, other in enumerate(features)
        ]
        best = sorted(range(len(features)), key=lambda j: -cosine[j])[:4]
        assert found.indices[i].tolist() == best
        np.testing.assert_allclose(found.similarity[i], [cosine[j] for j in best], rtol=1e-5)


def test_equal_neighbours_come_in_their_order():
    features = np.array([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    assert neighbours(features, k=2).indices.tolist() == [[1, 2], [2, 3], [1, 3], [1, 2]]


def test_fewer_images_than_neighbours():
    assert neighbours(np.eye(3), k=6).indices.shape == (3, 2)


def test_agreement_counts_equal_labels():
    found = neighbours(np.array([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), k=1)
    assert agreement(found, np.array([0, 0, 1, 0])) == 0.5


@pytest.mark.parametrize("features", [np.ones((9, 4)), np.full((9, 4), np.nan), np.zeros((9, 4)), np.eye(4)[:1]])
def test_features_that_say_nothing_have_no_neighbours_and_no_map(features):
    assert directions(features) is None
    assert neighbours(features) is None
    assert plane(features) is None


def test_queries_take_the_classes_in_whole_rounds():
    labels = np.repeat([0, 1, 2, 3, 4], 20)
    asked = queries(labels, 100, most=12)
    assert sorted(labels[asked].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert asked == queries(labels, 100, most=12)
    assert len(set(queries(None, 100, most=12))) == 12
    assert len(queries(np.arange(50), 50, most=12)) == 12
    assert queries(None, 3) == queries(None, 3)


def test_the_map_is_the_same_every_time_and_keeps_clusters_together(gallery):
    places = plane(gallery.features)
    assert np.array_equal(places, plane(gallery.features))
    assert places.shape == (len(gallery), 2)
    assert places.min() >= 0
    assert places.max() <= 1
    grid = cells(places).astype(float)
    distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
    same = gallery.labels[:, None] == gallery.labels[None]
    assert distance[same].mean() < 0.6 * distance[~same].mean()


def test_every_picture_has_a_cell_of_its_own(gallery):
    grid = cells(np.random.default_rng(0).random((200, 2)) ** 4)
    assert len({tuple(cell) for cell in grid.tolist()}) == 200
    assert grid.min(axis=0).tolist() == [0, 0]
    assert grid.max() < 20
    piled = cells(np.zeros((9, 2)))
    assert len({tuple(cell) for cell in piled.tolist()}) == 9


def test_a_gallery_survives_its_file(tmp_path):
    gallery = replace(random_gallery(), names=["猫.png", "\udc80.png", *(f"{i}.png" for i in range(18))])
    loaded = load_gallery(save_gallery(gallery, tmp_path / "gallery.npz"))
    assert list(loaded.names) == list(gallery.names)
    assert list(loaded.classes) == ["a", "b", "c"]
    assert np.array_equal(loaded.labels, gallery.labels)
    assert loaded.images.shape == gallery.images.shape
    assert np.array_equal(neighbours(loaded.features).indices, neighbours(gallery.features).indices)
    unlabelled = load_gallery(save_gallery(replace(gallery, labels=None, classes=None), tmp_path / "other.npz"))
    assert unlabelled.labels is None
    assert unlabelled.classes is None
    assert unlabelled.label(0) is None


def test_small_flat_images_are_kept_exactly(tmp_path, gallery):
    loaded = load_gallery(save_gallery(gallery, tmp_path / "gallery.npz"))
    assert np.abs(loaded.images.astype(int) - gallery.images).mean() < 2


def test_equal_galleries_give_equal_bytes_and_a_second_saving_changes_nothing_visible(tmp_path, gallery):
    first = save_gallery(gallery, tmp_path / "a.npz").read_bytes()
    assert save_gallery(gallery, tmp_path / "b.npz").read_bytes() == first
    assert list(tmp_path.glob(".*")) == []


def test_a_large_gallery_is_thinned_and_shrunk(tmp_path):
    large = random_gallery(count=MOST + 50, side=8)
    loaded = load_gallery(save_gallery(large, tmp_path / "gallery.npz"))
    assert len(loaded) == MOST
    assert (loaded.names[0], loaded.names[-1]) == ("0.png", f"{MOST + 49}.png")
    wide = load_gallery(save_gallery(random_gallery(count=2, side=200), tmp_path / "wide.npz"))
    assert wide.images.shape == (2, 3, SIDE, SIDE)


def test_neighbours_that_hardly_differ_survive_the_file(tmp_path):
    gallery = random_gallery()
    close = replace(gallery, features=1e5 + gallery.features)  # features behind a ReLU share a direction
    loaded = load_gallery(save_gallery(close, tmp_path / "gallery.npz"))
    assert np.array_equal(neighbours(loaded.features).indices, neighbours(close.features).indices)


def test_a_damaged_file_is_one_line(tmp_path):
    path = save_gallery(random_gallery(), tmp_path / "gallery.npz")
    whole = path.read_bytes()
    for damaged in (b"", b"no archive", whole[: len(whole) // 2], whole[:200] + bytes(200) + whole[400:]):
        path.write_bytes(damaged)
        with pytest.raises(WispError, match="cannot be read as a gallery") as caught:
            load_gallery(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(WispError, match="cannot be read"):
        load_gallery(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    "wrong",
    [
        {"images": np.zeros((20, 16, 16, 3), np.uint8)},
        {"images": np.zeros((20, 3, 16, 16), np.float32)},
        {"features": np.zeros((19, 8))},
        {"names": ["one"]},
        {"labels": np.zeros(3, int)},
    ],
)
def test_parts_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"must be|need"):
        replace(random_gallery(), **wrong)


def test_labels_beyond_the_class_names_show_their_number():
    assert replace(random_gallery(), classes=["only"], labels=np.full(20, 7)).label(0) == "7"
