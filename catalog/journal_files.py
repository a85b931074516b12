"""Journals as files: which there are, in which order, and what they say.

::

    journal/2026/11/22/061530.123456-1f0c...e2.jsonl
        ["start", {...}]
        ["descriptor", {...}]
        ...
        ["stop", {...}]
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from catalog.journal_lines import JournalError, decode

SUFFIX = ".jsonl"
#: uids that can be the name of a file, and of nothing above it.
SAFE_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")

_TAIL_BYTES = 1 << 16  # more than a stop document has


def file_name(start: Mapping[str, Any]) -> str:
    # The time leads, so that sorting names sorts runs by their start without opening a file.
    moment = time.gmtime(start["time"])
    microseconds = int(start["time"] % 1 * 1e6)
    return f"{time.strftime('%H%M%S', moment)}.{microseconds:06d}-{start['uid']}{SUFFIX}"


def read_journal(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Documents of a journal, in order. A last line that was torn by a crash is left out; any other is an error."""
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{os.fspath(path)}, line {number}"
            if line.endswith(b"\n"):
                yield decode(line, where=where)
            else:
                # Never acknowledged, unless it is whole: then only its line feed is missing.
                with contextlib.suppress(JournalError):
                    yield decode(line, where=where)


class JournalEntry(NamedTuple):
    """A journal as its name tells, unopened."""

    path: Path
    uid: str


def list_journals(directory: str | os.PathLike[str]) -> list[JournalEntry]:
    """Every journal below `directory`, in the order in which the runs started."""
    folders = sorted(Path(directory).glob("[0-9]*/[0-9]*/[0-9]*"))
    return [JournalEntry(path, uid_of(path)) for folder in folders for path in list_folder(folder)]


def list_folder(folder: Path) -> list[Path]:
    """Journals of one day, in the order in which the runs started."""
    # An editor leaves hidden files, and links that lead nowhere, beside what it edits.
    return sorted(
        path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".") and path.is_file()
    )


def uid_of(path: Path) -> str:
    """uid of the run whose journal this is, from its name."""
    return path.stem.split("-", 1)[-1]


def has_start(path: Path) -> bool:
    """Whether the first line is whole; one that is not was never acknowledged, and is of no run."""
    with path.open("rb") as file:
        return file.readline().endswith(b"\n")


def is_finished(path: Path) -> bool:
    """Whether the last line of a journal is its run's stop, without reading the rest."""
    with path.open("rb") as file:
        file.seek(-min(_TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        return file.read().rstrip(b"\n").rpartition(b"\n")[2].startswith(b'["stop", ')


class JournalTail:
    """Follows a journal that may be growing.

    ::

        tail = JournalTail(path)
        while not tail.stopped:
            for name, doc in tail.poll():
                ...
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stopped = False
        self._offset = 0
        self._lines = 0

    def poll(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Documents whose lines were completed since the last call."""
        try:
            if self.path.stat().st_size <= self._offset:
                return
            with self.path.open("rb") as file:
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    self._offset += len(line)
                    self._lines += 1
                    name, doc = decode(line, where=f"{self.path}, line {self._lines}")
                    self.stopped = self.stopped or name == "stop"
                    yield name, doc
        except FileNotFoundError:
            raise JournalError(f"{self.path} was removed while it was being read.") from None
