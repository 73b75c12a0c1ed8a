"""Reading figures that were drawn."""

from __future__ import annotations

import re
from xml.etree import ElementTree


def parsed(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure.replace("&nbsp;", " "))


def having(figure: str, css: str) -> list[ElementTree.Element]:
    return [element for element in parsed(figure).iter() if css in element.get("class", "").split()]


def places(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.-]+) ([\d.-]+)", path)]
