"""The largest scan_id that was ever given or journalled."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from catalog.disk import cannot_write
from catalog.journal_files import list_journals
from catalog.journal_lines import JournalError, decode

_COUNTER = "scan_id"


class ScanIdCounter:
    """The largest scan_id so far, in a file of its own so that no journal need be opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / _COUNTER

    def read(self) -> int:
        try:
            return int(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return max((_scan_id(entry.path) for entry in list_journals(self._directory)), default=0)

    def raise_to(self, scan_id: int) -> None:
        """Make the next one larger than `scan_id`."""
        if not self._path.exists() or self.read() < scan_id:
            self.write(max(self.read(), scan_id))

    def write(self, scan_id: int) -> None:
        # On disk before the number is used: after a loss of power it is not given a second time.
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("w") as file:
                file.write(f"{scan_id}\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise cannot_write(self._path, error) from error


@contextlib.contextmanager
def scan_id_counter(directory: Path) -> Iterator[ScanIdCounter]:
    """The counter, while no other process or thread has it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / f"{_COUNTER}.lock").open("a")
    except OSError as error:
        raise cannot_write(directory, error) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield ScanIdCounter(directory)


def _scan_id(path: Path) -> int:
    with path.open("rb") as file:
        try:
            _, start = decode(file.readline(), where=str(path))
            return int(start.get("scan_id", 0))
        except (JournalError, TypeError, ValueError):
            return 0
