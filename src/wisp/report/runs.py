"""Run folders as plain records. A folder of an unfinished or interrupted run is as good as any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wisp.cost.road import Part, Total, before, machine_name, road, total
from wisp.data.extra import pathless
from wisp.errors import WispError
from wisp.methods import titled
from wisp.report.formats import number
from wisp.report.scored import Accuracy, Json, Judge, accuracy, fractions, monitored, shares


@dataclass(frozen=True)
class RunRecord:
    """Everything that a run folder says, read once."""

    folder: Path
    run: Json
    env: Json
    steps: list[Json]
    """Rows of `metrics.jsonl`, epochs counted from 1."""
    epochs: list[Json]
    """Likewise; accuracies as fractions, and the last row completed by the final evaluation."""
    result: Json | None
    diagnosis: Json | None
    """What `wisp diagnose` wrote, if it ran."""
    cards: dict[str, Json]
    files: list[tuple[str, int]]
    """Path below the folder, bytes."""

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    def fact(self, key: str) -> str:
        """`method_name`, `model` or `data`; `?` where the configuration does not say."""
        value = self.run.get(key)
        return str(value) if isinstance(value, (str, int)) and value != "" else "?"

    @property
    def method(self) -> str:
        """The method's name; one that is a reading of its paper says so."""
        return titled(self.fact("method_name"))

    @property
    def data(self) -> str:
        """The data's name, of a path the last two parts; and that of the folder of extra images with its ratio."""
        parts = Path(self.fact("data")).parts
        name = "/".join(parts[-2:]) if len(parts) > 2 else self.fact("data")
        return name if self.fact("extra") == "?" else f"{name} + {pathless(self.fact('extra'))}"

    @property
    def done(self) -> int:
        """Epochs that have ended."""
        return int(number(self.epochs[-1].get("epoch")) or 0) if self.epochs else 0

    @property
    def encoders(self) -> list[str]:
        """Encoder names, the exported one first (the order of `Method.encoders()`)."""
        if self.result is not None:
            return list(self.result.get("encoders") or {})
        for row in reversed(self.epochs):
            if row.get("knn"):
                return list(row["knn"])
        return [name for name, card in self.cards.items() if card.get("kind", "encoder") == "encoder"]

    def encoder(self, name: str) -> Json:
        """The result's row of one encoder; empty while the run is not finished."""
        row = ((self.result or {}).get("encoders") or {}).get(name)
        return row if isinstance(row, dict) else {}

    def accuracy(self, name: str) -> Accuracy:
        """The final accuracy of one encoder; before the end the monitor's last word."""
        if self.result is not None:
            return accuracy(self.encoder(name))
        for row in reversed(self.epochs):
            if (row.get("knn") or {}).get(name):
                return Accuracy(row["knn"][name], None, row["top1"].get(name))
        return Accuracy({}, None)

    @property
    def untrained(self) -> Accuracy:
        """The same encoder with random weights."""
        return accuracy((self.result or {}).get("untrained") or {})

    @property
    def cost(self) -> Json:
        """The result's cost; empty while the run is not finished."""
        return (self.result or {}).get("cost") or {}

    @property
    def machine(self) -> str | None:
        """The machine in a few words; None where nobody says."""
        found = (self.result or {}).get("hardware") or {}
        return machine_name(found) if isinstance(found, dict) else str(found)

    @property
    def road(self) -> tuple[Part, ...]:
        """Everything that was paid on the way, in its order; empty while the run is not finished."""
        return road(self.cost, machine=self.machine)

    @property
    def own_seconds(self) -> float | None:
        """Of the training and of what it did before its first step: its teacher's probe, its look at all images."""
        own = [part for part in self.road[len(before(self.cost)) :] if part.kind != "generation"]
        timed = [part for part in own if part.seconds is not None]
        return total(timed).seconds if timed else number(self.cost.get("seconds"))

    @property
    def names_classes(self) -> bool:
        """Whether it learnt from labels itself."""
        return any("classifier" in self.encoder(name) for name in self.encoders)

    @property
    def saw_labels(self) -> bool | None:
        """Whether it learnt from labels, or a teacher of it did; None where nobody knows that of the teacher."""
        if self.names_classes or self.teacher is None:
            return self.names_classes
        labels = self.teacher.get("labels")
        return None if labels is None else bool(labels)

    @property
    def teacher(self) -> Json | None:
        """Who taught, and what that one's own training cost; None where there was no teacher."""
        teacher = self.cost.get("teacher")
        return teacher if isinstance(teacher, dict) else None

    @property
    def teacher_bill(self) -> Total:
        """Of the teacher's own training and all that lay before it; nothing where there was no teacher."""
        return total(before(self.cost))

    def answers(self, name: str) -> Json:
        """What the classifier of an encoder knows class by class; empty where there is none."""
        return (self.encoder(name).get("classifier") or {}).get("answers") or {}

    @property
    def judge(self) -> Judge | None:
        """The teacher's own word on the questions; None where it names no classes, or the receipt does not say."""
        asked = (self.result or {}).get("teacher")
        if not isinstance(asked, dict) or (top1 := accuracy({"classifier": asked}).top1) is None:
            return None
        return Judge(str(asked.get("origin")), asked.get("classifier") == "probed", top1, asked.get("answers") or {})

    @property
    def warning(self) -> str | None:
        """What the last health check had to say, if anything."""
        checks = [row["health"] for row in self.epochs if isinstance(row.get("health"), dict)]
        checks += [self.encoder(name).get("health") or {} for name in self.encoders[:1]] if self.result else []
        return str(checks[-1]["warning"]) if checks and checks[-1].get("warning") else None


def read_run(folder: Path, result: Json | None = None) -> RunRecord:
    """Reads a run folder, finished or not; `result` stands for a receipt that is not written yet.

    Raises:
        WispError: no such folder, no `run.json` in it, or a JSON file in it that cannot be read.
    """
    if not (folder / "run.json").is_file():
        raise WispError(
            f"{folder} is not a run folder: it has no run.json; give one that `wisp pretrain` or `wisp distill` made"
        )
    rows = [
        {**row, "epoch": row["epoch"] + 1}
        for row in _rows(folder / "metrics.jsonl")
        if number(row.get("epoch")) is not None
    ]
    if result is not None:
        result = json.loads(json.dumps(result))  # what the file will hold: keys as text, tuples as lists
    elif (folder / "result.json").is_file():
        result = _object(folder / "result.json")
    epochs = [
        {**row, "knn": monitored(row.get("knn")), "top1": shares(row.get("top1"))}
        for row in rows
        if row.get("kind") == "epoch"
    ]
    if result is not None and epochs:
        epochs[-1] = _final(epochs[-1], result)
    exported = folder / "exported"
    cards = sorted(exported.glob("**/card.json"))
    return RunRecord(
        folder=folder,
        run=_object(folder / "run.json"),
        env=_object(folder / "env.json") if (folder / "env.json").is_file() else {},
        steps=[row for row in rows if row.get("kind") == "step"],
        epochs=epochs,
        result=result,
        diagnosis=_object(folder / "diagnosis.json") if (folder / "diagnosis.json").is_file() else None,
        cards={card.parent.relative_to(exported).as_posix(): _object(card) for card in cards},
        files=[(path.relative_to(folder).as_posix(), path.stat().st_size) for path in _files(folder)],
    )


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Reads several run folders, in the order given.

    Raises:
        WispError: no folder at all, or one that `read_run` refuses.
    """
    if not folders:
        raise WispError("nothing to compare: give at least one run folder")
    return [read_run(Path(folder)) for folder in folders]


def _final(row: Json, result: Json) -> Json:
    """The last epoch's row; the loop leaves its accuracy and health to the final evaluation."""
    encoders: dict[str, Json] = result.get("encoders") or {}
    health = next((encoder.get("health") for encoder in encoders.values()), None)
    knn = {name: fractions(encoder.get("knn")) for name, encoder in encoders.items()}
    top1 = {name: value for name, encoder in encoders.items() if (value := accuracy(encoder).top1) is not None}
    return {**row, "knn": row["knn"] or knn, "top1": row["top1"] or top1, "health": row.get("health") or health}


def _files(folder: Path) -> list[Path]:
    """What a user may want to take away or read: the top of the folder and everything exported."""
    top = [path for path in folder.iterdir() if path.suffix in {".json", ".jsonl", ".log"}]
    exported = sorted(path for path in folder.glob("exported/**/*") if path.is_file())
    return exported + sorted(folder.glob("checkpoints/*.ckpt")) + sorted(top)


def _object(path: Path) -> Json:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WispError(f"{path} cannot be read as JSON ({error}); run `wisp pretrain` again to rewrite it") from error
    if not isinstance(value, dict):
        raise WispError(f"{path} holds no JSON object; run `wisp pretrain` again to rewrite it")
    return value


def _rows(path: Path) -> list[Json]:
    """Rows of `metrics.jsonl`. A killed run leaves half a line at the end: it is dropped, as resuming drops it."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
