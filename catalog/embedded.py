"""The catalogue's server inside a process that opens a catalogue: one per data root, until the process ends."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

from catalog.server import Server

logger = logging.getLogger(__name__)

_CATCH_UP_TIMEOUT = 60.0  # s

_servers: dict[Path, Server] = {}
_lock = threading.Lock()


def embedded_server(settings: Any) -> Server:
    """The server of `settings.data_root` in this process, with what was journalled before ingested."""
    data_root = Path(settings.data_root).expanduser().absolute()
    with _lock:
        server = _servers.get(data_root)
        if server is None:
            server = Server(settings, host="127.0.0.1", port=0)
            server.start()
            if not _servers:
                threading.Thread(target=_stop_at_exit, name="catalog-exit").start()
            _servers[data_root] = server
    assert server.ingester is not None
    if not server.ingester.caught_up.wait(_CATCH_UP_TIMEOUT):
        logger.warning(
            "%s: not every journal is in the catalogue after %g s; ingest goes on.", data_root, _CATCH_UP_TIMEOUT
        )
    return server


def close_embedded() -> None:
    """Stop every embedded server of this process; catalogues that were opened on them can no longer be read."""
    with _lock:
        for server in _servers.values():
            server.stop()
        _servers.clear()


def _stop_at_exit() -> None:
    # Not atexit: that is called after the interpreter has waited for threads, and SQLite's would never end.
    threading.main_thread().join()
    close_embedded()
