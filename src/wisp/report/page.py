"""The page: one self-contained file, without scripts and without a network."""

from __future__ import annotations

from pathlib import Path

from wisp.files import write_bytes
from wisp.report import sections
from wisp.report.classes import class_section, doubtful
from wisp.report.curves import run_charts
from wisp.report.formats import esc
from wisp.report.gallery import Gallery, load_gallery
from wisp.report.information import information
from wisp.report.interference import interference
from wisp.report.loading import loading
from wisp.report.pictures import map_section, neighbour_section
from wisp.report.runs import RunRecord, read_run
from wisp.report.scored import Json
from wisp.report.style import CSS

LOGO = (
    '<svg viewBox="0 0 32 32" fill="none" stroke="var(--accent)" stroke-width="2.4" stroke-linecap="round" '
    'aria-hidden="true"><path d="M6 25c8 2 16-1 16-7s-9-6-9-1 8 5 12-1 1-12-4-12"/></svg>'
)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Belt and braces: should escaping ever fail, the browser still runs no script and fetches nothing."""
SETTINGS_NOTE = '<p class="note">What shows – was left to the method\'s paper; “resolved” is what was used.</p>'
NO_PICTURES = '<p class="empty">No images were kept with this run.</p>'


def write_report(run_folder: Path, gallery: Gallery | None, out: Path, result: Json | None = None) -> Path:
    """Writes the report of one run, finished or not, as one HTML file.

    Args:
        run_folder: what `wisp pretrain` made.
        gallery: held-out images and features; None takes the run's own `gallery.npz`, if it has one.
        out: the file to write, atomically.
        result: the receipt, where `result.json` is yet to be written.

    Raises:
        WispError: not a run folder, or a file in it that cannot be read.
    """
    record = read_run(run_folder, result)
    stored = run_folder / "gallery.npz"
    if gallery is None and stored.is_file():
        gallery = load_gallery(stored)
    return write_page(out, sections.title(record), record.name, _body(record, gallery, out.parent))


def write_page(out: Path, title: str, name: str, body: str) -> Path:
    """Puts `body` (HTML) into the skeleton and the file in its place."""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<title>{esc(title)}</title><link rel="icon" href="data:,"><style>{CSS}</style></head>\n'
        f'<body><main><header class="brand">{LOGO}<b>wisp</b><bdi>{esc(name)}</bdi></header>\n'
        f"{body}\n</main></body></html>\n"
    )
    write_bytes(out, text.encode("utf-8"))
    return out


def section(name: str, heading: str, body: str) -> str:
    """One titled part of the page."""
    return f'<section id="{name}"><h2>{esc(heading)}</h2>{body}</section>\n'


def _body(record: RunRecord, gallery: Gallery | None, page_folder: Path) -> str:
    result, diagnosis = record.result or {}, record.diagnosis or {}
    curves = run_charts(record)
    drawn = (
        f'<div class="charts">{"".join(curves)}</div>' if curves else '<p class="empty">No step was recorded yet.</p>'
    )
    extra = {key: result[key] for key in ("protocol", "resolved", "budget") if result.get(key)}
    parts = [
        sections.headline(record),
        sections.warning(record),
        doubtful(record),
        sections.scores(record),
        sections.facts(record),
        section("classes", "Class by class", each) if (each := class_section(record)) else "",
        section("neighbours", "What it finds alike", neighbour_section(gallery) if gallery else NO_PICTURES),
        section("map", "Its map of the images", map_section(gallery)) if gallery else "",
        section("curves", "How it learned", drawn),
        section("encoders", "The encoders", sections.encoders(record)) if record.encoders else "",
        section("interference", "Gradients and weights", shared) if (shared := interference(diagnosis)) else "",
        section("information", "Information plane", plane) if (plane := information(diagnosis)) else "",
        section("cost", "What it cost", sections.cost(record)),
        section("load", "Take it with you", loading(record)),
        section("files", "Files", sections.files(record, page_folder)),
        section("settings", "Every setting", SETTINGS_NOTE + sections.settings({**record.run, **extra})),
        section("environment", "Environment", sections.settings(record.env)),
        f"<footer>{_colophon(result)}</footer>",
    ]
    return "".join(parts)


def _colophon(result: dict[str, object]) -> str:
    parts = [
        f"{name} {result[key]}" for key, name in (("finished", "Finished"), ("commit", "commit")) if result.get(key)
    ]
    return esc(" · ".join(["Made by wisp. The weights are yours.", *parts]))
