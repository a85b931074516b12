"""Which journals are new, without looking at all of them each time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from catalog.journal_files import list_folder, uid_of
from catalog.layout import date_folder

_FULL_LOOK_INTERVAL = 2.0  # s
_MTIME_GRAIN = 2.0  # s, coarser than the time stamps of any file system that is likely


class JournalWatch:
    """Finds journals that appeared since the last look.

    Runs begin in today's folder, which is looked at each time; the others every few seconds, and listed only if
    their time stamp moved.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._listed: dict[Path, float] = {}
        self._known: set[Path] = set()
        self._next_full_look = 0.0

    def changed(self) -> Iterator[tuple[Path, str]]:
        """(path, uid) of each journal that is new, oldest run first."""
        for folder in self._folders():
            try:
                modified = folder.stat().st_mtime
            except FileNotFoundError:
                continue
            if self._listed.get(folder) == modified:
                continue
            # A folder that was touched just now may be touched again within the same tick of its clock.
            self._listed[folder] = modified if time.time() - modified > _MTIME_GRAIN else -1.0
            for path in list_folder(folder):
                if path not in self._known:
                    self._known.add(path)
                    yield path, uid_of(path)

    def again(self, path: Path) -> None:
        """Report `path` once more at the next look."""
        self._known.discard(path)
        self._listed.pop(path.parent, None)

    def _folders(self) -> list[Path]:
        now = time.time()
        if now < self._next_full_look:
            return [self._directory / date_folder(now)]
        self._next_full_look = now + _FULL_LOOK_INTERVAL
        return sorted(
            Path(day)
            for year in _subfolders(self._directory)
            for month in _subfolders(year)
            for day in _subfolders(month)
        )


def _subfolders(folder: str | Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.isdigit() and entry.is_dir()]
    except FileNotFoundError:
        return []
