"""With --method.cached a teacher looks once, at the plain images, and no step asks it again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from small_methods import CACHED, SIZE, config_of, fixed_batch, small_method, small_teacher, total
from small_runs import Wisp, write_classes
from wisp import methods
from wisp.cost.count import count_forward, count_step
from wisp.data.draws import View, ViewPlan
from wisp.data.loader import Batch, Loader
from wisp.data.sources import open_source
from wisp.encoders import stock
from wisp.encoders.teacher import Teacher
from wisp.errors import WispError
from wisp.files import read_json
from wisp.methods.method import Method
from wisp.teachers import probe, remembering

TASKS = [name for name in CACHED if name != "compress"]
every_task = pytest.mark.parametrize("name", TASKS)
STUDENT = stock.spec("resnet8", SIZE)
MODEL = ["--model", "resnet8", "--image-size", "16", "--batch-size", "8", "--epochs", "2"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WISP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def refuse(*_: object, **options: object) -> None:
    raise AssertionError("the teacher was asked")


def pair(name: str) -> tuple[Method, Method]:
    """The same method whose teacher sees the views, and whose teacher saw the images; same weights, float64."""
    both = small_method(name).double(), small_method(f"{name}:cached").double()
    for one, other in zip(*(method.state_dict().items() for method in both), strict=True):
        assert one[0] == other[0], "a checkpoint holds the same"
        assert torch.equal(one[1], other[1])
    return both


def steps(method: Method, batches: list[Batch], lr: float = 0.05) -> list[dict[str, float]]:
    """The terms of some steps."""
    optimizer, found = torch.optim.SGD(method.parameters(), lr=lr), []
    for place, batch in enumerate(batches):
        method.before_epoch(place)
        terms = method(batch, place / len(batches))
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
        method.after_step(place / len(batches))
        found.append({key: term.item() for key, term in terms.items()})
    return found


@every_task
def test_with_what_the_teacher_makes_of_the_views_it_is_the_same_training(name: str) -> None:
    same, cached = pair(name)
    assert (same.remembers, cached.remembers) == (0, 24)
    batches = [fixed_batch(same, 8, seed=seed, dtype=torch.float64) for seed in range(3)]
    looked = [batch._replace(remembered=same.teacher.looks(batch.views)[0]) for batch in batches]
    wanted, found = steps(same, batches), steps(cached, looked)
    for one, other in zip(wanted, found, strict=True):
        assert other == pytest.approx(one, rel=1e-9)
    others = [fixed_batch(cached, 8, seed=seed, dtype=torch.float64) for seed in range(3)]
    assert steps(small_method(f"{name}:cached").double(), others)[1:] != found[1:], "it does depend on what is kept"


@every_task
def test_a_step_asks_no_teacher_and_costs_none(name: str) -> None:
    same, cached = small_method(name), small_method(f"{name}:cached")
    asked, spared = (count_step(method, 32, SIZE) for method in (same, cached))
    assert asked.branches["frozen encoder"] == 32 * count_forward(same.teacher.encoder, SIZE + 4)
    assert asked.flops - spared.flops == asked.branches["frozen encoder"]
    assert "frozen encoder" not in spared.branches
    calls: list[object] = []
    for method in (same, cached):
        for module in method.teacher.encoder.modules():
            module.register_forward_hook(lambda *_: calls.append(1))
    total(cached(fixed_batch(cached), 0.5)).backward()
    assert calls == []
    total(same(fixed_batch(same), 0.5)).backward()
    assert calls
    rest = [key for key, _ in cached.teacher.named_parameters()]
    assert rest == ["classifier.weight", "classifier.bias"], "its encoder takes no room on the device"
    assert all(p.grad is None and not p.requires_grad for p in cached.teacher.parameters())


@every_task
def test_its_checkpoint_knows_the_teacher(name: str) -> None:
    method = small_method(f"{name}:cached")
    state = method.state_dict()
    assert [key for key in state if key.startswith("teacher.")] == ["teacher.fingerprint"]
    with pytest.raises(WispError, match="the teacher small is not the one"):
        method.load_state_dict(state | {"teacher.fingerprint": torch.tensor(5)})


@pytest.mark.parametrize("name", [name for name in TASKS if name != "crd"])  # that one takes one view
def test_of_several_views_all_are_compared_with_the_one_image(name: str) -> None:
    method = small_method(f"{name}:cached").double()
    one, other = (fixed_batch(method, 8, seed=seed, dtype=torch.float64) for seed in (1, 2))
    both = one._replace(views=(*one.views, *other.views))
    method.eval()
    with torch.no_grad():
        alone = [method(batch._replace(remembered=one.remembered), 0.5) for batch in (one, other)]
        found = method(both, 0.5)
    for key, term in found.items():
        assert float(term) == pytest.approx(float(alone[0][key] + alone[1][key]) / 2, rel=1e-9)


@every_task
def test_a_plan_that_leaves_images_alone_is_as_if_the_teacher_saw_the_views(name: str, tmp_path: Path) -> None:
    """From the files to the terms, but for the half precision of what is kept."""
    source = open_source(str(write_classes(tmp_path / "photos", SIZE)))
    teacher = small_teacher(STUDENT, with_head=False, classes=4)
    object.__setattr__(teacher.own, "image_size", SIZE)
    rows = remembering.remember(
        teacher, source, "features", data="photos", batch_size=7, device=torch.device("cpu"), tell=lambda text: None
    )
    plain = ViewPlan("plain", "these tests", (View(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)),))
    sight = {"image_size": SIZE, "mean": STUDENT.mean, "std": STUDENT.std, "batch_size": 8, "seed": 0}
    loader = Loader(source, plain, **sight, labels=True, remembered=rows)
    same, cached = small_method(name), small_method(f"{name}:cached")
    same.teacher.own = dataclasses.replace(same.teacher.own, image_size=SIZE)
    batches = list(loader.epoch(0))
    for batch in batches:
        [looked] = same.teacher.looks(batch.views)
        assert batch.remembered is not None
        torch.testing.assert_close(batch.remembered, looked, rtol=2e-3, atol=2e-3)
    wanted = steps(same, [batch._replace(remembered=None) for batch in batches], lr=0.0)
    for one, other in zip(wanted, steps(cached, batches, lr=0.0), strict=True):
        assert other == pytest.approx(one, rel=1e-2)


# whole runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, wisp: Wisp, quick: None) -> Path:
    """Pictures of two classes, and a teacher that was trained without them."""
    root = tmp_path_factory.mktemp("task")
    data, small = write_classes(root / "animals"), ["--method.hidden", "32", "--method.out", "32"]
    assert wisp("pretrain", "barlow_twins", "--data", data, *MODEL, *small, "--out", root / "blind").code == 0
    return root


def test_one_look_serves_the_probe_and_all_trainings(
    root: Path, wisp: Wisp, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--teacher", root / "blind", "--data", root / "animals", *MODEL, "--method.cached"]
    monkeypatch.setattr(Teacher, "_through", refuse)
    first = wisp("distill", "kd", *words, "--out", tmp_path / "kd")
    assert first.code == 0, first.err
    assert first.out.count("computing features of 22 images by the teacher resnet8 by barlow_twins") == 1
    assert len(list(cache.rglob("*.npy"))) == 1
    monkeypatch.setattr(remembering, "_rows", refuse)
    for method in ("crd", "rkd"):
        answer = wisp("distill", method, *words, "--out", tmp_path / method)
        assert answer.code == 0, answer.err
        assert "computing" not in answer.out
    look = 22 * count_forward(STUDENT.build(), 16)
    for method, probes in (("kd", 1), ("crd", 1), ("rkd", 0)):
        cost = read_json(tmp_path / method / "result.json")["cost"]
        teacher = small_teacher(STUDENT)
        teacher.features = STUDENT.features
        assert cost["total_flops"] == 4 * cost["step_flops"] + look + probes * probe.flops(teacher, 22, 2)
        assert not any("frozen encoder" in branch for branch in cost["branches"])


def test_attention_has_nothing_to_look_up(root: Path, wisp: Wisp, tmp_path: Path) -> None:
    words = ["--teacher", root / "blind", "--data", root / "animals", *MODEL, "--out", tmp_path / "at"]
    assert "cached" in wisp("distill", "at", *words, "--method.cached").refusal()
    assert not (tmp_path / "at").exists()


@pytest.mark.parametrize("option", [{"teacher_head": "pretrained"}, {"logit_loss": "srrl"}])
def test_features_are_looked_up_whatever_is_on_top(option: dict[str, object]) -> None:
    same, cached = small_method("au", **option), small_method("au:cached", **option)
    batch = fixed_batch(same, 8)
    looked = batch._replace(remembered=same.teacher.looks(batch.views)[0])
    assert cached.remembers == same.teacher.features
    assert steps(cached, [looked])[0] == pytest.approx(steps(same, [batch])[0], rel=1e-6)


def test_off_unless_asked_for() -> None:
    for name in CACHED:
        assert methods.load(name).Config().cached is False
        assert dataclasses.asdict(config_of(f"{name}:cached"))["cached"] is True
