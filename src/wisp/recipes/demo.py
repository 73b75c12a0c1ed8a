"""What `wisp pretrain` trains where no method is named: SACL-XD 2x-1x with two options away from the paper's.

Each branch is decorrelated against its own embedding (no frozen passes: a quarter of the step saved) and alpha is 0.5.
At the paper's values a run of minutes leaves the sliced encoder behind the untrained one on the built-in digits
(docs/decisions.md); `wisp pretrain sacl_xd` keeps them.

Command: python -m benchmarks.receipts --recipe demo --data digits --seeds 0,1,2 --out runs/demo
"""

from __future__ import annotations

from typing import Any

from wisp.methods import sacl_xd
from wisp.recipes import Recipe

ROWS: dict[str, Any] = {"sacl_xd": sacl_xd.Config(pairs="own", alpha=0.5)}

recipe = Recipe(ROWS, {"data": "digits"})
