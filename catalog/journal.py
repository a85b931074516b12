"""One JSON-lines file per run, on disk before the RunEngine goes on: with the frames, the truth.

The form is suitcase-jsonl's, ``["name", document]`` on each line. `catalog.journal_files` reads what is written here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
from suitcase.utils import MultiFileManager

from catalog.disk import Reserve, cannot_write, fsync_folder
from catalog.journal_files import SAFE_UID, JournalEntry, file_name, list_journals, read_journal
from catalog.journal_lines import JournalError, encode, identity
from catalog.layout import date_folder
from catalog.scan_id import scan_id_counter

__all__ = ["Journal", "JournalEntry", "JournalError", "list_journals", "read_journal"]

# They say nothing before an event names them, and that event's fdatasync puts them on the disk with it.
_SYNCED_BY_EVENT = {"resource", "datum", "datum_page"}


class Journal:
    """Writes every document to its run's file before it returns: subscribe it to the RunEngine first.

    ::

        journal = Journal(data_root / "journal")
        RE = RunEngine(scan_id_source=journal.next_scan_id)
        RE.subscribe(journal)

    Runs may be interleaved. With `fsync` (the default) a document that was accepted survives a loss of power, else
    only a crash of the process.
    """

    def __init__(self, directory: str | os.PathLike[str], *, fsync: bool = True) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self.fsync = fsync
        self._reserve = Reserve(self.directory / ".reserve")
        self._open: dict[str, _RunFile] = {}
        self._owner: dict[str, str] = {}  # uid of a descriptor or a resource -> uid of its run
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"Journal({str(self.directory)!r}, fsync={self.fsync})"

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        name = str(getattr(name, "name", name))
        line = encode(name, doc)
        with self._lock:
            if name == "start":
                self._begin(doc, line)
                return
            uid = self._run_of(name, doc)
            try:
                self._write(self._open[uid], name, line)
            finally:
                # After a stop the lock must go even if the disk is full: recovery can then close the run.
                if name == "stop":
                    self._end(uid)

    def close(self) -> None:
        """Let go of runs without a stop document; whoever ingests them will close them as aborted."""
        with self._lock:
            for uid in list(self._open):
                self._end(uid)

    def next_scan_id(self, md: Mapping[str, Any] | None = None) -> int:
        """One more than the largest scan_id that was ever given or journalled here; never the same twice.

        `md` is what the RunEngine passes to a `scan_id_source`; it is not looked at.
        """
        with scan_id_counter(self.directory) as counter:
            scan_id = counter.read() + 1
            counter.write(scan_id)
        return scan_id

    def _begin(self, start: Mapping[str, Any], line: bytes) -> None:
        uid, began = start.get("uid", ""), start.get("time")
        if not isinstance(began, int | float) or not 0 <= began < 1e11:
            raise JournalError(f"run {uid} starts at time {began!r}; it must be in seconds since the epoch.")
        if not SAFE_UID.fullmatch(uid):
            raise JournalError(f"uid {uid!r} cannot be the name of a journal; use letters, digits, '-', '_', '.'.")
        if uid in self._open:
            raise JournalError(f"run {uid} was started twice; a uid names one run.")
        self._reserve.keep()
        self._open[uid] = _RunFile(self.directory, start, line, fsync=self.fsync)
        scan_id = start.get("scan_id")
        if isinstance(scan_id, int | np.integer):
            with scan_id_counter(self.directory) as counter:
                counter.raise_to(int(scan_id))

    def _write(self, file: _RunFile, name: str, line: bytes) -> None:
        try:
            file.write(line, sync=name not in _SYNCED_BY_EVENT)
        except OSError:
            if name != "stop":
                raise
            # The disk is full, and this is what room was kept for.
            self._reserve.give_up()
            file.write(line, sync=True)

    def _end(self, uid: str) -> None:
        self._open.pop(uid).close()
        self._owner = {key: run for key, run in self._owner.items() if run != uid}

    def _run_of(self, name: str, doc: Mapping[str, Any]) -> str:
        if name in {"datum", "datum_page"}:
            key = self._owner.get(doc["resource"])
        elif name in {"event", "event_page", "stream_datum"}:
            key = self._owner.get(doc["descriptor"])
        else:
            key = doc.get("run_start")
            if key is None and len(self._open) == 1:
                # Resources composed without a run belong to the one run that is open.
                key = next(iter(self._open))
        if key not in self._open:
            raise JournalError(f"{name} document {identity(doc)} belongs to no run that was started here.")
        if name in {"descriptor", "resource", "stream_resource"}:
            self._owner[doc["uid"]] = key
        return str(key)


class _RunFile:
    """One run's file: open, locked, append only."""

    def __init__(self, directory: Path, start: Mapping[str, Any], line: bytes, *, fsync: bool) -> None:
        name = f"{date_folder(start['time'])}/{file_name(start)}"
        self._fsync = fsync
        self.path = directory / name
        try:
            # Suitcase's manager makes the folders and refuses to overwrite.
            self._file: IO[bytes] = MultiFileManager(directory).open("run", name, "xb")
        except FileExistsError:
            raise JournalError(f"{self.path} exists already: run {start['uid']} was journalled before.") from None
        except OSError as error:
            raise cannot_write(directory, error) from error
        # The lock is taken before the start is written: a journal that has a start and no stop is locked or dead.
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self.write(line, sync=True)
        except OSError:
            self.path.unlink()
            self.close()
            raise
        if fsync:
            for folder in (self.path.parent, *self.path.parent.parents):
                fsync_folder(folder)
                if folder == directory:
                    break

    def write(self, line: bytes, *, sync: bool) -> None:
        descriptor = self._file.fileno()
        size = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            if sync and self._fsync:
                os.fdatasync(descriptor)
        except OSError as error:
            # A line is there whole or not at all; what follows it must not be glued to its first half.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
                os.lseek(descriptor, size, os.SEEK_SET)  # or the next line follows a hole
            raise cannot_write(self.path, error) from error

    def close(self) -> None:
        self._file.close()
