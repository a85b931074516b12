"""Waiting for PVs, and saying which ones are dead."""

from __future__ import annotations

import contextlib
import time

from ophyd import Device, EpicsSignal, EpicsSignalRO

from catalog.errors import LunchBoxError

#: s, for one Channel Access answer of an IOC that is alive.
ANSWER_TIMEOUT = 2.0


class IOCUnreachable(LunchBoxError, ConnectionError):
    """PVs do not answer; the message lists each of them and says how to start the IOC."""


def connect(*devices: Device, timeout: float) -> None:
    """Wait for all PVs of `devices`; raise `IOCUnreachable` naming each one that does not answer in `timeout` s."""
    deadline = time.monotonic() + timeout
    for signal in _signals(*devices):
        with contextlib.suppress(TimeoutError):
            signal.wait_for_connection(timeout=max(0.01, deadline - time.monotonic()))
    dead = dead_pvs(*devices)
    if dead and all(":SIM:" in f":{pv}" for pv in dead):
        raise IOCUnreachable(
            f"the IOC that answers is of a real bench: it has no {', '.join(dead)}. Set "
            "acquisition.camera.kind to opencv, or use the IOC of `lunchbox ioc --simulated`."
        )
    if dead:
        raise IOCUnreachable(
            f"no IOC answers for {', '.join(dead)} ({timeout:g} s). Start one with `lunchbox ioc` "
            "(nothing attached: `lunchbox ioc --simulated`), or set prefix to the one that runs."
        )


def dead_pvs(*devices: Device) -> list[str]:
    """Names of the PVs that are not connected now."""
    return sorted({signal.pvname for signal in _signals(*devices) if not signal.connected})


def _signals(*devices: Device) -> list[EpicsSignalRO]:
    items = [walk.item for device in devices for walk in device.walk_signals(include_lazy=True)]
    return [item for item in items if isinstance(item, EpicsSignalRO | EpicsSignal)]
