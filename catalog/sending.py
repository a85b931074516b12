"""Runs of this data root, sent to the Tiled server of somebody else.

By the same ingest as at home, so a run is there once however often it is sent, and an interruption is made good by the
next attempt. What is sent is documents and where the frames are; the other server must see the files too.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tiled.client import from_uri

from catalog.client import CatalogUnavailable, open_catalog
from catalog.ingest import Ingester, ingest_lock
from catalog.journal_files import list_journals
from catalog.quarantine import Quarantine
from catalog.recovery import is_over
from catalog.store import CatalogStore

logger = logging.getLogger(__name__)

_ATTEMPTS_FOLDER = "sent"
_PAUSE = 2.0  # s, before a server that went away is asked again


@dataclass(frozen=True)
class Destination:
    """What is kept here about a catalogue elsewhere: `<data_root>/catalog/sent/<name>/`."""

    store: CatalogStore
    uri: str

    @property
    def directory(self) -> Path:
        name = hashlib.sha256(self.uri.rstrip("/").encode()).hexdigest()[:16]
        return self.store.directory / _ATTEMPTS_FOLDER / name

    @property
    def journals(self) -> Path:
        return self.store.journals

    @property
    def quarantine(self) -> Path:
        return self.directory / "quarantine"

    @property
    def ingest_lock(self) -> Path:
        return self.directory / "ingest.lock"

    @property
    def arrays(self) -> None:
        return None


@dataclass(frozen=True)
class Sent:
    """What `send_runs` did; `refused` is {journal: reason}."""

    sent: int
    there_before: int
    in_progress: int
    refused: dict[str, str]


def send_runs(
    settings: Any, uri: str, *, api_key: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> Sent:
    """Send every finished run that the catalogue at `uri` does not have.

    Raises
    ------
    CatalogUnavailable
        Nobody answers, or the key may not write.
    IngestBusy
        Another process sends runs of this data root there.
    """
    with _ingester(settings, uri, api_key) as (ingester, destination):
        ingester.survey()
        sent = there = in_progress = 0
        quarantine = Quarantine(destination.quarantine)
        refused: dict[str, str] = {}
        entries = list_journals(destination.journals)
        for number, entry in enumerate(entries, start=1):
            if ingester.holds(entry.uid):
                there += 1
            elif not is_over(entry.path):
                in_progress += 1
            else:
                ingester.take_in(entry.path, entry.uid)
                if quarantine.holds(entry.path):
                    refused |= {note["journal"]: note["reason"] for note in quarantine.notes()}
                else:
                    sent += 1
            progress(number, len(entries))
        return Sent(sent=sent, there_before=there, in_progress=in_progress, refused=refused)


def follow_runs(settings: Any, uri: str, *, api_key: str, stop: threading.Event) -> None:
    """Send what there is, and what is recorded, event by event, until `stop` is set."""
    with _ingester(settings, uri, api_key) as (ingester, _):
        while not stop.is_set():
            try:
                ingester.survey()
                while not stop.wait(settings.server.poll_interval):
                    ingester.step()
            except httpx.TransportError as error:
                logger.warning("%s does not answer (%s); runs are sent when it does.", uri, error)
                ingester.begin_again()
                stop.wait(_PAUSE)


@contextlib.contextmanager
def _ingester(settings: Any, uri: str, api_key: str) -> Iterator[tuple[Ingester, Destination]]:
    # Says what is wrong with address or key, before anything is sent.
    open_catalog(uri, settings=settings, api_key=api_key).close()
    destination = Destination(CatalogStore.of(settings), uri)
    destination.directory.mkdir(parents=True, exist_ok=True)
    root = from_uri(uri, api_key=api_key)
    try:
        with ingest_lock(destination):
            yield Ingester(root, destination), destination
    except httpx.TransportError as error:
        raise CatalogUnavailable(
            f"{uri} does not answer any more ({error}). Try again: what was sent is not sent twice."
        ) from error
    except httpx.HTTPStatusError as error:
        if error.response.status_code not in {401, 403}:
            raise
        raise CatalogUnavailable(
            f"{uri}: the key may not write ({error.response.status_code}). "
            f"Ask whoever runs that server for one that may."
        ) from error
    finally:
        root.context.close()
