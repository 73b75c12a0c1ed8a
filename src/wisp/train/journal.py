"""The diary of a run: `metrics.jsonl`, `train.log`, and optional readers of the same rows (TensorBoard, W&B)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Literal

from wisp.errors import WispError

Logger = Literal["none", "tensorboard", "wandb"]


class Journal:
    """Writes one JSON object a line; numbers also go to a logger when one was asked for."""

    def __init__(self, folder: Path, logger: Logger, *, resumed_at: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        self._truncate(resumed_at)
        self._file = self.path.open("a", encoding="utf-8")
        self._logger = _open_logger(logger, folder)

    def _truncate(self, step: int) -> None:
        """Drops what was written after the checkpoint, so that a resumed run has the rows of an undisturbed one."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # the line in which the process was killed
                continue
            if row["step"] <= step:
                kept.append(line)
        self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Appends a row; it must hold `kind`, `step` and `epoch`."""
        self._file.write(json.dumps(row, allow_nan=True) + "\n")
        self._file.flush()
        if self._logger is not None:
            self._logger.log_metrics(_flat(row), step=row["step"])

    def close(self) -> None:
        """Closes the file and the logger."""
        self._file.close()
        if self._logger is not None and hasattr(self._logger, "finalize"):
            self._logger.finalize("success")


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in row.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat


def _open_logger(logger: Logger, folder: Path) -> Any:
    try:
        if logger == "tensorboard":
            from lightning.fabric.loggers import TensorBoardLogger

            return TensorBoardLogger(root_dir=folder, name="tensorboard", version="")
        if logger == "wandb":
            import wandb

            return _Wandb(wandb.init(project="wisp", dir=str(folder), name=folder.name))
    except ImportError as error:
        raise WispError(f"--logger {logger} needs an extra: pip install 'wisp[{logger}]'") from error
    return None


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self._run.log(metrics, step=step)

    def finalize(self, status: str) -> None:
        self._run.finish()


def text_log(folder: Path) -> logging.Logger:
    """The logger behind `train.log`."""
    log = logging.getLogger(f"wisp.{folder.resolve()}")
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
    handler = logging.FileHandler(folder / "train.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log.addHandler(handler)
    return log
