"""How to load what a run exported, from its cards."""

from __future__ import annotations

from wisp.export.card import onnx_lines
from wisp.report.formats import esc, number
from wisp.report.runs import RunRecord
from wisp.report.scored import Json

EXPORTED = "exported"


def loading(record: RunRecord) -> str:
    """The lines that load each network, as its card has them, and its ONNX twin; a classifier before its encoder."""

    def place(name: str) -> tuple[int, bool]:
        """Encoders in the run's order, each behind its classifier."""
        encoder = name.partition("/")[0]
        order = record.encoders.index(encoder) if encoder in record.encoders else len(record.encoders)
        return order, not _classifies(record.cards[name])

    blocks = []
    for name in sorted(record.cards, key=place):
        card = record.cards[name]
        use = ""
        if _classifies(card):
            use = ", to name classes"
        elif any(other.startswith(f"{name}/") and _classifies(record.cards[other]) for other in record.cards):
            use = ", features for kNN, search and other tasks"
        where = f'<p class="note">In <bdi><code>{EXPORTED}/{esc(name)}</code></bdi>{use}:</p>'
        lines = [[str(line) for line in card.get("load") or []], _onnx(card)]
        code = [f"<pre><code>{esc(chr(10).join(each))}</code></pre>" for each in lines if each]
        if code:
            blocks.append(f"{where}{''.join(code)}{_prepared(card)}")
    return "".join(blocks) or '<p class="empty">Nothing is exported yet; it is when the run finishes.</p>'


def _classifies(card: Json) -> bool:
    return card.get("kind") == "classifier"


def _onnx(card: Json) -> list[str]:
    """Those of the ONNX twin; none where there is no twin, or the card's own lines load it."""
    files, side = card.get("files") or {}, _side(card)
    if "onnx" not in files or side is None or str(files["onnx"]) in "".join(map(str, card.get("load") or [])):
        return []
    return onnx_lines({"kind": "encoder", **card})


def _prepared(card: Json) -> str:
    """How a classifier's images are made; who has an encoder alone has the same in its card."""
    told, side = card.get("preprocessing") or {}, _side(card)
    part = number(told.get("crop_pct"))
    if not _classifies(card) or side is None or not part:
        return ""
    short = round(side / part)
    return (
        f'<p class="note">Images: RGB, the short side at {short} pixels ({side} if it has 64 or less), of that the '
        f"middle {side} x {side}, then (x / 255 - mean) / std; mean and std stand in card.json.</p>"
    )


def _side(card: Json) -> int | None:
    side = number((card.get("preprocessing") or {}).get("image_size"))
    return None if side is None else int(side)
