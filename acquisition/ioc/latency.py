"""Take 50 ms off each point of a scan.

caproto makes its listening socket with protocol number 0. asyncio turns Nagle's algorithm off only on sockets that say
IPPROTO_TCP, so each small answer of the IOC waits for the client's delayed acknowledgement: 40 ms. The sockets of the
clients inherit the option from the listening one, and there is no other place to set it before they talk.

caproto also holds a monitor update back for 10 ms in case that more follow. Here each is sent at once: they are few,
and who has moved the servo waits for them.

Both are private to caproto, which is why its version is pinned; a test measures that this still works.
"""

from __future__ import annotations

import socket
from typing import Any


def reduce_latency() -> None:
    """For the servers that this process starts from now on."""
    _send_without_delay()
    _send_without_batching()


def _send_without_delay() -> None:
    import caproto.asyncio.server as asyncio_server
    import caproto.asyncio.utils as asyncio_utils

    create = asyncio_utils._create_bound_tcp_socket

    async def create_without_delay(address: str, port: int) -> Any:
        listening = await create(address, port)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening

    # The server module holds a name of its own for the function.
    asyncio_server._create_bound_tcp_socket = create_without_delay


def _send_without_batching() -> None:
    import caproto.server.common as common

    # CAPROTO_SERVER_HIGH_LOAD_TIMEOUT_SEC is read once, when caproto is imported, which is too early for us.
    common.HIGH_LOAD_TIMEOUT = 0.0
