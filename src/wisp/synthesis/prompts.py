"""What a text-to-image model is asked for: the paper's prompts, and class names as a person would say them."""

from __future__ import annotations

import re

from wisp.errors import WispError, nearest

PLACE = "{class}"
"""Where the name of a class stands in a prompt."""
PRESETS = {
    "caltech-101": "a picture of a {class}",
    "dtd": "{class} texture",
    "mit-67": "the inside of a {class}",
}
"""The prompts of the A/U paper (Farhat and Chen, appendix A.3, Table 7), by the data set that they were written for."""


def template(prompt: str) -> str:
    """The prompt that `prompt` stands for: a preset's, or itself.

    Raises:
        WispError: neither a preset nor a text with `{class}` in it.
    """
    preset = prompt.strip().lower().replace("_", "-").replace(" ", "-")
    found = PRESETS.get(preset, prompt)
    if PLACE not in found:
        close = nearest(preset, PRESETS, n=1)[0]
        raise WispError(
            f'the prompt "{prompt}" has no {PLACE}: write it where the name of the class goes, as in '
            f'"{PRESETS["caltech-101"]}", or name one of the paper\'s, such as {close}'
        )
    return found


def readable(name: str) -> str:
    """A class name without what only sorts or joins: `012.Yellow_billed_cuckoo` is `Yellow billed cuckoo`."""
    return " ".join(re.sub(r"^\d+[._-](?=.*[^\W\d])", "", name).replace("_", " ").replace("/", " ").split())


def filled(template: str, name: str) -> str:
    """The prompt for the class `name`; other braces stay as they are."""
    return template.replace(PLACE, readable(name))
