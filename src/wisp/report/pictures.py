"""The two sections made of images: who is near whom, and the map."""

from __future__ import annotations

import base64
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from wisp.report.formats import esc, percent
from wisp.report.gallery import MOST, Gallery, agreement, cells, encode, neighbours, plane, queries

NEIGHBOUR_SIDE = 88
MAP_SIDE = 44
MAP_COLOURS = 12
"""More classes than this cannot be told apart by colour; they are told by hovering."""
COLLAPSED = "The features of all images point the same way (or are not finite), so that none is nearer than another."
TOO_FEW = "Too few images."


def neighbour_section(gallery: Gallery) -> str:
    """Query images, each with its six nearest among the other held-out images."""
    found = neighbours(gallery.features)
    if found is None:
        return f'<p class="empty">{COLLAPSED if len(gallery) > 1 else TOO_FEW}</p>'
    asked = queries(gallery.labels, len(gallery))
    uris = {int(i): data_uri(gallery.images[i], NEIGHBOUR_SIDE) for q in asked for i in [q, *found.indices[q]]}
    digits = 2 if found.similarity[asked].min() < 0.98 else 3  # features behind a ReLU share a direction
    rows = []
    for query in asked:
        near = found.indices[query]
        label = gallery.label(query)
        name = f"<b><bdi>{esc(label)}</bdi></b> " if label is not None else ""
        pictures = [f'<p class="asked">{name}<bdi>{esc(gallery.names[query])}</bdi></p>']
        pictures.append(_picture(gallery, uris, query, "query", ""))
        for index, similarity in zip(near.tolist(), found.similarity[query].tolist(), strict=True):
            mark = ""
            if gallery.labels is not None:
                mark = "same" if gallery.labels[index] == gallery.labels[query] else "other"
            pictures.append(_picture(gallery, uris, index, mark, f"{similarity:.{digits}f}"))
        rows.append(f'<div class="row">{"".join(pictures)}</div>')
    kind = "a held-out" if gallery.held_out else "a training"
    note = f"Left: {kind} image. Right: its nearest among the others, with cosine similarity. Drawn at random."
    if gallery.labels is not None:
        share = percent(agreement(found, gallery.labels))
        note = (
            f"Left: {kind} image. Right: its nearest among the others, with cosine similarity; "
            f'<b class="same-word">✓</b> has the same label, <b class="other-word">✕</b> another. Drawn at random, '
            f"class by class. Over all {len(gallery):,} images <b>{share}</b> of such neighbours agree."
        )
    return f'<p class="note">{note}</p><div class="rows{_pixelated(gallery)}">{"".join(rows)}</div>'


def map_section(gallery: Gallery) -> str:
    """Every image at its place on a flat map of the embedding."""
    shown = gallery
    if len(gallery) > MOST:
        shown = gallery.subset(np.linspace(0, len(gallery) - 1, MOST).round().astype(np.intp))
    places = plane(shown.features)
    if places is None:
        return f'<p class="empty">{COLLAPSED if len(shown) >= 8 else TOO_FEW}</p>'
    where = cells(places)
    columns, rows = (int(last) + 1 for last in where.max(axis=0))
    colours = _colours(shown)
    pictures = []
    for index, (column, row) in enumerate(where.tolist()):
        colour = f"m{colours[label]}" if (label := shown.label(index)) in colours else "plain"
        pictures.append(
            f'<img class="{colour}" style="left:{100 * column / columns:.2f}%;top:{100 * row / rows:.2f}%" '
            f'src="{data_uri(shown.images[index], MAP_SIDE)}" alt="" title="{esc(_caption(shown, index))}">'
        )
    counts = Counter(shown.label(index) for index in range(len(shown)))
    legend = "".join(
        f'<li class="m{colour}"><i></i><bdi>{esc(label)}</bdi> <b>{counts[label]}</b></li>'
        for label, colour in colours.items()
    )
    kind = "held-out" if shown.held_out else "training"
    note = (
        f"{len(shown):,} {kind} images; those that the encoder finds alike lie together (t-SNE, each picture then "
        "moved to the nearest free cell). Distances between far islands mean little."
    )
    legend = f'<ul class="legend">{legend}</ul>' if legend else ""
    return (
        f'<p class="note">{note}</p>{legend}<div class="map{_pixelated(shown)}" role="img" '
        f'aria-label="Map of the embedding" style="--cell:{100 / columns:.3f}%;aspect-ratio:{columns}/{rows}">'
        f"{''.join(pictures)}</div>"
    )


def data_uri(image: NDArray[np.uint8], side: int) -> str:
    """An image uint8 [3,H,W] as a `data:` URI."""
    data = encode(image, side)
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _colours(gallery: Gallery) -> dict[str, int]:
    """Label -> colour, in the order of the class numbers; empty when there are too many to tell apart."""
    if gallery.labels is None:
        return {}
    labels, first = np.unique(gallery.labels, return_index=True)
    if len(labels) > MAP_COLOURS:
        return {}
    return {str(gallery.label(int(index))): colour for colour, index in enumerate(first)}


def _caption(gallery: Gallery, index: int) -> str:
    label = gallery.label(index)
    return gallery.names[index] if label is None else f"{label} · {gallery.names[index]}"


def _picture(gallery: Gallery, uris: dict[int, str], index: int, kind: str, below: str) -> str:
    caption = esc(_caption(gallery, index))
    sign = {"same": "<b>✓</b>", "other": "<b>✕</b>"}.get(kind, "")
    return (
        f'<figure class="near {kind}"><img src="{uris[index]}" alt="{caption}" title="{caption}">'
        f"<figcaption>{sign}{below}</figcaption></figure>"
    )


def _pixelated(gallery: Gallery) -> str:
    """Images of a few pixels look sharper as squares than as a blur."""
    return " pixelated" if gallery.images.shape[-1] <= 32 else ""
