"""`open_catalog()`: runs by number, uid or search, wherever the server is.

Reads of frames go straight to the handler when the files are on this machine, and over HTTP otherwise. A stream read
as xarray has units and datetimes.
"""

from __future__ import annotations

import difflib
import io
import json
import logging
import os
import re
import time
import weakref
from collections.abc import Iterator
from typing import Any

import httpx
from bluesky_tiled_plugins.clients.bluesky_run import BlueskyRunV3
from bluesky_tiled_plugins.clients.catalog_of_bluesky_runs import CatalogOfBlueskyRuns
from tiled.client import from_uri
from tiled.client.container import DEFAULT_STRUCTURE_CLIENT_DISPATCH, Container
from tiled.client.utils import ClientError, handle_error, retry_context
from tiled.queries import Key, Like
from tiled.utils import OneShotCachedMap

from catalog.errors import LunchBoxError
from catalog.handlers import FrameIntegrityError, use_handlers
from catalog.layout import DOCUMENTS_MIMETYPE, PROCESSED, RAW_RUN_UID
from catalog.paths import DataNotAccessible, FrameRoots
from catalog.store import CatalogStore
from catalog.streams import LocalArrayClient, StreamClient, check_frames

logger = logging.getLogger(__name__)

_UID = re.compile("[0-9a-f-]{1,36}")


class CatalogUnavailable(LunchBoxError, ConnectionError):
    """No server answers, or it refuses the key."""


class RunNotFound(LunchBoxError, KeyError):
    """No run, or more than one, is what was asked for."""


class Run(BlueskyRunV3):
    """A run: `start`, `stop` (None while it is in progress), and its streams, `run.primary.read()`."""

    @property
    def stop(self) -> dict[str, Any] | None:
        """The stop document, or None: the run is in progress."""
        if "stop" not in self.metadata:
            self.refresh()
        return self.metadata.get("stop")

    def __getattr__(self, key: str) -> Any:
        # The base remembers which streams there are: of a run in progress, none.
        if key.startswith("_"):
            raise AttributeError(key)
        try:
            return self[key]
        except KeyError:
            state = "; it is in progress" if self.stop is None else ""
            raise AttributeError(f"run {self.start['uid'][:8]} has no stream {key!r}{state}") from None

    @property
    def in_progress(self) -> bool:
        return self.stop is None

    def documents(self, fill: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
        """Documents as they were emitted, resources and datums too.

        Of a run whose journal its server does not have, what the catalogue knows: stream resources and stream datums.
        """
        if not fill:
            with io.BytesIO() as buffer:
                try:
                    self.export(buffer, format=DOCUMENTS_MIMETYPE)
                except ClientError as error:
                    if error.response.status_code != httpx.codes.NOT_ACCEPTABLE:
                        raise
                for line in buffer.getvalue().splitlines():
                    item = json.loads(line)
                    yield item["name"], item["doc"]
                if buffer.getvalue():
                    return
        yield from super().documents(fill=fill)

    def validate(self, *args: Any, raise_on_error: bool = False, **kwargs: Any) -> bool:
        """Whether every frame that an event names can be read, and is what was written; one is in memory at a time.

        Other arguments are those of the base, which looks at metadata and mends it; here nothing is changed.
        """
        try:
            for name in self:
                check_frames(self[name], name)
        except (DataNotAccessible, FrameIntegrityError) as error:
            if raise_on_error:
                raise
            logger.warning("run %s is not valid: %s", self.start["uid"], error)
            return False
        return True


class RunCatalog(CatalogOfBlueskyRuns):
    """Runs, newest last.

    ``catalog[-1]``, ``catalog[uid]``, ``catalog["3f2a91"]`` (as much of a uid as tells one run), ``catalog[scan_id]``,
    ``catalog.search(Key("plan_name") == "angle_scan")``; ``catalog.processed`` holds the analysis runs.
    """

    def __getitem__(self, key: Any) -> Any:
        if key == PROCESSED:
            return self.processed
        try:
            return super().__getitem__(key)
        except IndexError:
            raise RunNotFound(f"run {key} was asked for; the catalogue has {len(self)} runs.") from None
        except KeyError:
            raise RunNotFound(f"no run has {_described(key)}.{self._nearest(key)}") from None
        except ValueError as error:
            raise RunNotFound(str(error)) from None

    def _lookup_by_partial_uid(self, partial_uid: str) -> Any:
        # The base wants five characters; here as many as tell one run from the others.
        uids = self._uids(beginning=partial_uid) if _UID.fullmatch(partial_uid) else None
        if uids is None:
            uids = self._uids_by_search(partial_uid)
        if not uids:
            raise KeyError(partial_uid)
        if len(uids) > 1:
            raise RunNotFound(f"more than one run has {_described(partial_uid)}: {', '.join(uids)}. Give more of it.")
        return Container.__getitem__(self, uids[0])

    def _lookup_by_scan_id(self, scan_id: int) -> Any:
        uids = self._uids(scan_id=scan_id)
        if uids is None:
            return super()._lookup_by_scan_id(scan_id)
        if not uids:
            raise KeyError(scan_id)
        return Container.__getitem__(self, uids[0])

    def _uids(self, **wanted: Any) -> list[str] | None:
        """What the server's index of runs says; None if it has none, or this is the result of a search."""
        if self._queries:
            return None
        root, _, _ = str(self.context.api_uri).rstrip("/").partition("/api/")
        path = "/".join(part for part in self.path_parts if part)
        for attempt in retry_context():
            with attempt:
                answer = self.context.http_client.get(f"{root}/custom/runs/{path}", params=wanted)
        if answer.status_code in {httpx.codes.NOT_FOUND, httpx.codes.UNPROCESSABLE_ENTITY}:
            return None
        uids: list[str] = handle_error(answer).json()["uids"]
        return uids

    def _uids_by_search(self, partial_uid: str) -> list[str]:
        beginning = partial_uid.replace("%", "").replace("_", "")  # what `Like` would take for anything
        if beginning != partial_uid:
            return []
        return [run.start["uid"] for run in self.search(Like("start.uid", f"{beginning}%")).values().head(4)]

    @property
    def processed(self) -> RunCatalog:
        """The analysis runs."""
        catalog: RunCatalog = Container.__getitem__(self, PROCESSED)
        return catalog

    def fits(self, run: Any) -> RunCatalog:
        """Analysis runs about `run` (a run or its uid), newest last."""
        uid = run if isinstance(run, str) else run.start["uid"]
        found: RunCatalog = self.processed.search(Key(RAW_RUN_UID) == uid)
        return found

    def wait_for(self, uid: str, *, timeout: float = 30.0) -> Any:
        """The run `uid`, once all of it is in the catalogue."""
        deadline = time.monotonic() + timeout
        while True:
            for container in (self, self.processed):
                try:
                    run = Container.__getitem__(container, uid)
                    if run.stop is not None:
                        return run
                except KeyError:
                    continue
                except ClientError as error:
                    # It was there in part, and whoever ingests now takes it in anew.
                    if error.response.status_code != httpx.codes.NOT_FOUND:
                        raise
            if time.monotonic() > deadline:
                raise RunNotFound(
                    f"run {uid} is not complete in the catalogue after {timeout} s. "
                    f"Is a server or an open catalogue ingesting its data root?"
                )
            time.sleep(0.1)

    def __len__(self) -> int:
        return max(0, super().__len__() - self._hidden)

    def __iter__(self, *args: Any, **kwargs: Any) -> Iterator[str]:
        return (key for key in super().__iter__(*args, **kwargs) if key != PROCESSED)

    def _keys_slice(self, start: int, stop: int | None, direction: int, *args: Any, **kwargs: Any) -> Iterator[str]:
        start, stop = self._shifted(start, stop, direction)
        return (key for key in super()._keys_slice(start, stop, direction, *args, **kwargs) if key != PROCESSED)

    def _items_slice(
        self, start: int, stop: int | None, direction: int, *args: Any, **kwargs: Any
    ) -> Iterator[tuple[str, Any]]:
        start, stop = self._shifted(start, stop, direction)
        items = super()._items_slice(start, stop, direction, *args, **kwargs)
        return ((key, item) for key, item in items if key != PROCESSED)

    def close(self) -> None:
        """Close the connections to the server."""
        self.context.close()

    @property
    def _hidden(self) -> int:
        # The container of the analysis runs is the first entry of the root; no search on documents finds it.
        return int(not self.path_parts[-1] and not self._queries)

    def _shifted(self, start: int, stop: int | None, direction: int) -> tuple[int, int | None]:
        shift = self._hidden if direction > 0 else 0
        return start + shift, None if stop is None else stop + shift

    def _nearest(self, key: Any) -> str:
        recent = [run for run in self.values().tail(50) if isinstance(run, Run)]
        if isinstance(key, str):
            uids = [run.start["uid"] for run in recent]
            near = difflib.get_close_matches(key, uids, n=3, cutoff=0.0) if uids else []
            return f" Nearest: {', '.join(near)}." if near else " The catalogue is empty."
        numbers = sorted({run.start["scan_id"] for run in recent if "scan_id" in run.start}, key=lambda n: abs(n - key))
        return f" Nearest: {', '.join(map(str, numbers[:3]))}." if numbers else " The catalogue is empty."


def open_catalog(uri: str | None = None, *, settings: Any = None, api_key: str | None = None) -> RunCatalog:
    """The catalogue of the running server if there is one, else of this process, else of the server at `uri`.

    Parameters
    ----------
    uri : address of a server; None finds the one of this data root, or opens the catalogue in this process.
    settings : configuration with `data_root`, `root_map`, `server`; None reads config/lunchbox.yml.
    api_key : of the server at `uri`; None takes TILED_API_KEY, or this data root's own key for its own server.
    """
    if settings is None:
        from config import load_settings

        settings = load_settings()
    use_handlers(settings.handlers)
    store = CatalogStore.of(settings)
    own = store.running_server()
    if uri is not None:
        if api_key is None and own is not None and uri.rstrip("/") == own:
            api_key = store.api_key()
        return _connect(uri, settings, api_key, is_own=uri.rstrip("/") == own)
    if own is not None and _is_alive(own, store):
        return _connect(own, settings, store.api_key(), is_own=True)
    from catalog.embedded import embedded_server

    server = embedded_server(settings)
    return _connect(server.uri, settings, server.api_key, is_own=True)


def _connect(uri: str, settings: Any, api_key: str | None, *, is_own: bool) -> RunCatalog:
    key = api_key or os.environ.get("TILED_API_KEY")
    # Asked first by a request of our own: Tiled's client would try for most of a minute.
    status = _status(uri, key)
    if status in {401, 403}:
        raise CatalogUnavailable(
            f"{uri} refuses the key ({status}). Give the key of its server: open_catalog(uri, api_key=...) or "
            f"TILED_API_KEY; lunchbox serve prints the file that has it."
        )
    if status != httpx.codes.OK:
        raise CatalogUnavailable(f"{uri} is no Tiled server: HTTP {status}. Start one with: lunchbox serve")
    catalog = from_uri(uri, structure_clients=structure_clients(settings, is_own=is_own), api_key=key)
    if key is not None:
        # To subscribe, Tiled's client would make another key, where somebody could log in; a reader may not.
        catalog.context.server_info.authentication.providers.clear()
    # A catalogue that is dropped unclosed leaves no socket behind.
    weakref.finalize(catalog.context, catalog.context.http_client.close)
    if not isinstance(catalog, RunCatalog):
        raise CatalogUnavailable(
            f"{uri} is a {type(catalog).__name__}, not a catalogue of Bluesky runs; "
            f"its node lacks the spec CatalogOfBlueskyRuns."
        )
    return catalog


def _status(uri: str, api_key: str | None, *, timeout: float = 10.0) -> int:
    """HTTP status of a request that needs the key; CatalogUnavailable if nobody answers."""
    root, _, _ = uri.rstrip("/").partition("/api/")
    headers = {"Authorization": f"Apikey {api_key}"} if api_key else {}
    try:
        return httpx.get(f"{root}/api/v1/metadata/", headers=headers, timeout=timeout).status_code
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise CatalogUnavailable(
            f"no Tiled server answers at {uri} ({error}). Start one with: lunchbox serve"
        ) from error


def _is_alive(uri: str, store: CatalogStore) -> bool:
    try:
        return _status(uri, store.api_key(), timeout=5.0) == httpx.codes.OK
    except CatalogUnavailable:
        return False


class _StructureClients(OneShotCachedMap[str, Any]):
    """Clients by spec or structure, of one catalogue."""

    def __copy__(self) -> _StructureClients:
        # The base shares its content with its copies, so that `.v2` would change the catalogue it was asked of.
        return _StructureClients({key: (lambda value=self[key]: value) for key in self})


def structure_clients(settings: Any, *, is_own: bool) -> _StructureClients:
    """What Tiled's client makes of our nodes; `is_own` as in `LocalArrayClient`."""
    clients: dict[str, Any] = {
        key: (lambda key=key: DEFAULT_STRUCTURE_CLIENT_DISPATCH["numpy"][key])
        for key in DEFAULT_STRUCTURE_CLIENT_DISPATCH["numpy"]
    }
    attributes = {"roots": FrameRoots.from_settings(settings), "is_own": is_own}
    array_client = type("FrameArrayClient", (LocalArrayClient,), attributes)
    clients |= {
        "array": lambda: array_client,
        "BlueskyRun": lambda: Run,
        "BlueskyEventStream": lambda: StreamClient,
        "CatalogOfBlueskyRuns": lambda: RunCatalog,
    }
    return _StructureClients(clients)


def _described(key: Any) -> str:
    return f"a uid that begins with {key!r}" if isinstance(key, str) else f"scan_id {key}"
