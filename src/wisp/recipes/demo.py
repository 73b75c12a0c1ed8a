"""What `wisp pretrain` trains where no method is named: SACL-XD 2x-1x with two options away from the paper's.

Each branch is decorrelated against its own embedding (no frozen passes: a quarter of the step saved) and alpha is 0.5.
At the paper's values a run of minutes leaves the sliced encoder behind the untrained one on the built-in digits
(docs/decisions.md); `wisp pretrain sacl_xd` keeps them.

Command: python -m benchmarks.receipts --recipe demo --data digits --seeds 0,1,2 --out runs/demo
"""

from __future__ import annotations

from typing import Any

from wisp.methods import sacl_xd
from wisp.recipes import settings_of
from wisp.run import Run

ROWS: dict[str, Any] = {"sacl_xd": sacl_xd.Config(pairs="own", alpha=0.5)}


def recipe(
    row: str = "sacl_xd", *, data: str = "digits", val: str | None = None, epochs: int | None = None, seed: int = 0
) -> Run[Any]:
    """The demonstration.

    Args:
        row: a key of `ROWS`.
        data: images; the built-in digits unless given.
        val: labelled images for evaluation.
        epochs: the data's own unless given.
        seed: of weights, order and views.

    Raises:
        WispError: no such row.
    """
    return Run(data=data, val=val, epochs=epochs, seed=seed, method=settings_of(row, ROWS))
