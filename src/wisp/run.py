"""Run: a whole experiment in one frozen dataclass, and how it is written down."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from wisp import methods
from wisp.errors import WispError, nearest
from wisp.files import at_home

SCHEMA = 1
Config = TypeVar("Config")
MACHINE = ("out", "workers", "devices", "nodes", "accelerator", "logger")
"""Fields that say where and not what: a resumed run may change them."""


@dataclass(frozen=True, kw_only=True)
class Run(Generic[Config]):
    """One training. What is None is taken from the method's paper (and printed, and stored as resolved)."""

    data: str = "digits"
    """Folder, parquet file, tar shards, or a name of wisp list data."""
    val: str | None = None
    """Labelled images for evaluation; without it a tenth of labelled training data is held out."""
    extra: str | None = None
    """DIR[:RATIO]: class folders of further training images, RATIO times as many as --data has; all unless given."""
    model: str = "resnet20"
    """Any timm name, or resnet20."""
    out: str | None = None
    """Run folder; runs/METHOD-MODEL-DATA-SEED unless given."""
    epochs: int | None = None
    """Passes over the data."""
    batch_size: int | None = None
    """Images per step over all devices."""
    image_size: int | None = None
    """Side of the square views in pixels; the encoder's own unless given."""
    lr: float | None = None
    """Learning rate at the paper's batch size; some methods scale it with the batch."""
    weight_decay: float | None = None
    """For filters and matrices only."""
    optimizer: Literal["lars", "sgd", "adamw"] | None = None
    """The paper's unless given."""
    plan: str | None = None
    """Name of a view plan; the paper's unless given."""
    stem: Literal["stock", "small"] = "stock"
    """small keeps the resolution in the first convolution, for small images."""
    subset: int | None = None
    """Use so many training images only, evenly spaced."""
    seed: int = 0
    """Of weights, sample order and views."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto is bf16 where the device computes it natively, else fp32."""
    deterministic: bool = False
    """Ask CUDA for repeatable kernels; a CPU is repeatable anyway."""
    record: bool = False
    """Keep gradients and weights of the training in the run folder, for wisp diagnose: the encoders up to 50 times."""
    method: Config
    """The method's own settings."""
    workers: int | None = None
    """Processes that decode images larger than 64 px; beside a GPU all cores but one, on a CPU none, unless given."""
    devices: int = 1
    """Devices per machine; torchrun's value wins."""
    nodes: int = 1
    """Machines."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    logger: Literal["none", "tensorboard", "wandb"] = "none"
    """A second reader of metrics.jsonl."""

    def __post_init__(self) -> None:
        """Checks ranges that no data is needed for."""
        for name in ("epochs", "batch_size", "image_size", "subset", "devices", "nodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WispError(f"--{name.replace('_', '-')} is {value}; it must be 1 or more")
        if self.lr is not None and not (self.lr > 0 and math.isfinite(self.lr)):
            raise WispError(f"--lr is {self.lr:g}; it must be a number above 0")
        if self.weight_decay is not None and not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise WispError(f"--weight-decay is {self.weight_decay:g}; it must be a number of 0 or more")
        if self.workers is not None and self.workers < 0:
            raise WispError(f"--workers is {self.workers}; it must be 0 or more")
        if not 0 <= self.seed < 2**63:
            raise WispError(f"--seed is {self.seed}; it must be 0 or more, and below 2^63")
        for key, value in vars(self.method).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise WispError(f"--method.{key.replace('_', '-')} is {value:g}; it must be a finite number")

    @property
    def method_name(self) -> str:
        """The method's file name, which is its name everywhere."""
        return type(self.method).__module__.rpartition(".")[2]

    @property
    def method_title(self) -> str:
        """The method's name and its settings that are not the default, which is the paper's."""
        paper = vars(type(self.method)())
        named = vars(self.method) | {"teacher": self.teacher_name}
        changed = [f"{name}={named[name]}" for name, value in vars(self.method).items() if value != paper[name]]
        return " ".join([methods.titled(self.method_name), *changed])

    @property
    def teacher_name(self) -> str | None:
        """The method's teacher without a path: RUN, or RUN/NAME of one of its encoders; None where it has none."""
        teacher = getattr(self.method, "teacher", None)
        if teacher is None:
            return None
        parts = Path(os.path.abspath(at_home(teacher))).parts
        run, inside, encoder = "/".join(parts[-4:]).rpartition("/exported/")
        return f"{run.rpartition('/')[2]}/{encoder}" if inside else parts[-1]

    @property
    def folder(self) -> Path:
        """Where the run lives."""
        if self.out is not None:
            return Path(self.out)
        data = Path(self.data).stem or "data"
        return Path("runs") / f"{self.method_name}-{self.model}-{data}-{self.seed}"


def to_json(run: Run[Any]) -> dict[str, Any]:
    """The run as plain values, with its schema and its method's name."""
    return {"schema": SCHEMA, "method_name": run.method_name, **dataclasses.asdict(run)}


def from_json(text: str, origin: str) -> Run[Any]:
    """The inverse of `to_json`.

    Args:
        text: the content of `run.json`.
        origin: its name, for messages.

    Raises:
        WispError: not a run, of a newer schema, or with keys or values that this wisp does not know.
    """
    try:
        values = json.loads(text)
        schema = values.pop("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise WispError(f"{origin} has schema {schema}, this wisp reads {SCHEMA}; install a newer wisp")
        name, settings = str(values.pop("method_name")), dict(values.pop("method"))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise WispError(f"{origin} is not a run.json of wisp; name one that a run folder holds") from error
    values.pop("resolved", None)
    config = methods.load(name).Config
    return Run(**_known(values, Run, origin), method=config(**_known(settings, config, origin)))


def again(text: str, origin: str) -> Run[Any]:
    """The run of a `run.json` with the views that it had, also where wisp's default has changed since.

    Raises:
        WispError: as `from_json`.
    """
    run = from_json(text, origin)
    resolved = json.loads(text).get("resolved")
    plan = resolved.get("plan") if isinstance(resolved, dict) else None
    return replace(run, plan=plan) if run.plan is None and isinstance(plan, str) else run


def _known(values: dict[str, Any], kind: Any, origin: str) -> dict[str, Any]:
    """`values`, if they are fields of the dataclass `kind` and of their types.

    Raises:
        WispError: names the one that is not.
    """
    types = get_type_hints(kind)
    for key, value in values.items():
        if key not in types:
            raise WispError(f"{origin} has an unknown key {key!r}; nearest: {', '.join(nearest(key, types))}")
        if not _fits(value, types[key]):
            raise WispError(f"{origin} has {value!r} for {key}, which cannot be; --help lists what it takes")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a JSON value is of a field's type: plain ones, literals, tuples of one type, and unions of them."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:  # JSON has lists only
        return isinstance(value, list) and all(_fits(item, get_args(kind)[0]) for item in value)
    if get_args(kind):
        return any(_fits(value, part) for part in get_args(kind))
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def difference(ours: Run[Any], theirs: Run[Any]) -> list[str]:
    """`key: theirs -> ours` for every key in which two experiments differ, whatever machine they run on.

    The method comes first; where it is another one its own settings are, too, and are left out.
    """
    a, b = _flat(to_json(theirs)), _flat(to_json(ours))
    keys = [key for key in sorted(a.keys() | b.keys()) if key not in MACHINE and a.get(key) != b.get(key)]
    if "method_name" in keys:
        keys = ["method_name", *(key for key in keys if key != "method_name" and not key.startswith("method."))]
    return [f"{key}: {a.get(key)} -> {b.get(key)}" for key in keys]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
