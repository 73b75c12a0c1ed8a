"""Recipes: every row is a run that resolves to the paper's setting, and the ablation changes one thing at a time."""

from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import pytest

from wisp import methods, recipes
from wisp.encoders import stock
from wisp.errors import WispError
from wisp.resolve import SHORT, resolve
from wisp.run import Run, difference, from_json, to_json
from wisp.session import method_class

ROWS = [(name, row) for name in recipes.names() for row in recipes.load(name).ROWS]
LARGE = ("distillation_mobile", "imagenet", "task_imagenette", "vit_tiny_imagenet100")
SACL = ("ablation", "demo", "sacl_xd_cifar10")
every_row = pytest.mark.parametrize(("name", "row"), ROWS)


def test_recipes_are_found_by_their_files() -> None:
    assert recipes.names() == [
        *("ablation", "contrastive_cifar10", "demo", "disco_bottleneck"),
        *("distillation_cifar10", "distillation_mobile", "imagenet", "probe_cifar10"),
        *("sacl_losses_cifar10", "sacl_xd_cifar10", "slimclr_cifar10"),
        *("task_cifar10", "task_imagenette", "vit_tiny_imagenet100"),
    ]
    for name in recipes.names():
        assert "Command:" in (recipes.load(name).__doc__ or "")


@every_row
def test_a_row_is_a_run_that_survives_its_file(name: str, row: str) -> None:
    run = recipes.load(name).recipe(row, epochs=3, seed=5)
    assert from_json(json.dumps(to_json(run)), "run.json") == run
    assert (run.epochs, run.seed) == (3, 5)
    assert run.model in stock.OURS or name in LARGE


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, row in ROWS if name in SACL])
def test_a_row_resolves_to_the_papers_setting(name: str, row: str) -> None:
    """SACL-XD A.3: LARS, 0.3, 1e-4, batch 256, ten warm-up epochs (a tenth of a short run), Table 10; short: AdamW."""
    run = recipes.load(name).recipe(row)
    settings = methods.load(run.method_name).SETTINGS
    r = resolve(run, settings, stock.spec(run.model), 50_000)
    assert r.batch_size == 256
    if run.method_name == "supervised":
        assert (r.plan, r.optimizer, r.lr) == ("pad_crop", "sgd", 0.2)
        return
    optimizer, lr = ("lars", 0.3) if r.steps >= SHORT else ("adamw", 1e-3)
    plan = "digits" if name == "demo" else "sacl_xd_cifar10"
    assert (r.plan, r.optimizer, r.lr, r.weight_decay) == (plan, optimizer, lr, 1e-4)
    assert (r.trust, r.clip) == (0.02, True)
    assert r.warmup_steps == (10 * r.steps_per_epoch if r.epochs >= 100 else -(-r.steps // 10))


def test_table_5_is_the_papers_table() -> None:
    module = recipes.load("sacl_xd_cifar10")
    assert module.recipe("xd").epochs == 1000
    widths = {row: getattr(settings, "width", None) for row, settings in module.ROWS.items()}
    assert widths == {"barlow_twins": None, "xd": None, "sacl_xd-2x": 2, "sacl_xd-4x": 4, "sacl_xd-6x": 6}
    assert all(not run.subset for run in map(module.recipe, module.ROWS))


def test_the_ablation_changes_one_option_at_a_time() -> None:
    module = recipes.load("ablation")
    base = module.recipe("sacl_xd-2x")
    assert base.subset == 20_000
    assert base.method == methods.load("sacl_xd").Config(), "the middle of the sweep is the paper's method"
    changed: dict[str, list[str]] = {}
    for row in module.ROWS:
        run = module.recipe(row)
        if run.method_name == "sacl_xd":
            changed[row] = [line.partition(":")[0] for line in difference(run, base)]
    assert changed.pop("sacl_xd-2x") == []
    assert changed.pop("pairs-own-alpha-0.5") == ["method.alpha", "method.pairs"]
    assert all(len(keys) == 1 for keys in changed.values()), changed
    options = {keys[0].removeprefix("method.") for keys in changed.values()}
    assert options == {
        "pairs",
        "selection",
        "statistics",
        "both_orders",
        "alpha",
        "dense_warmup",
        "distill",
        "width",
    }


def test_every_choice_of_every_option_is_in_the_sweep() -> None:
    config = methods.load("sacl_xd").Config
    rows = [settings for settings in recipes.load("ablation").ROWS.values() if isinstance(settings, config)]
    choices = {
        "pairs": {"crossed", "own"},
        "distill": {"decorrelation", "inner_correlation", "negative_log"},
        "selection": {"epoch", "once", "prefix"},
        "statistics": {"own", "shared"},
        "both_orders": {False, True},
    }
    for option, every in choices.items():
        assert {getattr(settings, option) for settings in rows} == every
    assert any(settings.dense_warmup for settings in rows)


@pytest.mark.parametrize("small", [True, False])
def test_the_ladder_adds_one_technique_at_a_time(small: bool) -> None:
    module, prefix = recipes.load("slimclr_cifar10"), "small-" if small else ""
    ladder = ["vanilla", "slow-start", "distillation", "re-weighting"]
    steps = [module.recipe(prefix + row) for row in ladder]
    changed = [difference(one, other) for one, other in itertools.pairwise(steps)]
    keys = [[line.partition(":")[0] for line in lines] for lines in changed]
    assert keys == [["method.slow_start"], ["method.distill"], ["method.reweighting"]]
    whole, half = (module.recipe(f"{prefix}alone-{width}") for width in ("1.0", "0.5"))
    assert stock.spec(whole.model).features == 2 * stock.spec(half.model).features
    assert {run.model for run in steps} == {whole.model}
    labelled = [module.recipe(f"{prefix}supervised-{row}") for row in ("alone-1.0", "alone-0.5", "slimmable")]
    assert [run.model for run in labelled] == [whole.model, half.model, whole.model]
    assert labelled[2].method.widths == steps[0].method.widths


@pytest.mark.parametrize("loss", ["barlow_twins", "vicreg", "simclr", "moco_v2", "byol"])
def test_the_rows_of_a_loss_differ_by_one_thing(loss: str) -> None:
    """The method alone, plus distillation, plus a host, plus a warm-up or the paper's pairing; all else stays."""
    module = recipes.load("sacl_losses_cifar10")
    suffixes = ("", "-xd", "-2x", "-2x-warm", "-2x-crossed")
    alone, xd, host, warm, crossed = (module.recipe(loss + suffix) for suffix in suffixes)
    assert xd.method.settings() == alone.method
    changes = ((xd, host, "method.width"), (host, warm, "method.dense_warmup"), (host, crossed, "method.pairs"))
    for one, other, option in changes:
        assert [line.partition(":")[0] for line in difference(other, one)] == [option]
    settings = methods.load(loss).SETTINGS
    resolved = [resolve(run, settings, stock.spec(run.model), 20_000) for run in (alone, xd, host)]
    assert xd.method.training == settings
    assert resolved[0] == resolved[1] == resolved[2]


def test_the_rows_of_the_bottleneck_differ_by_the_width_of_the_head() -> None:
    module = recipes.load("disco_bottleneck")
    teacher, *rows = (module.recipe(row, teacher={"teacher": "runs/teacher"}) for row in module.ROWS)
    assert next(iter(module.ROWS)) == recipes.TEACHER
    assert stock.spec(teacher.model).features == 4 * stock.spec(rows[0].model).features
    assert [run.method.hidden for run in rows] == sorted({run.method.hidden for run in rows})
    assert rows[0].method.hidden == stock.spec(rows[0].model).features
    assert any(
        run.method == dataclasses.replace(methods.load("disco").Config(), teacher="runs/teacher") for run in rows
    )
    for one, other in itertools.pairwise(rows):
        assert [line.partition(":")[0] for line in difference(other, one)] == ["method.hidden"]


def test_the_comparison_of_teachers_is_fair() -> None:
    """One student, one budget; every method with a frozen teacher has the same, and none of them is left out."""
    module = recipes.load("distillation_cifar10")
    teacher, *rows = (module.recipe(row, teacher={"teacher": "runs/teacher"}) for row in module.ROWS)
    assert teacher.model == "resnet20x4"
    assert {(run.model, run.epochs, run.subset, run.batch_size) for run in rows} == {("resnet20", 10, 20_000, 256)}
    blind = [name for name in methods.names() if not method_class(methods.load(name)).needs_labels]
    kinds = {name: method_class(methods.load(name)).taught for name in blind}
    assert {run.method_name for run in rows} >= {name for name, kind in kinds.items() if kind != "no"}
    for run in rows:
        named = {"frozen": "runs/teacher", "online": "resnet20x4", "no": None}[kinds[run.method_name]]
        assert getattr(run.method, "teacher", None) == named


@pytest.mark.parametrize("name", ["task_cifar10", "task_imagenette"])
def test_every_task_distillation_has_as_much_to_learn_from(name: str) -> None:
    module = recipes.load(name)
    rows = {row: module.recipe(row, teacher={"teacher": "runs/teacher"}) for row in module.ROWS if row != "teacher"}
    kinds = {each: method_class(methods.load(each)) for each in methods.names()}
    tasks = {each for each, kind in kinds.items() if kind.needs_labels and kind.taught == "frozen"}
    assert {run.method_name for run in rows.values()} == tasks | {"supervised"}
    assert {getattr(run.method, "teacher", "runs/teacher") for run in rows.values()} == {"runs/teacher"}
    assert len({run.batch_size for run in rows.values()}) == 1
    assert len({run.epochs * run.subset for run in rows.values()}) == 1


def test_only_rows_that_are_taught_get_a_teacher() -> None:
    named = {"teacher": "old.th", "teacher_model": "resnet56_pad", "teacher_head": "none"}
    module = recipes.load("disco_bottleneck")
    method = module.recipe("hidden-512", teacher=named).method
    assert {key: getattr(method, key) for key in named} == named
    assert module.recipe("teacher", teacher=named) == module.recipe("teacher")
    with pytest.raises(WispError, match="name --teacher"):
        module.recipe("hidden-512", teacher={"teacher_model": "resnet56_pad"})
    task, judged = recipes.load("task_cifar10"), {"teacher": "old.th", "teacher_classifier": "own"}
    assert task.recipe("kd", teacher=judged).method.teacher_classifier == "own"
    assert task.recipe("at", teacher=judged).method.teacher == "old.th", "nobody asks it for classes"


def test_ssl_small_is_moco_with_other_values() -> None:
    run = recipes.load("contrastive_cifar10").recipe("ssl_small")
    assert (run.method_name, run.plan, run.method.temperature) == ("moco_v2", "ssl_small", 0.1)
    assert run.method.hidden == 2 * stock.spec(run.model).features


# model, plan, epochs, batch, optimizer, rate, weight decay, warm-up epochs
PAPERS = {
    "barlow_twins": ("resnet50", "sacl_xd_imagenet", 1000, 2048, "lars", 1.6, 1e-6, 10),
    "vicreg": ("resnet50", "byol", 1000, 2048, "lars", 1.6, 1e-6, 10),
    "simclr": ("resnet50", "simclr", 100, 4096, "lars", 4.8, 1e-6, 10),
    "moco_v2": ("resnet50", "mocov2", 200, 256, "sgd", 0.03, 1e-4, 0),
    "ssl_small": ("efficientnet_b0", "ssl_small", 200, 512, "sgd", 0.06, 1e-4, 0),
    "moco_v3": ("resnet50", "mocov3", 100, 4096, "lars", 9.6, 1e-6, 10),
    "byol": ("resnet50", "byol", 1000, 4096, "lars", 3.2, 1.5e-6, 10),
    "simsiam": ("resnet50", "mocov2", 100, 512, "sgd", 0.1, 1e-4, 0),
    "swav": ("resnet50", "swav", 200, 256, "lars", 0.6, 1e-6, 0),
    "dino": ("vit_small_patch16_224", "dino", 300, 1024, "adamw", 0.002, 0.04, 10),
    "slimclr-moco_v2": ("resnet50", "mocov2", 200, 1024, "sgd", 0.2, 1e-4, 10),
    "slimclr-moco_v3": ("resnet50", "mocov3", 300, 1024, "lars", 1.2, 1e-6, 10),
    "xd": ("mobilenetv3_large_100", "sacl_xd_imagenet", 200, 256, "lars", 0.8, 1.5e-6, 10),
    "sacl_xd": ("mobilenetv3_large_100", "sacl_xd_imagenet", 200, 256, "lars", 0.8, 1.5e-6, 10),
    "seed": ("efficientnet_b0", "seed", 200, 256, "sgd", 0.03, 1e-4, 0),
    "disco": ("efficientnet_b0", "mocov2", 200, 256, "sgd", 0.03, 1e-4, 0),
    "disco-swav": ("efficientnet_b0", "swav", 200, 512, "lars", 0.6, 1e-6, 0),
    "compress": ("resnet18", "crop_flip", 130, 256, "sgd", 0.01, 1e-4, 0),
    "bingo": ("resnet18", "mocov2", 200, 256, "sgd", 0.03, 1e-4, 0),
    "rekd": ("efficientnet_b0", "mocov2", 200, 256, "sgd", 0.03, 1e-4, 0),
    "oss": ("efficientnet_b0", "swav", 200, 256, "lars", 0.6, 1e-6, 0),
}
TABLE_4 = ("vit_tiny_patch16_224", "sacl_xd_imagenet100", 400, 256, "adamw", 0.005, 1e-4, 10)


def large(name: str, row: str, images: int) -> tuple[object, ...]:
    """What a row of a recipe for ImageNet resolves to; of the model only its name and size matter."""
    run = recipes.load(name).recipe(row)
    settings = getattr(run.method, "training", methods.load(run.method_name).SETTINGS)
    spec = dataclasses.replace(stock.spec("resnet20", 224), name=run.model)
    r = resolve(run, settings, spec, images)
    warmup = r.warmup_steps / r.steps_per_epoch
    return run.model, r.plan, r.epochs, r.batch_size, r.optimizer, pytest.approx(r.lr), r.weight_decay, warmup


@pytest.mark.parametrize("row", recipes.load("imagenet").ROWS)
def test_imagenet_is_trained_as_the_papers_do(row: str) -> None:
    assert large("imagenet", row, 1_281_167) == PAPERS[row]


def test_every_method_without_labels_has_a_row_for_imagenet() -> None:
    rows = {recipes.load("imagenet").recipe(row).method_name for row in PAPERS}
    assert rows == {name for name in methods.names() if not method_class(methods.load(name)).needs_labels}


def test_slimclr_over_moco_v3_jumps_from_its_rate_to_the_papers() -> None:
    run = recipes.load("imagenet").recipe("slimclr-moco_v3")
    assert run.method.training["large"].lr * run.method.lr_jump == pytest.approx(3.2)
    assert (run.method.base, run.method.slow_start) == ("moco_v3", 0.5)


def test_table_4_is_the_papers_table() -> None:
    module = recipes.load("vit_tiny_imagenet100")
    assert large("vit_tiny_imagenet100", "xd", 126_689) == large("vit_tiny_imagenet100", "barlow_twins", 126_689)
    assert large("vit_tiny_imagenet100", "xd", 126_689) == TABLE_4
    assert module.ROWS["xd"].alpha == 0.8
    dino = large("vit_tiny_imagenet100", "dino", 126_689)
    assert dino == ("vit_tiny_patch16_224", "dino", 400, 256, "adamw", 0.0005, 0.04, 10)


def test_names_that_do_not_exist() -> None:
    with pytest.raises(WispError, match="ablation"):
        recipes.load("ablaton")
    with pytest.raises(WispError, match="sacl_xd-2x"):
        recipes.load("ablation").recipe("sacl_xd2x")


def test_a_recipe_leaves_the_machine_open() -> None:
    """So that the same row runs on a laptop and on an accelerator, and is the same experiment."""
    run: Run[Any] = recipes.load("sacl_xd_cifar10").recipe("xd")
    elsewhere = dataclasses.replace(run, out="x", workers=3, devices=2, accelerator="cuda")
    assert difference(elsewhere, run) == []
