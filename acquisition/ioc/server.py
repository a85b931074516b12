"""The process that serves the PVs: its port, its log, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from caproto import get_environment_variables
from caproto._data import CannotExceedLimits
from caproto.asyncio.server import Context

from acquisition.ioc.latency import reduce_latency
from acquisition.ioc.link import LaserDisarmed, Link, LinkError
from acquisition.ioc.ports import require_free
from acquisition.ioc.pvs import BenchIOC, SimulatedBenchIOC
from acquisition.ioc.settings import IOCSettings
from acquisition.ioc.simulated import SimulatedLink


def make_link(settings: IOCSettings) -> Link:
    """The link that the settings name, with the servo at rest at the angle called 0."""
    if settings.link == "simulated":
        return SimulatedLink(settings.simulated, position=settings.zero_deg)
    from acquisition.ioc.pico import PicoLink

    return PicoLink(settings.pico, position=settings.zero_deg)


def run(
    settings: IOCSettings,
    *,
    prefix: str,
    list_pvs: bool = False,
    until_eof: bool = False,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then turn the laser off.

    Parameters
    ----------
    prefix : str
        Of every PV's name.
    list_pvs : bool
        Log their names at start.
    until_eof : bool
        End also when standard input does: a parent process that holds the other end of the pipe takes this one with
        it, however it dies.
    on_ready : callable
        Called with the UDP port of name searches once PVs are served.

    Raises
    ------
    AddressError
        Not an address of this machine; `IOCRunning` when the port that the environment (EPICS_CA_SERVER_PORT, else
        5064) names is taken.
    LinkError
        The Pico does not answer.
    """
    environment = get_environment_variables()
    require_free(environment["EPICS_CA_SERVER_PORT"], prefix=prefix, interfaces=settings.interfaces)
    if all(interface.startswith("127.") for interface in settings.interfaces):
        _keep_beacons_local(environment["EPICS_CA_REPEATER_PORT"])
    reduce_latency()
    logging.getLogger("caproto.circ").addFilter(_without_traceback)

    async def ready(async_lib: Any) -> None:
        if on_ready is not None:
            on_ready(environment["EPICS_CA_SERVER_PORT"])

    asyncio.run(_serve(settings, prefix=prefix, list_pvs=list_pvs, until_eof=until_eof, ready=ready))


async def _serve(
    settings: IOCSettings,
    *,
    prefix: str,
    list_pvs: bool,
    until_eof: bool,
    ready: Callable[[Any], Awaitable[None]],
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # The handler stays: a second Ctrl-C must not interrupt the turning off of the laser.
        loop.add_signal_handler(number, stop.set)
    if until_eof:
        loop.add_reader(0, _stop_at_eof, stop)

    link = make_link(settings)
    group = SimulatedBenchIOC if isinstance(link, SimulatedLink) else BenchIOC
    ioc = group(prefix, settings=settings, link=link)
    await ioc.start()
    try:
        server = asyncio.create_task(
            Context(ioc.pvdb, list(settings.interfaces)).run(log_pv_names=list_pvs, startup_hook=ready)
        )
        guard = asyncio.create_task(ioc.guard())
        stopped = asyncio.create_task(stop.wait())
        done, pending = await asyncio.wait((server, guard, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ioc.shut_down()
    for task in pending:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*pending)
    for task in done - {stopped}:
        task.result()


def _without_traceback(record: logging.LogRecord) -> bool:
    """A refused put is the client's mistake, a broken link the cable's: neither is for a reader of tracebacks."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, CannotExceedLimits | LinkError | LaserDisarmed):
        record.msg, record.args, record.exc_info = "put refused: %s", (error,), None
    return True


def _stop_at_eof(stop: asyncio.Event) -> None:
    if not os.read(0, 4096):
        stop.set()


def _keep_beacons_local(repeater_port: int) -> None:
    """Send beacons to this machine only, and have somebody there to hear them.

    A beacon that nobody hears is an error in the log, once a second and for ever. The repeater that hears them lives
    in this process; when another one has the port already, it is that one's. It also spares clients from starting
    one, which would hold their standard output open long after they have ended.
    """
    from caproto.sync import repeater

    os.environ["EPICS_CAS_AUTO_BEACON_ADDR_LIST"] = "NO"
    os.environ["EPICS_CAS_BEACON_ADDR_LIST"] = f"127.0.0.1:{repeater_port}"
    threading.Thread(target=repeater.run, args=("127.0.0.1",), name="repeater", daemon=True).start()
