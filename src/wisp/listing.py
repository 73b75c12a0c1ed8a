"""What `wisp list` says; imports no torch."""

from __future__ import annotations

from collections.abc import Callable

from wisp import methods


def _methods() -> list[str]:
    titles = {name: methods.titled(name) for name in methods.names()}
    width = max(map(len, titles.values()))
    lines = []
    for name, title in titles.items():
        about = methods.about(name)
        lines.append(f"{title:<{width}}  {about.summary.partition(': ')[2] or about.summary}")
        lines += [f"{'':<{width}}    {line}" for line in (about.paper, f"cost: {about.cost}", f"use: {about.use}")]
    return lines


def _encoders() -> list[str]:
    from wisp.encoders.tested import TESTED, UNSLICED

    lines = [f"{name:<24}{size:>6.2f} M  {note}" for name, (size, note) in (TESTED | UNSLICED).items()]
    return [
        *lines,
        "",
        "Any other timm name works for the dense methods; sacl_xd, slimclr and slimmable say what they cannot slice.",
    ]


def _data() -> list[str]:
    from wisp.data.catalogue import NAMED

    return [
        "digits            1,797 handwritten digits, built in; needs no network",
        "FOLDER            images at any depth; sub-folders that hold all images directly are classes",
        "FILE.parquet      or a folder of them: image{bytes,path}, label (Hugging Face style)",
        "SHARDS.tar        webdataset style: key.jpg with an optional key.cls or key.json",
        "",
        "By name, in any case; downloaded when absent, or one line says what to put where. Training + test images:",
        *(f"{name:<18}{known.about}" for name, known in NAMED.items()),
    ]


LISTS: dict[str, Callable[[], list[str]]] = {"methods": _methods, "encoders": _encoders, "data": _data}
"""Word -> the lines that answer it."""
