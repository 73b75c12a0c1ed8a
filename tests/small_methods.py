"""The smallest form of every method: ResNet-8 at 16 px, a narrow head, one fixed batch."""

from __future__ import annotations

import dataclasses
import typing

import torch
from torch.nn.functional import adaptive_avg_pool2d

from wisp import methods
from wisp.data.loader import Batch
from wisp.data.plans import PLANS
from wisp.encoders import stock
from wisp.encoders.cifar_resnet import CifarResNet
from wisp.encoders.heads import mlp
from wisp.encoders.teacher import Bill, Sight, Teacher
from wisp.methods.method import Method, Surroundings
from wisp.session import method_class

SIZE = 16
IMAGES = 64
CLASSES = 4
PROGRESS = (0.0, 0.6)
"""Of two steps: in the first phase some parameters may be idle."""


OPTIONS = {
    **{"sacl_xd": "loss", "au": "loss", "disco": "base"},
    **{"seed": "extra", "compress": "queues", "crd": "projector"},
}
"""An option of a method that makes it another one: the laws hold for each of its values."""
CACHED = ("compress", "kd", "srrl", "crd", "au", "rkd")
"""Methods whose teacher may have looked once, at the plain images: the laws hold without it, too."""
OTHER_PLANS = {"seed:multicrop": "multicrop_small"}
"""Views that are not the method's usual ones: the laws hold for these, too."""


def forms() -> dict[str, dict[str, object]]:
    """Name of a method's other form, `sacl_xd:byol`, -> the settings that make it."""
    found: dict[str, dict[str, object]] = {
        **{f"{name}:cached": {"cached": True} for name in CACHED},
        "compress:rkd": {"extra": "rkd"},
        "au:srrl": {"logit_loss": "srrl"},
        "au:pretrained": {"teacher_head": "pretrained"},
        "crd:bounded": {"memory": 24, "negatives": 12},
        "bingo:at": {"extra": "at"},
        "disco:at": {"extra": "at"},
        **{name: {} for name in OTHER_PLANS},
    }
    for name, option in OPTIONS.items():
        values = typing.get_args(typing.get_type_hints(methods.load(name).Config)[option])
        found |= {f"{name}:{value}": {option: value} for value in values[1:]}
    return found


def cases() -> list[str]:
    """All methods and their other forms."""
    return [*methods.names(), *sorted(forms())]


def small_teacher(
    spec: stock.EncoderSpec,
    seed: int = 11,
    *,
    with_head: bool = True,
    classes: int | None = None,
    widths: tuple[int, int, int] = (8, 16, 24),
) -> Teacher:
    """Of another width, other colours and another resolution than the student; the same whatever the test's seed."""
    features = widths[-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, head = CifarResNet((1, 1, 1), widths), mlp([features, 20, 16])
        classifier = None if classes is None else torch.nn.Linear(features, classes)
    for part in (*encoder.modules(), *head.modules()):
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):  # as after a training
            torch.nn.init.uniform_(part.running_mean, -0.1, 0.1, generator=torch.Generator().manual_seed(seed))
    own = Sight(image_size=SIZE + 4, mean=(0.5, 0.5, 0.5), std=(0.25, 0.2, 0.25))
    student = Sight(image_size=SIZE, mean=spec.mean, std=spec.std)
    bill = Bill(flops=10**9, certainty="known", note="made by the tests")
    parts = (encoder, head if with_head else None, classifier)
    width = 16 if with_head else features
    return Teacher(*parts, features=features, width=width, own=own, student=student, origin="small", bill=bill)


def config_of(name: str, **changes: object) -> object:
    changes = forms().get(name, {}) | changes
    name = name.partition(":")[0]
    kind = methods.load(name).Config
    names = {field.name for field in dataclasses.fields(kind)}
    sizes = {"hidden": 48, "out": 64, "prototypes": 24, "bottleneck": 16}
    small = {key: value for key, value in sizes.items() if key in names}
    if "teacher" in names:  # in whose space the student's embeddings are
        small.pop("out", None)
    if name == "disco" and changes.get("base", "moco_v2") != "swav":
        small.pop("prototypes")
    return kind(**(small | changes))


def small_method(name: str, *, seed: int = 0, batch_size: int = 32, **changes: object) -> Method:
    torch.manual_seed(seed)
    spec = stock.spec("resnet8", SIZE)
    module = methods.load(name.partition(":")[0])
    config = config_of(name, **changes)
    classes = CLASSES if method_class(module).needs_labels else None
    with_head = getattr(config, "teacher_head", None) == "pretrained"
    kind = method_class(module)
    widths = (16, 32, 64) if kind.taught == "adopted" else (8, 16, 24)  # the student's own, or others
    teacher = small_teacher(spec, with_head=with_head, classes=classes, widths=widths) if kind.taught != "no" else None
    surroundings = Surroundings(
        features=spec.features,
        image_size=SIZE,
        images=IMAGES,
        batch_size=batch_size,
        plan=PLANS[OTHER_PLANS.get(name, getattr(config, "training", module.SETTINGS)["small"].plan)],
        classes=classes,
        teacher=teacher,
    )
    return method_class(module)(config, spec.build(), surroundings)


def fixed_batch(method: Method, size: int = 32, *, seed: int = 1, dtype: torch.dtype = torch.float32) -> Batch:
    """Views that share a content, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(size, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    scaled = [adaptive_avg_pool2d(content, side) for side in method.views.pixels(SIZE)]

    def noisy(strength: float) -> tuple[torch.Tensor, ...]:
        noise = (torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in scaled)
        return tuple((each + strength * other).to(dtype) for each, other in zip(scaled, noise, strict=True))

    labels = torch.arange(size) % CLASSES if method.needs_labels else None
    views, companions = noisy(0.5), noisy(0.8) if method.neighbours else ()
    remembered = torch.randn(size, method.remembers, generator=generator, dtype=torch.float64).to(dtype)
    return Batch(views, torch.arange(size), labels, companions, remembered if method.remembers else None)


def begun(name: str, **changes: object) -> Method:
    """A method in its first epoch, with the keys of one batch in its queue if it has one."""
    method = small_method(name, **changes)
    method.before_epoch(0)
    method(fixed_batch(method, seed=5), 0.0)
    method.after_step(0.0)
    return method


def memory_of(method: Method) -> dict[str, torch.Tensor]:
    """Queues, centres and other buffers that are no BatchNorm statistics: they are the same on every process."""
    statistics = ("running_mean", "running_var", "num_batches_tracked", "statistics.")
    return {key: value for key, value in method.named_buffers() if not any(word in key for word in statistics)}


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


@torch.no_grad()
def scramble(narrow: torch.nn.Module) -> None:
    """Norms of narrow networks that are not the host's, as after some training."""
    generator = torch.Generator().manual_seed(4)
    for parameter in narrow.parameters():
        parameter.add_(torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype))
