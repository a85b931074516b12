"""The Tiled server of a data root, with the ingest of its journals beside it.

`Server` runs both in threads of this process; `serve` is what `lunchbox serve` waits in.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType
from typing import IO, Any

import uvicorn
from fastapi.responses import JSONResponse
from tiled.client import from_uri
from tiled.server.app import build_app_from_config
from tiled.server.settings import DatabaseSettings, get_settings

from catalog import own_data
from catalog.adapter import UNREADABLE, frame_adapter
from catalog.contents import CATALOG_SPECS, processed_container
from catalog.errors import LunchBoxError
from catalog.gate import Gate
from catalog.generations import hold
from catalog.handlers import use_handlers
from catalog.ingest import Ingester
from catalog.key_checks import check_keys_once
from catalog.layout import DOCUMENTS_MIMETYPE, MIMETYPE
from catalog.nodes import look_nodes_up_at_once
from catalog.paths import FrameRoots
from catalog.profile import write_profile
from catalog.settings import ServerSettings
from catalog.signatures import read_signatures_once
from catalog.store import CatalogStore, write_private

# Its notices of start and stop go to stderr, whatever the program does there.
logging.getLogger("tiled.server.app").setLevel(logging.WARNING)

_STARTUP_TIMEOUT = 60.0  # s
_NOBODY = "tiled.authenticators:DictionaryAuthenticator"  # with no users


class PortTaken(LunchBoxError, OSError):
    """The server's address is used by another program."""


def tiled_configuration(settings: Any, *, store: CatalogStore | None = None) -> dict[str, Any]:
    """Tiled's configuration of the server of a data root, as its YAML file would have it."""
    store, roots = store or CatalogStore.of(settings), FrameRoots.from_settings(settings)
    byte_limit, streaming = settings.server.response_bytesize_limit, settings.server.streaming_uri
    return {
        **({"streaming_cache": {"uri": streaming.get_secret_value()}} if streaming else {}),
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "uri": store.catalog_uri,
                    "specs": CATALOG_SPECS,
                    "metadata": {"description": "LunchBox"},
                    "writable_storage": [store.arrays.as_uri(), store.tables_uri],
                    "readable_storage": list(roots.recorded_roots()),
                    "adapters_by_mimetype": {
                        **own_data.adapters(store.arrays, byte_limit=byte_limit),
                        MIMETYPE: frame_adapter(roots, byte_limit=byte_limit, journals=store.journals),
                    },
                },
            }
        ],
        "authentication": {
            "allow_anonymous_access": False,
            # Tiled looks keys up in its database where somebody could log in; here, nobody can.
            "providers": [
                {
                    "provider": "keys",
                    "authenticator": "tiled.authenticators:DictionaryAuthenticator",
                    "args": {"users_to_passwords": {}},
                }
            ],
            "secret_keys": [secrets.token_hex(32)],
        },
        "database": {"uri": store.keys.uri, "init_if_not_exists": False},
        "response_bytesize_limit": byte_limit,
        "expose_raw_assets": False,
        "routers": ["catalog.lookup:router"],
        "media_types": {
            "BlueskyRun": {
                "application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter",
                DOCUMENTS_MIMETYPE: "catalog.web:run_documents",
            },
            "table": {"application/json-seq": "catalog.web:table_rows"},
            "array": {"image/png": "catalog.web:png"},
            "container": {
                "application/x-hdf5": "catalog.web:run_hdf5",
                "application/json": "catalog.web:run_json",
            },
        },
    }


class Server:
    """A Tiled server in a thread, and ingest in another.

    ::

        with Server(settings) as server:
            print(server.uri)

    Parameters
    ----------
    settings : configuration with `data_root`, `root_map` and `server`.
    host, port : instead of the configuration's; port 0 is a free one.
    announce : write down the address, so that `open_catalog()` finds this server, and a Tiled profile.
    store : a catalogue of the data root that is not the current one; then nothing is ingested beside it.
    """

    def __init__(
        self,
        settings: Any,
        *,
        host: str | None = None,
        port: int | None = None,
        announce: bool = False,
        profiles: str | os.PathLike[str] | None = None,
        store: CatalogStore | None = None,
    ) -> None:
        use_handlers(settings.handlers)
        self._settings = settings
        self._server_settings: ServerSettings = settings.server
        self._address = (
            self._server_settings.host if host is None else host,
            self._server_settings.port if port is None else port,
        )
        self._announce = announce
        self._profiles = profiles
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._in_use: IO[str] | None = None
        self._ingests = store is None
        self.store = store or CatalogStore.of(settings)
        self.uri = ""
        self.profile_file: str = ""
        self.ingester: Ingester | None = None

    def __repr__(self) -> str:
        return f"Server({self.uri or 'not started'}, data_root={str(self.store.data_root)!r})"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def api_key(self) -> str:
        return self.store.api_key()

    def start(self) -> None:
        """Listen, and begin to ingest; returns when the first request would be answered."""
        listener = _listen(*self._address)
        host, port = listener.getsockname()[:2]
        # A server that listens on every address is reached from this machine by loopback.
        self.uri = f"http://{'127.0.0.1' if host in {'0.0.0.0', '::'} else host}:{port}"
        try:
            _in_thread(self.store.create)
            self.store, self._in_use = hold(self.store)
            self._start_tiled(listener)
            if self._ingests:
                self._start_ingest()
        except BaseException:
            self.stop()
            listener.close()
            raise
        if self._announce:
            write_private(self.store.server_file, f'{{"uri": "{self.uri}", "pid": {os.getpid()}}}\n')
            self.profile_file = str(write_profile(self.uri, self.api_key, folder=self._profiles))

    def stop(self) -> None:
        """Stop ingest, then the server. What was not ingested is ingested at the next start."""
        if self._announce and self.store.running_server() == self.uri:
            self.store.server_file.unlink(missing_ok=True)
        self._stop.set()
        for thread in reversed(self._threads):
            if thread.name == "catalog-server":
                self._uvicorn.should_exit = True
            thread.join()
            if thread.name == "catalog-ingest":
                self._root.context.close()
        self._threads.clear()
        if self._in_use is not None:
            self._in_use.close()

    def _start_tiled(self, listener: socket.socket) -> None:
        app = _app(tiled_configuration(self._settings, store=self.store))
        # Access logs would hold the key of everybody who opens the page with ?api_key=.
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="on",
            # A client that does not read its answer must not keep the server alive.
            timeout_graceful_shutdown=3,
        )
        self._uvicorn = uvicorn.Server(config)
        started = threading.Event()
        self._uvicorn_error: BaseException | None = None

        def run() -> None:
            try:
                self._uvicorn.run(sockets=[listener])
            except BaseException as error:
                self._uvicorn_error = error
            finally:
                started.set()

        original = self._uvicorn.startup

        async def startup(sockets: list[socket.socket] | None = None) -> None:
            await original(sockets=sockets)
            started.set()

        self._uvicorn.startup = startup  # type: ignore[method-assign]
        thread = threading.Thread(target=run, name="catalog-server", daemon=True)
        thread.start()
        self._threads.append(thread)
        if not started.wait(_STARTUP_TIMEOUT) or not self._uvicorn.started:
            self._uvicorn.should_exit = True
            raise RuntimeError(f"the Tiled server did not start: {self._uvicorn_error or 'see its log'}")

    def _start_ingest(self) -> None:
        self._root = from_uri(self.uri, api_key=self.api_key, trust_env=False)
        processed_container(self._root)
        self.ingester = Ingester(self._root, self.store, poll_interval=self._server_settings.poll_interval)
        thread = threading.Thread(target=self.ingester.run, args=(self._stop,), name="catalog-ingest", daemon=True)
        thread.start()
        self._threads.append(thread)


def serve(
    settings: Any,
    *,
    host: str | None = None,
    port: int | None = None,
    on_ready: Callable[[Server], None] | None = None,
    profiles: str | os.PathLike[str] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM. `on_ready` is called with the server once it answers."""
    done = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        done.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Server(settings, host=host, port=port, announce=True, profiles=profiles) as server:
            if on_ready is not None:
                on_ready(server)
            done.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _OwnDatabase(DatabaseSettings):
    """Equal to itself only: Tiled keeps one pool of connections per settings, and the last server's would win."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


def _app(configuration: dict[str, Any]) -> Any:
    """Tiled's application, with settings of its own."""
    app = build_app_from_config(configuration)
    # Tiled writes each application's key into one object that all applications of a process share: two servers in
    # one process would both know the key of the last one only.
    own = app.dependency_overrides[get_settings]().model_copy(deep=True)
    own.database_settings = _OwnDatabase(**vars(own.database_settings))
    app.dependency_overrides[get_settings] = lambda: own
    get_settings.cache_clear()  # nor is an application of somebody else's to look into our database of keys
    app.add_exception_handler(RuntimeError, _refused)
    check_keys_once(app)
    look_nodes_up_at_once(app)
    read_signatures_once()
    app.add_middleware(Gate, streams="streaming_cache" in configuration)
    return app


def _refused(request: Any, error: Exception) -> Any:
    """Tiled refuses to serve a path outside its roots by an error of the server's; say what ours say, and 422."""
    if not str(error).startswith("Refusing to serve"):
        raise error
    return JSONResponse({"detail": f"DataNotAccessible: {error} If it is yours, add its root to root_map."}, UNREADABLE)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    # A server that was stopped a moment ago must be able to come back; one that runs is still in the way.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise PortTaken(
            f"cannot listen on {host}:{port}: {error.strerror}. Stop the program that uses it, or choose another "
            f"port: lunchbox serve --port 0, or server.port in config/lunchbox.yml."
        ) from error
    return listener


def _in_thread(function: Callable[[], None]) -> None:
    """Call `function` in a thread: it runs an event loop, and a notebook has one running in this thread already."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
