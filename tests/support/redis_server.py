"""The Redis that the queue is kept in: the real one, or no test."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

ADDRESS = "127.0.0.1:6379"


@contextmanager
def key_prefix() -> Iterator[str]:
    """A prefix of keys that nobody else has; what was kept under it is gone afterwards."""
    host, port = ADDRESS.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError as error:
        if os.environ.get("LUNCHBOX_CI_SERVICES") == "1":
            raise
        pytest.skip(f"no Redis at {ADDRESS}: {error}")
    from redis import Redis

    prefix = f"lunchbox-test-{uuid.uuid4().hex[:12]}"
    with Redis(host, int(port)) as client:
        try:
            yield prefix
        finally:
            for key in client.scan_iter(f"*{prefix}*"):
                client.delete(key)
