"""Channel Access ports on this machine: which are free, and who answers on those that are not."""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import time

from catalog.errors import LunchBoxError


class AddressError(LunchBoxError, OSError):
    """The IOC cannot serve on the address that it was given."""


class IOCRunning(AddressError):
    """The port that the IOC should serve on is taken, perhaps by another IOC."""


def answers(pv: str, *, port: int, address: str = "127.0.0.1", timeout: float = 0.3) -> bool:
    """Whether an IOC at `address` says that it serves `pv`, asked by Channel Access' name search."""
    import caproto

    client = caproto.Broadcaster(our_role=caproto.CLIENT)
    question = client.send(
        caproto.VersionRequest(0, caproto.DEFAULT_PROTOCOL_VERSION),
        caproto.SearchRequest(pv, 0, caproto.DEFAULT_PROTOCOL_VERSION),
    )
    deadline = time.monotonic() + timeout
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        while (remaining := deadline - time.monotonic()) > 0:
            sock.settimeout(min(remaining, 0.05))
            # Nobody there yet: the refusal arrives at the next call, and the question is asked again.
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                sock.send(question)
                reply = client.recv(sock.recv(4096), (address, port))
                if any(isinstance(command, caproto.SearchResponse) for command in reply):
                    return True
            time.sleep(min(0.01, max(deadline - time.monotonic(), 0)))
    return False


def require_free(port: int, *, prefix: str, interfaces: tuple[str, ...]) -> None:
    """Raise `AddressError` unless an IOC can serve on `port`, and `IOCRunning` when that is because another one does.

    caproto would share the search port and move to another TCP port, silently. Two servers that share a search port on
    one machine each get a random part of the searches, so that PVs are found now and not found the next time.
    """
    for interface in interfaces:
        if _is_free(interface, port):
            continue
        address = "127.0.0.1" if interface == "0.0.0.0" else interface
        if answers(f"{prefix}SERVO", address=address, port=port):
            raise IOCRunning(
                f"an IOC that serves {prefix}SERVO already runs on {address}:{port}. Use that one, stop it, or give "
                "this one another port with EPICS_CA_SERVER_PORT."
            )
        raise IOCRunning(
            f"port {port} of {address} is taken by another program (perhaps an IOC with another prefix than "
            f"{prefix!r}). Stop it, or give this IOC and its clients another port with EPICS_CA_SERVER_PORT."
        )


def free_port() -> int:
    """A port number that is free for both UDP and TCP on the loopback interface.

    It is never one that the system hands out by itself (32768 upwards on Linux, 49152 elsewhere): a Channel Access
    client binds its search socket with SO_REUSEADDR, may be handed the very port that an IOC searches on, and then
    never hears the reply to its own question.
    """
    while not _is_free("127.0.0.1", port := random.randrange(10_000, 32_768)):
        pass
    return port


def _is_free(interface: str, port: int) -> bool:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as search,
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as circuit,
    ):
        # Connections of an IOC that has just ended linger for a minute and are no obstacle.
        circuit.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            search.bind((interface, port))
            circuit.bind((interface, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise AddressError(
                f"cannot serve on {interface}:{port}: {error.strerror}. Give the address of one of this machine's "
                "network interfaces (ioc.interfaces), and a port above 1023 (EPICS_CA_SERVER_PORT)."
            ) from None
    return True
