"""Learning rate as a function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class WarmupCosine:
    """Linear growth over `warmup` steps, then half a cosine down to 0 after `steps` steps."""

    lr: float
    steps: int
    warmup: int

    def at(self, step: int) -> float:
        """Learning rate of step 0, 1, ...; above 0 from the first step on (LARS divides by it)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))
