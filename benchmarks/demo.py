"""Seconds of `lunchbox demo`, by stage."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.table import Row

GOAL = 40.0  # s, on two cores


def rows() -> Iterator[Row]:
    """Run the demo once, as a user does."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "lunchbox", "demo", "--json", "--data-root", folder],
            check=True,
            capture_output=True,
            text=True,
        )
    for stage, took in json.loads(done.stdout)["seconds"].items():
        goal = GOAL if stage == "total" else None
        yield Row(f"lunchbox demo: {stage}", "s", took, "goal" if goal else "", goal)
