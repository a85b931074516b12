"""PostgreSQL and Redis of this machine: used for real, with databases of the test's own; skipped where there are none.

CI sets LUNCHBOX_CI_SERVICES=1: there, a service that does not answer is a failure.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from benchmarks import databases


def _need(name: str, port: int) -> None:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError as error:
        reason = f"no {name} at 127.0.0.1:{port} ({error})"
        if os.environ.get("LUNCHBOX_CI_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def postgresql_databases(*names: str) -> Iterator[list[str]]:
    """Addresses of new databases, which are dropped afterwards."""
    _need("PostgreSQL", 5432)
    with databases.postgresql_databases(*names) as uris:
        yield uris


@contextlib.contextmanager
def redis_database() -> Iterator[str]:
    """Address of a database of Redis that was empty, and is emptied afterwards."""
    import redis

    _need("Redis", 6379)
    for number in range(15, 0, -1):
        with redis.Redis(host="127.0.0.1", port=6379, db=number) as client:
            # Marked at once, so that another test does not take it too.
            if client.dbsize() == 0 and client.set("lunchbox-test", "1", nx=True):
                try:
                    yield f"redis://127.0.0.1:6379/{number}"
                finally:
                    client.flushdb()
                return
    pytest.fail("every database of Redis is in use")
