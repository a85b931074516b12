"""What a check of `lunchbox doctor` finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

#: `broken` makes the command fail; a `warning` is what may become, or explain, a fault.
Status = Literal["ok", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    status: Status
    found: str
    remedy: str = ""


Findings = Iterator[Finding]
