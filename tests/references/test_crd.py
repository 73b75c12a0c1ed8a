"""CRD against Eq. 17 and 18 of Tian et al. 2020 and its memories, written again in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from references.contrast import dot, unit
from references.paper import Matrix, embed
from small_methods import CLASSES, IMAGES, fixed_batch, small_method, total
from wisp.data.loader import Batch
from wisp.errors import WispError
from wisp.losses.noise_contrast import log_level
from wisp.methods import crd
from wisp.methods.crd import CRD
from wisp.methods.parts.bank import Bank
from wisp.methods.parts.shuffle import chance

T = 0.3
BATCH = 16


def small(**changes: object) -> CRD:
    settings = {"out": 10, "temperature": T, "label_weight": 0.7, "weight": 0.8, "logit_weight": 0.6} | changes
    method = small_method("crd", batch_size=BATCH, **settings).double()
    assert isinstance(method, CRD)
    return method


def batch_of(method: CRD, images: list[int], seed: int) -> Batch:
    index = torch.tensor(images)
    return fixed_batch(method, len(images), seed=seed, dtype=torch.float64)._replace(
        index=index, labels=index % CLASSES
    )


def seen(method: CRD, batch: Batch) -> tuple[Matrix, Matrix]:
    """Unit embeddings by the student and by the teacher."""
    student = torch.nn.Sequential(method.encoder, method.projector)
    [features] = method.teacher.looks(batch.views)
    return unit(embed(student, batch.views[0])), unit(embed(method.teacher_projector, features))


class Memory:
    """Row -> (image, student's embedding, teacher's embedding)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows: dict[int, tuple[int, Matrix, Matrix]] = {}
        self.z: list[float | None] = [None, None]

    def own(self, image: int, fresh: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
        found = self.rows.get(image % self.size)
        return (found[1], found[2]) if found is not None and found[0] == image else fresh

    def negatives(self, image: int, most: int, order: list[int]) -> list[int]:
        looked_at = math.ceil(most / (1 - 1.25 / CLASSES)) + 16
        there = [r for r in order if r in self.rows][:looked_at]
        return [r for r in there if self.rows[r][0] % CLASSES != image % CLASSES][:most]

    def loss(self, images: list[int], ours: Matrix, theirs: Matrix, most: int, order: list[int]) -> float:
        """Eq. 17 and 18 with the code's Z, a mean over the images, both directions added up."""
        result = 0.0
        for way in (0, 1):
            anchors, pairs = (ours, theirs)[way], []
            for n, image in enumerate(images):
                mine = self.own(image, (ours[n], theirs[n]))[1 - way]
                others = [self.rows[r][2 - way] for r in self.negatives(image, most, order)]
                own = math.exp(dot(anchors[n], mine) / T)
                pairs.append((own, [math.exp(dot(anchors[n], other) / T) for other in others]))
            if self.z[way] is None and (told := [[own, *noise] for own, noise in pairs if noise]):
                self.z[way] = self.size * float(np.mean([e for row in told for e in row]))
            for own, noise in pairs:
                z = self.z[way]
                if not noise:
                    continue
                assert z is not None
                share = len(noise) / self.size
                result -= math.log(own / z / (own / z + share)) / len(images)
                result -= sum(math.log(1 - e / z / (e / z + share)) for e in noise) / len(images)
        return result

    def follow(self, images: list[int], ours: Matrix, theirs: Matrix, momentum: float) -> None:
        before = {image: self.own(image, (ours[n], theirs[n])) for n, image in enumerate(images)}
        for n, image in enumerate(images):
            mixed = [
                momentum * old + (1 - momentum) * new
                for old, new in zip(before[image], (ours[n], theirs[n]), strict=True)
            ]
            self.rows[image % self.size] = (image, unit(mixed[0][None])[0], unit(mixed[1][None])[0])


@pytest.mark.parametrize("projector", ["mlp", "linear"])
@pytest.mark.parametrize(("memory", "negatives"), [(None, None), (None, 7), (24, None), (5, 2)])
def test_the_loss_is_the_papers_while_the_memories_fill_and_turn(
    memory: int | None, negatives: int | None, projector: str
) -> None:
    method = small(memory=memory, negatives=negatives, projector=projector, momentum=0.4)
    size = len(method.bank.owners)
    assert size == (memory or IMAGES)
    copy, draws = Memory(size), np.random.default_rng(0)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for step in range(5):
        images = draws.choice(IMAGES, BATCH, replace=False).tolist()
        batch, progress = batch_of(method, images, step), step / 5
        if step in (0, 3):
            method.before_epoch(step)
            assert method.levelled == (step == 3), "the constant is there, and is not computed again"
        ours, theirs = seen(method, batch)
        order = torch.randperm(size, generator=chance(progress, "crd")).tolist()
        wanted = copy.loss(images, ours, theirs, method.negatives, order)
        assert (wanted == 0) == (step == 0), "an empty memory leaves nothing to tell apart"
        terms = method(batch, progress)
        assert terms["contrast"].item() == pytest.approx(0.8 * wanted, rel=1e-7)
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        method.after_step(progress)
        if step:
            levels = [math.log(z / size) for z in reversed(copy.z) if z is not None]
            np.testing.assert_allclose(method.memory_levels, levels, rtol=1e-9)
        copy.follow(images, ours, theirs, 0.4)
        for row in range(size):
            image, *rows = copy.rows.get(row, (-1, np.zeros(10), np.zeros(10)))
            assert method.bank.owners[row] == image
            assert method.bank.labels[row] == (image % CLASSES if image >= 0 else -1)
            np.testing.assert_allclose(method.bank.keys[row], rows, atol=1e-12)


def test_both_embeddings_move_away_from_the_other_ones_memory() -> None:
    """The slope of the contrast is that of its value, taken by differences."""
    method = small(momentum=0.4)
    for step in range(2):
        batch = batch_of(method, list(range(16 * step, 16 * step + BATCH)), step)
        method(batch, step / 5)
        method.after_step(step / 5)
    fresh = torch.nn.functional.normalize(torch.randn(3, 2, 10, dtype=torch.float64), dim=2).requires_grad_()
    index = torch.tensor([30, 3, 17])

    def value(embeddings: torch.Tensor) -> torch.Tensor:
        return method._contrast(embeddings, index, index % CLASSES, 0.5)

    assert torch.autograd.gradcheck(value, (fresh,), fast_mode=False)


def test_labels_and_logits_are_taught_as_by_kd() -> None:
    method = small(logit_temperature=3.0)
    batch = batch_of(method, list(range(BATCH)), 0)
    assert batch.labels is not None
    with torch.no_grad():
        terms = method(batch, 0.5)
        students = method.classifier(method.encoder(batch.views[0]))
        teachers = method.teacher.judges(method.teacher.looks(batch.views)[0])
    learnt = apart = 0.0
    for label, s, t in zip(batch.labels.tolist(), students.tolist(), teachers.tolist(), strict=True):
        learnt += (math.log(sum(map(math.exp, s))) - s[label]) / BATCH
        (p, q) = ([math.exp(x / 3) / sum(math.exp(y / 3) for y in row) for x in row] for row in (t, s))
        apart += 9 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / BATCH
    assert terms["cross_entropy"].item() == pytest.approx(0.7 * learnt, rel=1e-5)
    assert terms["distill"].item() == pytest.approx(0.6 * apart, rel=1e-5)
    assert set(small(logit_weight=0.0)(batch, 0.5)) == {"cross_entropy", "contrast"}


@pytest.mark.parametrize("most", [0, 1, 30, 50, 55, 60])
def test_candidates_are_the_first_rows_that_were_written(most: int) -> None:
    bank, written = Bank(60, 4), torch.randperm(60, generator=torch.Generator().manual_seed(1))[:50]
    bank.put(written, written % 3, torch.nn.functional.normalize(torch.randn(50, 2, 4), dim=2))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(2))
    found, there = bank.some(order, most).tolist(), [row for row in order.tolist() if row in written.tolist()]
    assert len(found) == len(set(found)) == most
    if most == 60:
        assert found == order.tolist()
    else:
        assert found[:50] == there[:most]


@pytest.mark.parametrize("most", [1, 9, 40])
def test_negatives_are_of_other_classes_and_another_draw_at_every_step(most: int) -> None:
    """The last of the images is of a class that no row has."""
    bank = Bank(60, 4)
    index = torch.arange(50)
    bank.put(index, index % 3, torch.nn.functional.normalize(torch.randn(50, 2, 4), dim=2))
    labels, found = torch.tensor([0, 1, 2, 0, 7]), []
    for progress in (0.1, 0.2):
        order = torch.randperm(60, generator=chance(progress, "crd"))
        taken = bank.of_other_classes(labels, most, order)
        for label, row in zip(labels.tolist(), taken, strict=True):
            chosen = order[row].tolist()
            assert all(place < 50 and place % 3 != label for place in chosen)
            assert len(chosen) == min(most, sum(place % 3 != label for place in range(50)))
        found.append(taken[:, order.argsort()])
    assert most == 40 or not torch.equal(*found)


def test_the_normalisation_is_stable_far_from_zero() -> None:
    """At a low temperature exp(cosine / t) is more than a float32 holds."""
    own, rows, candidates = torch.tensor([[1.0, -1.0]]), torch.tensor([[[1.0], [1.0]]]), torch.tensor([[[1.0], [-1.0]]])
    taken = torch.tensor([[True, True], [True, False]])
    level = log_level(own / 0.005, rows / 0.005, candidates, taken)
    assert level.item() == pytest.approx(200 + math.log(3 / 5), rel=1e-6), "three of five pairs have cosine 1"


@pytest.mark.parametrize("memory", [8, 24, 1000])
def test_the_memory_never_exceeds_its_bound(memory: int) -> None:
    method = small(memory=memory)
    before = sum(buffer.numel() for buffer in method.bank.buffers())
    for step in range(6):
        method(batch_of(method, [(16 * step + i) % IMAGES for i in range(BATCH)], step), step / 6)
        method.after_step(step / 6)
    rows = min(memory, IMAGES)
    assert method.chosen()["memory"] == rows
    assert sum(buffer.numel() for buffer in method.bank.buffers()) == before == rows * (2 * 10 + 2)
    assert (method.bank.owners >= 0).all()


def test_a_full_memory_is_not_searched_and_gives_the_same_rows() -> None:
    method = small()
    bank, images = method.bank, len(method.bank.owners)
    index, order = torch.arange(images), torch.randperm(images)
    rows = torch.nn.functional.normalize(torch.randn(images, *bank.keys.shape[1:]), dim=2)
    bank.put(index[1:], index[1:] % CLASSES, rows[1:])
    method.before_epoch(1)
    assert not bank.full, "one row was never written"
    bank.put(index[:1], index[:1] % CLASSES, rows[:1])
    searched = bank.some(order, images // 2)
    method.before_epoch(2)
    assert bank.full
    assert torch.equal(bank.some(order, images // 2), searched)


def test_an_image_twice_in_a_batch_is_written_once() -> None:
    bank = Bank(4, 2)
    fresh = torch.nn.functional.normalize(torch.randn(3, 2, 2), dim=2)
    bank.put(torch.tensor([6, 2, 6]), torch.tensor([1, 0, 1]), fresh)
    assert bank.owners.tolist() == [-1, -1, 6, -1]
    assert bank.labels.tolist() == [-1, -1, 1, -1]
    torch.testing.assert_close(bank.keys[2], fresh[2])


def test_the_settings_are_those_of_crd_plus_plus() -> None:
    c = crd.Config()
    assert (c.projector, c.out, c.temperature, c.momentum) == ("mlp", 128, 0.07, 0.5)
    assert (c.label_weight, c.weight, c.logit_weight, c.logit_temperature) == (1.0, 1.0, 1.0, 4.0)
    assert (c.negatives, c.memory, crd.NEGATIVES, crd.MEMORY) == (None, None, 4096, 65_536)
    assert (crd.SETTINGS["small"].epochs, crd.SETTINGS["small"].lr) == (240, 0.05)
    assert small().chosen() == {"memory": 64, "negatives": 48}
    assert (small().candidates, small(negatives=7).candidates) == (64, 27)
    assert [type(layer).__name__ for layer in small().projector] == ["Linear", "ReLU", "Linear"]
    assert [type(layer).__name__ for layer in small(projector="linear").teacher_projector] == ["Linear"]


def test_settings_that_cannot_be() -> None:
    for name, value in (
        ("temperature", 0.0),
        ("weight", -1.0),
        ("logit_temperature", 0.0),
        ("label_weight", -0.1),
        ("logit_weight", -0.1),
        ("negatives", 0),
        ("memory", -3),
        ("momentum", 1.5),
    ):
        with pytest.raises(WispError, match=f"{name} is"):
            crd.Config(**{name: value})
    with pytest.raises(WispError, match=r"^label_weight and logit_weight are 0, and nothing trains the classifier"):
        crd.Config(label_weight=0.0, logit_weight=0.0)
    with pytest.raises(WispError, match=r"^49 negatives are more than the 48 .* memory of 64 .*negatives 48 or fewer$"):
        small(negatives=49)
    with pytest.raises(WispError, match=r"^16 negatives are more than the 15 .*negatives 15 or fewer$"):
        small(memory=20, negatives=16)
    with pytest.raises(WispError, match=r"^a memory of 1 .*--method.memory 2 or more$"):
        small(memory=1)
