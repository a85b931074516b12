"""A file that claims, or inflates to, more than its frames have is refused before it takes the memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from traps import BOMBS, INFLATED

READ = """
import resource, sys
sys.path[:0] = {path!r}
from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler
import hdf5plugin
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
handler = LunchBoxHDF5Handler(sys.argv[1], dataset="data")
before = peak()
try:
    handler(frame=0)
except FrameIntegrityError as error:
    print(peak() - before, error)
"""


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_stays_flat(tmp_path: Path, bomb: Callable[[Path], None]) -> None:
    path = tmp_path / "bomb.h5"
    bomb(path)
    assert path.stat().st_size < INFLATED / 100
    command = [sys.executable, "-c", READ.format(path=sys.path), str(path)]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    grown, _, message = answer.stdout.partition(" ")
    assert "frame 0" in message
    assert int(grown) < INFLATED / 20
