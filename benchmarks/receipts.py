"""Runs the rows of a recipe one after another and keeps their receipts under `results/`.

    python -m benchmarks.receipts --recipe ablation --data TRAIN --val TEST --out runs/ablation [--only ROW,ROW]

A row trains in OUT/ROW (OUT/ROW-s1 with seed 1) by the same command line that a user has, in a process of its own, so
that its peak memory is its own. The same command goes on where it stopped: finished rows are skipped, an unfinished
one resumes. Every `result.json` is copied to results/NAME/ROW.json; `python -m benchmarks.tables` makes the tables of
them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wisp import recipes
from wisp.errors import WispError, nearest
from wisp.files import read_json, write_json
from wisp.run import Run, to_json

RESULTS = Path(__file__).parents[1] / "results"
TEACHER_OPTIONS = ("teacher", "teacher_model", "teacher_head", "teacher_classifier")
_INTERRUPTED = 130
_PATH = re.compile(r"""(?:^|[\s"'(=:])(?:/|~/|[A-Za-z]:\\)[\w.~-]""")


def folder_name(row: str, seed: int) -> str:
    """`xd` for seed 0, `xd-s1` for seed 1."""
    return row if seed == 0 else f"{row}-s{seed}"


def train(run: Run[Any], out: Path, threads: int | None = None) -> int:
    """Trains, resumes or skips `run` in `out` through the command line; its exit code."""
    environment = dict(os.environ)
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "run.json"
        write_json(file, to_json(run))
        command = [sys.executable, "-c", "from wisp.cli import main; main()", "pretrain"]
        process = subprocess.Popen([*command, "--from", str(file), "--out", str(out)], env=environment)
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # the child got it too: it finishes its step, saves, and says so
                continue


def keep(out: Path, target: Path) -> None:
    """Copies the receipt of the finished run in `out` to the file `target`.

    Raises:
        WispError: no receipt there, or one that names a place on this machine.
    """
    receipt = read_json(out / "result.json")
    for text in _texts(receipt):
        if _PATH.search(text):
            raise WispError(f"{out / 'result.json'} names a path of this machine ({text!r}); it is not kept")
    write_json(target, receipt)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield str(key)
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def collect(rows: dict[str, Run[Any]], *, out: Path, results: Path, threads: int | None = None) -> list[str]:
    """Trains every row and keeps its receipt; a row that fails does not stop the others.

    Args:
        rows: folder name -> run.
        out: holds the run folders.
        results: receives `NAME.json` for every finished row.
        threads: of one training; torch's choice unless given.

    Returns:
        The rows that failed.

    Raises:
        KeyboardInterrupt: the user stopped the row at work.
    """
    failed = []
    for name, run in rows.items():
        print(f"--- {name}", flush=True)
        code = train(run, out / name, threads)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            failed.append(name)
        else:
            keep(out / name, results / f"{name}.json")
    return failed


def planned(options: argparse.Namespace) -> dict[str, Run[Any]]:
    """Folder name -> run, of the rows and seeds that were asked for.

    Raises:
        WispError: unknown recipe or row, or settings of a teacher without one.
    """
    module = recipes.load(options.recipe)
    teacher = {name: vars(options)[name] for name in TEACHER_OPTIONS if vars(options)[name] is not None}
    everyone = [row for row in module.ROWS if row != recipes.TEACHER or not options.teacher]
    chosen = options.only.split(",") if options.only else everyone
    for row in chosen:
        if row not in module.ROWS:
            raise WispError(f"unknown row {row!r} of {options.recipe}; nearest: {', '.join(nearest(row, module.ROWS))}")
    if teacher and "teacher" not in teacher:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in teacher)
        raise WispError(f"there is no teacher to which {named} could belong; name --teacher")
    given = {"data": options.data, "val": options.val, "epochs": options.epochs}
    where = {"precision": options.precision, "accelerator": options.accelerator}
    rows = {}
    for seed in options.seeds:
        if not options.teacher and recipes.TEACHER in module.ROWS:
            teacher["teacher"] = str(options.out / folder_name(recipes.TEACHER, seed))
        for row in chosen:
            run = module.recipe(row, seed=seed, teacher=teacher, **given)
            rows[folder_name(row, seed)] = dataclasses.replace(run, **where)
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a recipe; exits with 1 when a row failed, with 130 after an interrupt."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", required=True, help=", ".join(recipes.names()))
    parser.add_argument("--data", help="the recipe's own unless given")
    parser.add_argument("--val", help="labelled test images")
    parser.add_argument("--epochs", type=int, help="the recipe's own unless given")
    parser.add_argument("--out", type=Path, required=True, help="holds one run folder a row")
    parser.add_argument("--teacher", help="of the rows that are taught; the recipe's own unless given")
    parser.add_argument("--teacher-model", help="architecture of a checkpoint file")
    parser.add_argument("--teacher-head", choices=("pretrained", "none"))
    parser.add_argument("--teacher-classifier", choices=("own", "probed"), help="of a task with labels")
    parser.add_argument("--only", help="rows, separated by commas")
    parser.add_argument("--seeds", type=_numbers, default=[0], help="separated by commas")
    parser.add_argument("--name", help="folder below results/; the recipe's name unless given")
    parser.add_argument("--threads", type=int, help="of one training")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument("--results", type=Path, default=RESULTS, help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help="print the runs as JSON lines and train nothing")
    options = parser.parse_args(arguments)
    try:
        rows = planned(options)
        if options.list:
            print("\n".join(json.dumps({name: to_json(run)}) for name, run in rows.items()))
            return
        target = options.results / (options.name or options.recipe)
        failed = collect(rows, out=options.out, results=target, threads=options.threads)
    except WispError as error:
        parser.exit(2, f"receipts: {error}\n")
    except KeyboardInterrupt:
        parser.exit(_INTERRUPTED, "receipts: interrupted; the same command goes on from there\n")
    if failed:
        parser.exit(1, f"receipts: no result from {', '.join(failed)}; the lines above say why\n")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    main()
