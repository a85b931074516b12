"""A run as its journal and its files have it: no server, no catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import event_model
import numpy as np
from numpy.typing import NDArray

from catalog.errors import LunchBoxError
from catalog.handlers import handler_for, use_handlers
from catalog.journal_files import JournalEntry, has_start, list_journals, read_journal
from catalog.layout import JOURNAL_DIR, RAW_RUN_UID
from catalog.paths import FrameRoots


class NotRecorded(LunchBoxError, KeyError):
    """No journal, or more than one, is of the run that was asked for."""


@dataclass(frozen=True)
class Stream:
    """Events of one stream, in order.

    data_keys : of its first descriptor.
    events : each with `seq_num`, `time`, `data`; an external value is the id of a datum.
    """

    name: str
    data_keys: dict[str, dict[str, Any]]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def external(self) -> list[str]:
        return [key for key, data_key in self.data_keys.items() if "external" in data_key]

    @property
    def internal(self) -> list[str]:
        return [key for key in self.data_keys if key not in self.external]


class RecordedRun:
    """Documents of a run, and the frames that they name.

    Parameters
    ----------
    journal : file of the run's documents.
    roots : where frames may be read from, and where they are now.
    """

    def __init__(self, journal: Path, roots: FrameRoots) -> None:
        self.journal = journal
        self.roots = roots
        self.start: dict[str, Any] = {}
        self.stop: dict[str, Any] | None = None
        self.resources: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, Stream] = {}
        self._datums: dict[str, dict[str, Any]] = {}
        self._of_descriptor: dict[str, Stream] = {}
        for name, doc in read_journal(journal):
            getattr(self, f"_{name}", lambda doc: None)(doc)
        self._handlers: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uid!r})"

    @property
    def uid(self) -> str:
        return str(self.start["uid"])

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every document, as it was emitted."""
        return read_journal(self.journal)

    def files(self) -> dict[str, Path]:
        """uid of each resource -> its file, where it is now."""
        return {uid: self.roots.resolve(r["root"], r["resource_path"]) for uid, r in self.resources.items()}

    def frames(self, stream: Stream, key: str) -> Iterator[NDArray[Any]]:
        """What an external key names, event by event; one is in memory at a time."""
        for event in stream.events:
            datum = self._datums[event["data"][key]]
            yield np.asarray(self._handler(datum["resource"])(**datum["datum_kwargs"]))

    def _handler(self, uid: str) -> Any:
        if uid not in self._handlers:
            resource = self.resources[uid]
            path = self.roots.resolve(resource["root"], resource["resource_path"])
            self._handlers[uid] = handler_for(resource["spec"])(path, **resource["resource_kwargs"])
        return self._handlers[uid]

    def _start(self, doc: dict[str, Any]) -> None:
        self.start = doc

    def _stop(self, doc: dict[str, Any]) -> None:
        self.stop = doc

    def _descriptor(self, doc: dict[str, Any]) -> None:
        name = doc.get("name", "primary")
        stream = self.streams.setdefault(name, Stream(name, doc["data_keys"]))
        self._of_descriptor[doc["uid"]] = stream

    def _resource(self, doc: dict[str, Any]) -> None:
        self.resources[doc["uid"]] = doc

    def _datum(self, doc: dict[str, Any]) -> None:
        self._datums[doc["datum_id"]] = doc

    def _datum_page(self, doc: Any) -> None:
        for datum in event_model.unpack_datum_page(doc):
            self._datum(dict(datum))

    def _event(self, doc: dict[str, Any]) -> None:
        self._of_descriptor[doc["descriptor"]].events.append(doc)

    def _event_page(self, doc: Any) -> None:
        for event in event_model.unpack_event_page(doc):
            self._event(dict(event))


def find_run(settings: Any, which: str) -> RecordedRun:
    """The run of `-1` (the last scan), a scan_id, or the beginning of a uid; NotRecorded if it is not exactly one."""
    use_handlers(settings.handlers)
    data_root = Path(settings.data_root).expanduser().absolute()
    roots = FrameRoots.from_settings(settings)
    entries = [entry for entry in list_journals(data_root / JOURNAL_DIR) if has_start(entry.path)]
    found = _by_number(entries, int(which)) if re.fullmatch(r"-?\d{1,15}", which) else []
    if not found and not which.startswith("-"):
        found = [entry for entry in entries if which and entry.uid.startswith(which)]
    if len(found) != 1:
        problem = "more than one run is" if found else "no run is"
        raise NotRecorded(f"{problem} {which!r} in {data_root / JOURNAL_DIR}. `lunchbox show` lists the last ones.")
    return RecordedRun(found[0].path, roots)


def fits_of(settings: Any, uid: str) -> list[RecordedRun]:
    """Analysis runs about the run `uid`, oldest first."""
    roots = FrameRoots.from_settings(settings)
    directory = Path(settings.data_root).expanduser().absolute() / JOURNAL_DIR
    entries = [entry for entry in list_journals(directory) if has_start(entry.path)]
    return [RecordedRun(entry.path, roots) for entry in entries if start_of(entry.path).get(RAW_RUN_UID) == uid]


def start_of(path: Path) -> dict[str, Any]:
    """The start document of a journal."""
    name, doc = next(read_journal(path))
    return doc if name == "start" else {}


def _by_number(entries: list[JournalEntry], number: int) -> list[JournalEntry]:
    if number >= 0:
        return [entry for entry in entries if start_of(entry.path).get("scan_id") == number][-1:]
    scans = (entry for entry in reversed(entries) if RAW_RUN_UID not in start_of(entry.path))
    for _ in range(-number - 1):
        next(scans, None)
    return [entry for entry in [next(scans, None)] if entry is not None]
