"""A real IOC for tests: a process on ports of its own, and a client that finds no other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from caproto import AlarmSeverity, AlarmStatus
from caproto.threading.client import PV, Context, SharedBroadcaster

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings, SimulatedServo

#: A servo without faults that takes no time.
IDEAL = IOCSettings(
    simulated=SimulatedServo(dead_band_deg=0, backlash_deg=0, jitter_deg=0, travel_time=0, settle_time=0)
)


@contextmanager
def running_ioc(settings: IOCSettings = IDEAL, **options: Any) -> Iterator[IOCProcess]:
    """An IOC, and this process' environment set so that clients made meanwhile find it and no other."""
    with IOCProcess(settings, **options) as ioc:
        before = {name: os.environ.get(name) for name in ioc.environment}
        os.environ.update(ioc.environment)
        try:
            yield ioc
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class Client:
    """Reads and writes PVs by their name without the prefix."""

    def __init__(self, prefix: str = "LUNCHBOX:", *, timeout: float = 5.0) -> None:
        self._prefix = prefix
        self._timeout = timeout
        self._broadcaster = SharedBroadcaster()
        self._context = Context(self._broadcaster)
        self._pvs: dict[str, PV] = {}
        self._callbacks: list[Callable[..., None]] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.disconnect()
        self._broadcaster.disconnect()

    def pv(self, name: str) -> PV:
        if name not in self._pvs:
            (self._pvs[name],) = self._context.get_pvs(self._prefix + name, timeout=self._timeout)
            self._pvs[name].wait_for_connection(timeout=self._timeout)
        return self._pvs[name]

    def get(self, name: str) -> Any:
        (value,) = self.pv(name).read(timeout=self._timeout).data
        return value

    def text(self, name: str) -> str:
        return bytes(self.pv(name).read(timeout=self._timeout).data).decode()

    def put(self, name: str, value: float, *, wait: bool = True) -> None:
        self.pv(name).write([value], wait=wait, timeout=self._timeout)

    def alarm(self, name: str) -> tuple[str, str]:
        """Status and severity."""
        metadata = self.pv(name).read(data_type="time", timeout=self._timeout).metadata
        return AlarmStatus(metadata.status).name, AlarmSeverity(metadata.severity).name

    def watch(self, name: str, callback: Callable[[Any], None]) -> None:
        """Call back with the value that it has and each new one."""
        first = threading.Event()

        def changed(_: Any, response: Any) -> None:
            callback(response.data[0])
            first.set()

        # caproto holds callbacks by weak references.
        self._callbacks.append(changed)
        self.pv(name).subscribe().add_callback(changed)
        assert first.wait(self._timeout), f"{name} sent nothing"
