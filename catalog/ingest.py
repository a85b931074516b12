"""Journals into the catalogue: live as they grow, whole when they are found finished, each run once.

What is in the catalogue is asked of the catalogue. A run there without a stop document was interrupted: it is deleted
and its journal replayed, which gives the same run whatever the moment of the interruption was.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import IO, Protocol

import httpx
from tiled.client.container import Container

from catalog.contents import delete_run, processed_container, runs_in
from catalog.errors import LunchBoxError
from catalog.journal_files import SAFE_UID, JournalTail, has_start, is_finished, list_journals
from catalog.journal_watch import JournalWatch
from catalog.layout import PROCESSED, RAW_RUN_UID
from catalog.quarantine import Quarantine
from catalog.recovery import DIED, close_dead, has_writer
from catalog.run_writer import RunWriter
from catalog.validation import RunValidator

logger = logging.getLogger(__name__)

_WRITER_CHECK_INTERVAL = 1.0  # s
_EMPTY_JOURNAL_AGE = 60.0  # s
#: How often one journal may meet an error of the server before it is put aside. Each time, the client tries for long.
_PATIENCE = 2
#: The key may not write: nothing that a run could do about it.
_REFUSED = (401, 403)


class Place(Protocol):
    """Where an ingester finds journals, and keeps what it needs: a CatalogStore, or what stands for one elsewhere."""

    @property
    def journals(self) -> Path: ...
    @property
    def quarantine(self) -> Path: ...
    @property
    def ingest_lock(self) -> Path: ...
    @property
    def arrays(self) -> Path | None:
        """Folder that the server writes arrays to, if it is on this machine."""


class IngestBusy(LunchBoxError, RuntimeError):
    """Another process ingests into this catalogue."""


class Ingester:
    """Feeds one catalogue from the journals of its data root.

    Parameters
    ----------
    root : Tiled client of the catalogue's root, with a key that may write.
    store : where the journals, the lock and the quarantine are.
    """

    def __init__(self, root: Container, store: Place, *, poll_interval: float = 0.02) -> None:
        self._root = root
        self._store = store
        self._poll_interval = poll_interval
        self._watch = JournalWatch(store.journals)
        self._quarantine = Quarantine(store.quarantine)
        self._live: dict[Path, _LiveRun] = {}
        self._processed: Container | None = None
        self._done: set[str] = set()
        self._partial: dict[str, Container] = {}
        self._refusals: Counter[Path] = Counter()
        self._stop = threading.Event()
        #: Set once every journal that was finished when ingest began is in the catalogue or in quarantine.
        self.caught_up = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Ingest until `stop` is set; waits for its turn while another process ingests."""
        self._stop = stop
        while not stop.is_set():
            try:
                with ingest_lock(self._store):
                    self.survey()
                    while not stop.is_set():
                        self.step()
                        stop.wait(self._poll_interval)
            except IngestBusy:
                if not self.caught_up.is_set() and self._is_complete():
                    self.caught_up.set()
                stop.wait(0.3)
            except Exception:
                if stop.is_set():
                    return
                logger.exception("Ingest was interrupted; it begins again from the journals.")
                self.begin_again()
                stop.wait(1.0)

    def step(self) -> None:
        """Look at the journals once."""
        for path, uid in self._watch.changed():
            if self._stop.is_set():
                return
            if uid not in self._done and path not in self._live and not self._quarantine.holds(path):
                self._begin(path, uid)
        for path in list(self._live):
            self._continue(path)
        self.caught_up.set()

    def take_in(self, path: Path, uid: str) -> None:
        """Bring in one finished journal, unless the catalogue has its run; quarantine it if that cannot be."""
        try:
            self._take_in(path, uid)
        except httpx.HTTPStatusError as error:
            if error.response.status_code in _REFUSED:
                raise
            # The server's error, or the run's: the second time, it is the run's.
            self.survey()
            self._take_in(path, uid)

    def holds(self, uid: str) -> bool:
        """Whether the catalogue has the whole run, as far as is known here."""
        return uid in self._done

    def _take_in(self, path: Path, uid: str) -> None:
        if uid not in self._done:
            self._begin(path, uid)
            if path in self._live:
                self._continue(path)

    def begin_again(self) -> None:
        """Forget what was under way: journals and catalogue know it better."""
        self._live.clear()
        self._watch = JournalWatch(self._store.journals)

    def survey(self) -> None:
        """Learn from the catalogue which runs it has whole, and which in part."""
        self._processed = processed_container(self._root)
        self._done, self._partial = set(), {}
        for container in (self._root, self._processed):
            for uid, exit_status in runs_in(container):
                if exit_status is None:
                    self._partial[uid] = container
                else:
                    self._done.add(uid)

    def _is_complete(self) -> bool:
        """Whether another process has brought in every journal: whole if its run is finished."""
        self.survey()

        def is_in(path: Path, uid: str) -> bool:
            return uid in self._done or (uid in self._partial and not is_finished(path))

        return all(
            is_in(entry.path, entry.uid) or self._quarantine.holds(entry.path) or not has_start(entry.path)
            for entry in list_journals(self._store.journals)
        )

    def _begin(self, path: Path, uid: str) -> None:
        try:
            run = _LiveRun(path, uid, self._root, self._processed_or_raise())
            if not has_start(path):
                # Its start is about to be written: look again next time. One that stays empty is of no run.
                if time.time() - path.stat().st_mtime < _EMPTY_JOURNAL_AGE:
                    self._watch.again(path)
                return
            if (container := self._partial.pop(uid, None)) is not None:
                delete_run(container, uid)
            self._delete_arrays(uid)
            if not has_writer(path):
                close_dead(path, reason=DIED)
        except Exception as error:
            self._put_aside(path, uid, error)
            return
        self._live[path] = run

    def _continue(self, path: Path) -> None:
        run = self._live[path]
        try:
            finished = run.feed(self._stop)
            if not finished and run.is_quiet() and not has_writer(path):
                close_dead(path, reason=DIED)
        except Exception as error:
            del self._live[path]
            self._put_aside(path, run.uid, error)
            return
        if finished:
            del self._live[path]
            self._done.add(run.uid)
            self._quarantine.release(path)

    def _delete_arrays(self, uid: str) -> None:
        """A server that was killed between an array's file and its node left the file, and would stumble over it."""
        if self._store.arrays is None or uid == PROCESSED or not SAFE_UID.fullmatch(uid):
            return
        for container in ("", PROCESSED):
            shutil.rmtree(self._store.arrays / container / uid, ignore_errors=True)

    def _put_aside(self, path: Path, uid: str, error: Exception) -> None:
        """Quarantine, unless the server is away: whatever a run holds, it must not keep the others out."""
        status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
        if isinstance(error, httpx.TransportError) or status in _REFUSED:
            raise error
        is_servers = status >= 500
        if is_servers:
            # Perhaps the server's fault, perhaps this run's.
            self._refusals[path] += 1
            if self._refusals[path] < _PATIENCE:
                raise error
        for container in (self._root, self._processed_or_raise()):
            delete_run(container, uid)
        self._quarantine.add(path, error, try_again=is_servers or not isinstance(error, BAD_RUN))

    def _processed_or_raise(self) -> Container:
        assert self._processed is not None, "the catalogue is surveyed before anything is ingested"
        return self._processed


#: What a bad document is known to raise, here, in event-model, in the writer, or as a refusal (4xx) of the server.
#: What else a run raises may be mended in a later version: such a run is tried again at the next start.
BAD_RUN = (LunchBoxError, ValueError, KeyError, TypeError, RuntimeError, NotImplementedError, httpx.HTTPStatusError)


class _LiveRun:
    """A journal on its way into the catalogue."""

    def __init__(self, path: Path, uid: str, root: Container, processed: Container) -> None:
        self.uid = uid
        self._tail = JournalTail(path)
        self._root = root
        self._processed = processed
        self._validator = RunValidator(uid)
        self._writer: RunWriter | None = None
        self._checked = time.monotonic()

    def feed(self, stop: threading.Event) -> bool:
        """Write what is new; True when the run is complete. What is left when `stop` is set is left to a replay."""
        is_behind = False
        for name, doc in self._tail.poll():
            if stop.is_set():
                return False
            if not self._validator.accepts(name, doc):
                continue
            if name == "start":
                container = self._processed if RAW_RUN_UID in doc else self._root
                self._writer = RunWriter(container)
            assert self._writer is not None, "the validator lets nothing pass before a start"
            self._writer(name, doc)
            self._checked = time.monotonic()
            is_behind = name != "stop"
        if is_behind and self._writer is not None:
            self._writer.flush()
        return self._tail.stopped

    def is_quiet(self) -> bool:
        """True once in a while when nothing comes: time to see whether the writer still lives."""
        if time.monotonic() - self._checked < _WRITER_CHECK_INTERVAL:
            return False
        self._checked = time.monotonic()
        return True


class ingest_lock:  # noqa: N801  a context manager, used like a function
    """Held while ingesting; IngestBusy if another process (or thread) holds it."""

    def __init__(self, store: Place) -> None:
        self._path = store.ingest_lock
        self._file: IO[str] | None = None

    def __enter__(self) -> None:
        file = self._path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise IngestBusy(f"{self._path} is held: another process ingests into this catalogue.") from None
        self._file = file

    def __exit__(self, *exc: object) -> None:
        assert self._file is not None
        self._file.close()
