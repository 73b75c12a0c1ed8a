"""The command line. No torch is imported before a verb needs it: help and lists answer at once."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from wisp import __version__, methods, recipes
from wisp.allocator import keep_freed_memory
from wisp.arguments import first_flag, flags, parse, taken
from wisp.errors import WispError, nearest
from wisp.listing import LISTS
from wisp.options import (
    CheckOptions,
    CompareOptions,
    DiagnoseOptions,
    EvaluateOptions,
    ExportOptions,
    SynthesizeOptions,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `wisp`; exits with 2 on bad input (one line on stderr), with 130 after an interrupt."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _dispatch(words)
    except WispError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted; what was saved stays, and the same command can be given again", 130)
    except BrokenPipeError:
        os._exit(1)
    except OSError as error:  # a place that cannot be read or written, where nothing more can be said about it
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", 2)


def _fail(text: str, code: int) -> None:
    """Ends with one line on stderr; the processes that torchrun or Fabric add say which of them they are."""
    one_line = " ".join(text.split())
    print(f"wisp: {f'process {_process()}: ' if _process() else ''}{one_line}", file=sys.stderr)
    raise SystemExit(code)


def _process() -> int:
    """Number of this process among those of a run, as its launcher tells it; 0 is the first, or the only one."""
    told = (os.environ.get(name) for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))
    return next((int(number) for number in told if number is not None), 0)


def _dispatch(words: list[str]) -> None:
    if not words or words[0] in {"-h", "--help", "help"}:
        print(overview())
    elif words[0] in {"-V", "--version"}:
        print(f"wisp {__version__}")
    elif words[0] in VERBS:
        keep_freed_memory()
        VERBS[words[0]].run(words[1:])
    else:
        raise WispError(f"unknown command {words[0]!r}; nearest: {', '.join(nearest(words[0], VERBS))}")


def overview() -> str:
    """The text of `wisp --help`."""
    width = max(len(verb.usage) for verb in VERBS.values())
    lines = [f"  wisp {verb.usage:<{width}}  {verb.summary}" for verb in VERBS.values()]
    return "\n".join(
        [
            "wisp trains small vision encoders without labels and hands back a stock model.",
            "",
            *lines,
            "",
            "wisp pretrain alone trains SACL-XD on the built-in digits, in a few minutes.",
            "wisp VERB --help lists a verb's options.",
        ]
    )


# verbs ---------------------------------------------------------------------------------------------------------------


def _pretrain(words: list[str], verb: str = "pretrain") -> None:
    words = [re.sub(r"^--teacher(?==|$)", "--method.teacher", word) for word in words]
    name = words.pop(0).replace("-", "_") if words and not words[0].startswith("-") else None
    origin = taken(words, "--from")
    if origin is not None:
        if name is not None:
            raise WispError("--from names the method already; give one of both")
        _repeat(Path(origin), words)
        return
    about = None
    if verb == "distill" and name is None:
        if {"-h", "--help"} & {*words}:
            print(f"wisp {VERBS[verb].usage}   {VERBS[verb].summary}\n\nwisp distill METHOD --help lists its options.")
            return
        raise WispError(f"distill by which method? wisp {VERBS[verb].usage}; wisp list methods names them")
    if name is None:
        settings = recipes.load("demo").recipe().method
    elif name in methods.names():
        settings, about = methods.load(name).Config(), methods.about(name).summary
        if verb == "distill":
            methods.refuse_untaught(name, settings)
    else:
        raise WispError(f"unknown method {name!r}; nearest: {', '.join(nearest(name, methods.names()))}")
    from wisp.run import Run

    generic: Any = Run  # of which settings is known only now
    kind, program = generic[type(settings)], f"wisp {verb} {name or ''}".rstrip()
    run = parse(kind, words, program, default=Run(method=settings), known=flags(Run, type(settings)), about=about)
    _train(run)


def _repeat(origin: Path, words: list[str]) -> None:
    from wisp.run import again

    if not origin.is_file():
        raise WispError(f"--from {origin} is no file; name the run.json of a run folder")
    run = again(origin.read_text(encoding="utf-8", errors="replace"), str(origin))
    out = taken(words, "--out")
    if words:
        raise WispError(f"--from takes --out and nothing else, not {words[0]}; edit a copy of {origin.name} instead")
    if out is None:
        raise WispError("--from repeats a run in another folder; name it with --out")
    _train(dataclasses.replace(run, out=out))


def _train(run: Any) -> None:
    from rich.console import Console

    from wisp import api
    from wisp.train.interrupt import Interrupted

    first = _process() == 0
    try:
        api.pretrain(run, Console(highlight=False, quiet=not first))
    except Interrupted as stop:
        if first:  # a launcher takes an exit code for a failure of that process and kills the others
            _fail(str(stop), 130)


def _evaluate(words: list[str]) -> None:
    subject = _subject(words, "evaluate", "RUN|FILE")
    options: EvaluateOptions = parse(EvaluateOptions, words, "wisp evaluate RUN|FILE", known=flags(EvaluateOptions))
    from wisp import api

    def tell(line: str) -> None:
        print(f"wisp: {line}", file=sys.stderr)

    for name, value in api.evaluate(subject, tell=tell, **vars(options)).items():
        print(f"{name:>16}  {value:.2f}")


def _export(words: list[str]) -> None:
    subject = _subject(words, "export", "RUN")
    options: ExportOptions = parse(ExportOptions, words, "wisp export RUN", known=flags(ExportOptions))
    from wisp import api

    print(api.export(subject, **vars(options)))


def _report(words: list[str]) -> None:
    if words in (["--help"], ["-h"], []):
        print("wisp report RUN...   writes RUN/report.html again, from the files of the run")
        return
    paths = _paths(words)
    from wisp import api

    for path in paths:
        print(api.report(path))


def _compare(words: list[str]) -> None:
    at = first_flag(words)
    runs, rest = words[:at], words[at:]
    options: CompareOptions = parse(CompareOptions, rest, "wisp compare RUN...", known=flags(CompareOptions))
    if not runs:
        raise WispError("compare what? name one or more run folders")
    paths = _paths(runs)
    from wisp import api

    print(api.compare(paths, Path(options.out)))
    print(f"\n{options.out}")


def _list(words: list[str]) -> None:
    if words in (["--help"], ["-h"], []):
        print("wisp list " + "|".join(LISTS))
        return
    if words[0] not in LISTS:
        raise WispError(f"cannot list {words[0]!r}; wisp list {'|'.join(LISTS)}")
    print("\n".join(LISTS[words[0]]()))


def _diagnose(words: list[str]) -> None:
    path = _subject(words, "diagnose", "RUN")
    options: DiagnoseOptions = parse(DiagnoseOptions, words, "wisp diagnose RUN", known=flags(DiagnoseOptions))
    from wisp import api
    from wisp.report.information import in_words

    found = api.diagnose(path, **vars(options))
    told = [*(f"left out: {note}" for note in found["notes"]), *in_words(found)]
    print(*told, path / "diagnosis.json", path / "report.html", sep="\n")


def _check(words: list[str]) -> None:
    data = _subject(words, "check", "DATA")
    options: CheckOptions = parse(CheckOptions, words, "wisp check DATA", known=flags(CheckOptions))
    from wisp import api

    print(api.check(str(data), **vars(options)))


def _synthesize(words: list[str]) -> None:
    known = flags(SynthesizeOptions)
    options: SynthesizeOptions = parse(SynthesizeOptions, words, "wisp synthesize", known=known)
    from wisp import api

    try:
        api.synthesize(**vars(options))
    except KeyboardInterrupt:
        _fail("interrupted; the pictures that are there stay, the same command goes on from there", 130)


@dataclasses.dataclass(frozen=True)
class Verb:
    """A command: how it is called, what it does, and the function that does it."""

    usage: str
    summary: str
    run: Callable[[list[str]], None]


VERBS = {
    "pretrain": Verb("pretrain [METHOD] --data DATA --model NAME", "trains an encoder without labels", _pretrain),
    "distill": Verb(
        "distill METHOD --teacher TEACHER --data DATA",
        "the same with a teacher, with labels or without",
        partial(_pretrain, verb="distill"),
    ),
    "evaluate": Verb("evaluate RUN|FILE --data DATA", "accuracy of an exported encoder or classifier", _evaluate),
    "export": Verb("export RUN --to timm|onnx|pt2", "writes an encoder's files again", _export),
    "report": Verb("report RUN...", "writes the report of a run again", _report),
    "compare": Verb("compare RUN...", "puts several runs into one table and one page", _compare),
    "diagnose": Verb("diagnose RUN", "draws how a run's widths disturb each other, and what they keep", _diagnose),
    "synthesize": Verb(
        "synthesize --classes-from DATA --out DIR", "draws more images of a task's classes, for --extra", _synthesize
    ),
    "check": Verb("check DATA", "counts images and names bad files", _check),
    "list": Verb("list methods|encoders|data", "says what there is", _list),
}

# words ---------------------------------------------------------------------------------------------------------------


def _subject(words: list[str], verb: str, what: str) -> Path:
    """The word behind a verb, unless help is wanted."""
    if words and words[0] in {"-h", "--help"}:
        return Path()
    if not words or words[0].startswith("-"):
        raise WispError(f"{verb} what? wisp {VERBS[verb].usage}")
    return Path(words.pop(0))


def _paths(words: list[str]) -> list[Path]:
    """Run folders; a folder that only holds some stands for them, in alphabetical order."""
    found: list[Path] = []
    for folder in map(Path, words):
        if not folder.is_dir():
            raise WispError(f"{folder} is no run folder; a run folder is what wisp pretrain --out names")
        runs = sorted(path.parent for path in folder.glob("*/run.json"))
        found += [folder] if (folder / "run.json").exists() or not runs else runs
    return found


if __name__ == "__main__":
    main()
