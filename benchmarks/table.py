"""One measurement, and the table of all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Ours against a peer or a floor, in the same unit, measured in the same run."""

    what: str
    unit: str
    ours: float
    against: str = ""
    theirs: float | None = None

    @property
    def ratio(self) -> float | None:
        """Ours over theirs; below 1 is better where the unit is a time."""
        return self.ours / self.theirs if self.theirs else None


def seconds(function: Callable[[], object], *, repeat: int = 3, before: Callable[[], object] = lambda: None) -> float:
    """The best of `repeat` runs: the machine is noisy, and noise only adds. `before` each of them is not counted."""
    best = float("inf")
    for _ in range(repeat):
        before()
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best
