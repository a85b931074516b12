"""The catalogue made again from journals and frames, beside the one that is read until it is complete.

One in PostgreSQL is filled where it is: runs that it has stay. In new, empty databases that is all of it.

Runs are planned by TiledWriter's code and put into the database by `catalog.bulk`; what that cannot take in, or all of
them if it refuses, is taken in by a server, as ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from catalog.errors import LunchBoxError
from catalog.generations import begin_next, make_current, remove_unused
from catalog.indexes import index_tables, tables_connection
from catalog.ingest import IngestBusy, Ingester, ingest_lock
from catalog.journal_files import JournalEntry, list_journals, read_journal
from catalog.journal_lines import JournalError
from catalog.keys import without_password
from catalog.quarantine import Quarantine
from catalog.recovery import is_over
from catalog.store import CatalogStore
from catalog.validation import BadDocument

logger = logging.getLogger(__name__)

_CHUNK = 50  # runs that are planned, and then written at once


class RebuildBusy(LunchBoxError, RuntimeError):
    """Another process rebuilds this catalogue, or ingests into the database that is to be filled."""


@dataclass(frozen=True)
class Rebuilt:
    """What `rebuild` did."""

    runs: int
    by_server: int
    there_before: int
    in_progress: int
    quarantined: int
    seconds: float
    catalogue: str
    still_read: tuple[str, ...]

    @property
    def runs_per_second(self) -> float:
        return (self.runs - self.there_before) / self.seconds


def rebuild(
    settings: Any,
    *,
    bulk: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Rebuilt:
    """Make the catalogue of `settings.data_root` again; it takes the place of the old one when it is complete.

    Interrupted, it goes on where it was. Runs in progress are left to whoever ingests. If its database is PostgreSQL
    (`server.catalog_uri`), runs that are there stay, and those that are not are put in.

    Parameters
    ----------
    settings : configuration with `data_root`, `root_map`, `server`.
    bulk : write to the database directly where that is safe; False goes by a server, for every run.
    progress : called with (journals done, journals).

    Raises
    ------
    RebuildBusy
        Another process is at it.
    """
    store = CatalogStore.of(settings)
    store.directory.mkdir(parents=True, exist_ok=True)
    with _rebuild_lock(store):
        began = time.monotonic()
        with _to_be_filled(store) as new:
            work = _Rebuild(settings, new, progress=progress)
            with contextlib.closing(work):
                if bulk:
                    work.by_bulk()
                work.by_server()
            _finish(new)
        return Rebuilt(
            runs=len(work.done),
            by_server=work.num_by_server,
            there_before=work.there_before,
            in_progress=work.in_progress,
            quarantined=work.quarantined,
            seconds=time.monotonic() - began,
            catalogue=without_password(uri) if (uri := new.databases.get("catalog")) else str(new.database),
            still_read=tuple(remove_unused(store)),
        )


class _Rebuild:
    """One pass over the journals, in the order in which the runs began, which is that of the catalogue."""

    def __init__(self, settings: Any, new: CatalogStore, *, progress: Callable[[int, int], None]) -> None:
        self._settings = settings
        self._new = new
        self._progress = progress
        self._quarantine = Quarantine(new.quarantine)
        self._server = contextlib.ExitStack()
        self._ingester: Ingester | None = None
        self._entries = list_journals(new.journals)
        self._looked_at: set[str] = set()
        self.done: set[str] = set()
        self.there_before = self.in_progress = self.quarantined = self.num_by_server = 0

    def close(self) -> None:
        self._server.close()

    def by_bulk(self) -> None:
        """Take in what can be planned; a run that cannot is given to a server in its turn."""
        try:
            # All that depends on the version of Tiled is in there.
            from catalog.bulk import BulkRefused, BulkWriter

            writer = BulkWriter(catalog=self._new.catalog_uri, tables=self._new.tables_uri, arrays=self._new.arrays)
        except (ImportError, AttributeError) as error:
            logger.warning("the catalogue is rebuilt by a server, which takes longer: %s", error)
            return
        try:
            with writer:
                self._write(writer)
        except BulkRefused as error:
            logger.warning("the catalogue is rebuilt by a server, which takes longer: %s", error)

    def by_server(self) -> None:
        """Take in what is left."""
        for entry in self._entries:
            if entry.uid not in self._looked_at and self._is_finished(entry):
                self._take_in(entry)

    def _write(self, writer: Any) -> None:
        states = writer.states()
        self.done = {entry.uid for entry in self._entries if states.get(entry.uid) is not None}
        self.there_before = len(self.done)
        self._looked_at |= self.done
        # What is there in part is left to a server, which deletes it first.
        ready = (entry for entry in self._entries if entry.uid not in states and self._is_finished(entry))
        for chunk in _chunks(ready):
            self._write_chunk(writer, chunk)

    def _write_chunk(self, writer: Any, entries: Sequence[JournalEntry]) -> None:
        from catalog.blueprint import plan_run

        waiting: list[tuple[JournalEntry, Any]] = []
        for entry in entries:
            try:
                waiting.append((entry, plan_run(entry.uid, read_journal(entry.path))))
            except (BadDocument, JournalError) as error:
                self._put_aside(entry, error)
            except Exception:
                # Perhaps a server can; and the catalogue's order is that of the runs.
                self._flush(writer, waiting)
                self._take_in(entry)
        self._flush(writer, waiting)

    def _flush(self, writer: Any, waiting: list[tuple[JournalEntry, Any]]) -> None:
        if not waiting:
            return
        try:
            writer.write([plan for _, plan in waiting])
        except Exception as error:
            # One that cannot be stored, perhaps: a server tells which, and why.
            logger.warning("%d runs are taken in by a server: %s", len(waiting), error)
            for entry, _ in waiting:
                self._take_in(entry)
        else:
            for entry, _ in waiting:
                self._is_in(entry)
        waiting.clear()

    def _take_in(self, entry: JournalEntry) -> None:
        ingester = self._ingester or self._start_server()
        if ingester.holds(entry.uid):
            self.there_before += 1
            self._is_in(entry)
            return
        ingester.take_in(entry.path, entry.uid)
        if self._quarantine.holds(entry.path):
            self.quarantined += 1
            self._looked_at.add(entry.uid)
        else:
            self.num_by_server += 1
            self._is_in(entry)

    def _start_server(self) -> Ingester:
        from tiled.client import from_uri

        from catalog.server import Server

        server = self._server.enter_context(Server(self._settings, host="127.0.0.1", port=0, store=self._new))
        root = from_uri(server.uri, api_key=server.api_key, trust_env=False)
        self._server.callback(root.context.close)
        self._ingester = Ingester(root, self._new)
        self._ingester.survey()
        return self._ingester

    def _put_aside(self, entry: JournalEntry, error: Exception) -> None:
        self._quarantine.add(entry.path, error)
        self.quarantined += 1
        self._looked_at.add(entry.uid)

    def _is_in(self, entry: JournalEntry) -> None:
        self._quarantine.release(entry.path)
        self._looked_at.add(entry.uid)
        self.done.add(entry.uid)
        self._progress(len(self._looked_at), len(self._entries))

    def _is_finished(self, entry: JournalEntry) -> bool:
        """Whether the journal is as long as it will ever be; one whose writer died is closed here."""
        try:
            if is_over(entry.path):
                return True
        except JournalError as error:
            self._put_aside(entry, error)
            return False
        self.in_progress += 1
        self._looked_at.add(entry.uid)
        return False


def _finish(new: CatalogStore) -> None:
    """Tell the planner of queries what is in the tables, and leave nothing in the write-ahead logs."""
    index_tables(new.tables_uri)
    for uri in (new.tables_uri, new.catalog_uri):
        with tables_connection(uri) as cursor:
            if uri.startswith("sqlite:"):
                cursor.execute("ANALYZE")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            else:
                # So that the runs, which each page of them counts, are counted by the index alone.
                cursor.execute("VACUUM ANALYZE")


def _chunks(entries: Iterator[JournalEntry]) -> Iterator[list[JournalEntry]]:
    while chunk := list(islice(entries, _CHUNK)):
        yield chunk


@contextlib.contextmanager
def _to_be_filled(store: CatalogStore) -> Iterator[CatalogStore]:
    """The next generation, which is current when it is complete; or the catalogue in PostgreSQL, if nobody fills it."""
    if "catalog" not in store.databases:
        new = begin_next(store)
        new.create()
        yield new
        make_current(new)
        return
    store.create()
    try:
        with ingest_lock(store):
            yield store.pinned()
    except IngestBusy as error:
        raise RebuildBusy(
            f"a server ingests into {without_password(store.catalog_uri)}, and needs no help: it takes in every "
            f"journal. To have it done faster, stop `lunchbox serve` first."
        ) from error


@contextlib.contextmanager
def _rebuild_lock(store: CatalogStore) -> Iterator[None]:
    with (store.directory / "rebuild.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RebuildBusy(f"{store.directory} is being rebuilt by another process; wait for it.") from None
        yield
