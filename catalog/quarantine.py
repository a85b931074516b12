"""Journals that could not be ingested, and why: `<data_root>/catalog/quarantine/<journal>.json`."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

from catalog.store import write_private

logger = logging.getLogger(__name__)


class Quarantine:
    """Journals that are not in the catalogue, each with the reason; one that was changed is tried again.

    So is, by the next ingester, one that was perhaps refused for no fault of its own.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._since = time.time()

    def add(self, path: Path, error: Exception, *, try_again: bool = False) -> None:
        reason = f"{type(error).__name__}: {error}"
        logger.error("%s is not in the catalogue: %s", path, reason)
        note = {
            "journal": str(path),
            "reason": reason,
            "state": _state(path),
            "time": time.time(),
            "try_again": try_again,
        }
        write_private(self._note(path), json.dumps(note, indent=1))

    def holds(self, path: Path) -> bool:
        """Whether `path` is in quarantine, as it is now."""
        file = self._note(path)
        if not file.exists():
            return False
        try:
            note = json.loads(file.read_text())
        except ValueError:  # cut short by a loss of power: as if it were not there
            return False
        is_for_another_try = note["try_again"] and note["time"] < self._since
        return bool(note["state"] == _state(path) and not is_for_another_try)

    def release(self, path: Path) -> None:
        self._note(path).unlink(missing_ok=True)

    def notes(self) -> list[dict[str, Any]]:
        """What is in quarantine: `journal`, `reason`, `time` of each."""
        return [json.loads(note.read_text()) for note in sorted(self._directory.glob("*.json"))]

    def _note(self, path: Path) -> Path:
        return self._directory / f"{path.stem}.json"


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]
