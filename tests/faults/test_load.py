"""Benches that record and readers that read at one server: nothing is lost, and nobody gets an error of the server's.

`python -m benchmarks load` is the same with thirty benches and fifty readers, and tells what a scan beside it feels.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.load import PERIOD, load

BENCHES, READERS, SECONDS = 4, 6, 10.0


def test_what_is_recorded_is_in_the_catalogue_and_what_is_asked_is_answered(tmp_path: Path) -> None:
    found = load(tmp_path / "data", benches=BENCHES, readers=READERS, seconds=SECONDS)
    assert (found.runs, found.points) == (BENCHES, BENCHES * SECONDS / PERIOD)
    assert found.lost == []
    assert found.failures == 0, found.answers
    assert found.answers[200] > READERS
    assert set(found.answers) <= {200, 404}, found.answers  # what a run that began has no part of yet is not there
