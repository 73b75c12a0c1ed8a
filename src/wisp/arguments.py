"""Words of a command line made into values, by tyro; what it says of a mistake is reduced to one line."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from typing import Any

from wisp.errors import WispError, nearest


def first_flag(words: list[str]) -> int:
    """Position of the first option, or the number of words."""
    return next((i for i, word in enumerate(words) if word.startswith("-")), len(words))


def taken(words: list[str], flag: str) -> str | None:
    """Removes `flag VALUE` or `flag=VALUE` from `words` and returns the value."""
    for i, word in enumerate(words):
        if word == flag:
            if i + 1 == len(words):
                raise WispError(f"{flag} needs a value")
            value = words[i + 1]
            del words[i : i + 2]
            return value
        if word.startswith(f"{flag}="):
            del words[i]
            return word.partition("=")[2]
    return None


def flags(*kinds: type) -> list[str]:
    """All flags of a dataclass; a second one stands for the settings of the method."""
    own = [f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(kinds[0]) if field.name != "method"]
    nested = [f"--method.{field.name.replace('_', '-')}" for kind in kinds[1:] for field in dataclasses.fields(kind)]
    return own + nested


def parse(
    kind: Any, words: list[str], program: str, *, known: list[str], default: Any = None, about: str | None = None
) -> Any:
    """A dataclass from words, with tyro's messages reduced to one line.

    Args:
        kind: the dataclass.
        words: of the command line.
        program: how it begins, for the help.
        known: every flag there is.
        default: stands for what is not said.
        about: first words of the help; the docstring of the dataclass unless given.
    """
    import tyro

    for word in words:
        flag = re.sub(r"^--no-|^--(?=method\.no-)", "--", word.partition("=")[0].replace("_", "-"))
        flag = flag.replace("--method.no-", "--method.")
        if word.startswith("--") and flag not in {*known, "--help"}:
            raise WispError(f"unknown option {word.partition('=')[0]}; nearest: {', '.join(nearest(flag, known))}")
    options: dict[str, Any] = {"args": words, "prog": program, "description": about}
    if default is not None:
        options["default"] = default
    if {"-h", "--help"} & set(words):
        return tyro.cli(kind, **options)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard), contextlib.redirect_stdout(heard):
            return tyro.cli(kind, **options)
    except SystemExit as error:
        raise WispError(_reduced(heard.getvalue()) or f"cannot read the options of {program}") from error


def _reduced(text: str) -> str:
    """The sentence inside tyro's frame, in wisp's words."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]|-{3,}", " ", text).split())
    text = re.sub(r" ?For full helptext,.*$", "", text)
    if found := re.search(r"Error parsing (--\S+): .*? from \['(.*?)'\]", text):
        return f"{found[1]} cannot be {found[2]!r}; --help lists what it takes"
    if found := re.search(r"Error parsing (--\S+): invalid literal for \w+\(\).*?: ('.*?')", text):
        return f"{found[1]} cannot be {found[2]}; --help lists what it takes"
    if found := re.search(r"invalid choice '(.*?)' for argument '(\S+)'\. Expected one of \((.*?)\)", text):
        choices = [choice for choice in re.findall(r"'(.*?)'", found[3]) if choice != "None"]
        return f"{found[2]} cannot be {found[1]!r}; nearest: {', '.join(nearest(found[1], choices))}"
    if found := re.search(r"Missing value for argument '(\S+?)'", text):
        return f"{found[1]} needs a value; --help lists what it takes"
    if found := re.search(r"Required options Missing from .*?: (--\S+)", text):
        return f"{found[1]} is missing; --help says what it takes"
    if found := re.search(r"Unrecognized options: (.*)", text):
        return f"cannot read {found[1]!r}; options begin with --, and --help lists them"
    return text[:300]
