"""The laser, which is off unless this process keeps saying otherwise."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from ophyd import Component as Cpt
from ophyd import Device, EpicsSignal, EpicsSignalRO
from ophyd.utils import DisconnectedError

from acquisition.devices.connection import ANSWER_TIMEOUT
from acquisition.settings import LaserSettings
from catalog.errors import LunchBoxError

#: Of a readback that is what was asked for.
POWER_TOLERANCE = 0.01


class LaserError(LunchBoxError, RuntimeError):
    """The laser does not do as it was told."""


class Laser(Device):
    """The laser's power, 0..1. It shines only while this process keeps saying so, and never while it is inhibited."""

    power = Cpt(EpicsSignal, "LASER:RBV", write_pv="LASER", put_complete=True, kind="hinted")
    heartbeat = Cpt(EpicsSignal, "HEARTBEAT", kind="omitted")
    armed = Cpt(EpicsSignal, "LASER:ARM", put_complete=True, kind="config", auto_monitor=True)
    watchdog = Cpt(EpicsSignalRO, "WATCHDOG", kind="config")
    status = Cpt(EpicsSignalRO, "STATUS", string=True, kind="omitted")

    def __init__(self, *args: Any, settings: LaserSettings | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings or LaserSettings()
        self.power.name = self.name
        self._lock = threading.RLock()
        #: Held off, whatever the trigger thread wants.
        self.inhibited = False
        self._lit = threading.Event()
        self._beats = 0
        self._heart: threading.Thread | None = None

    def require_armed(self) -> None:
        """Raise `LaserError` while the IOC would refuse light."""
        # Not what the monitor says, which may be a moment old.
        if not self.armed.get(use_monitor=False, timeout=ANSWER_TIMEOUT):
            raise LaserError(
                f"{self.armed.pvname} is 0: the laser is disarmed. See that nobody can look into the beam, then give "
                "the command `lunchbox arm`."
            )

    def arm(self, armed: bool, /) -> None:
        """Allow light, which a person at the bench does after a look at it, or forbid it: then the laser goes off."""
        self.armed.put(int(armed), use_complete=True, wait=True, timeout=ANSWER_TIMEOUT)

    def on(self, power: float) -> None:
        """Shine, and keep the IOC's watchdog from stopping it until `off`.

        Raises
        ------
        LaserError
            It is disarmed, or held off, or the IOC refuses.
        """
        with self._lock:
            if self.inhibited:
                raise LaserError(f"{self.power.setpoint_pvname}: held off while the plan is paused.")
            if not self.armed.get():
                self.require_armed()
            self._lit.set()
            if self._heart is None:
                self._heart = threading.Thread(target=self._beat, name="laser heartbeat", daemon=True)
                self._heart.start()
            try:
                self._put(power)
            except LaserError:
                # A put that takes effect late must find nobody who keeps it.
                self._lit.clear()
                with contextlib.suppress(TimeoutError, DisconnectedError):
                    self.require_armed()
                raise
        if self.settings.settle_time:
            time.sleep(self.settings.settle_time)

    def off(self) -> None:
        """Stop shining. Safe to call at any time, from any thread."""
        with self._lock:
            self._lit.clear()
            self._put(0.0)

    def inhibit(self, inhibited: bool, /) -> None:
        """Hold the laser off whatever the trigger thread wants, or allow it again."""
        with self._lock:
            self.inhibited = inhibited
            if inhibited:
                self.off()

    def readback(self) -> float:
        """Its power now, 0..1, fresh from the IOC; raises `LaserError` when that does not answer."""
        try:
            return float(self.power.get(use_monitor=False, timeout=ANSWER_TIMEOUT))
        except (TimeoutError, DisconnectedError) as error:
            raise LaserError(
                f"{self.power.pvname}: the IOC does not answer ({type(error).__name__}). If it is gone, its watchdog "
                "has turned the laser off; start it again with `lunchbox ioc`."
            ) from error

    def verify(self, power: float) -> float:
        """The readback, if it is `power`; raises `LaserError` if not."""
        readback = self.readback()
        if abs(readback - power) > POWER_TOLERANCE:
            raise LaserError(
                f"{self.power.pvname}: {readback:g} where {power:g} was asked for. "
                f"The watchdog, another client or a fault turned it; the IOC says: {self.status.get(use_monitor=False)}"
            )
        return readback

    def _put(self, power: float) -> None:
        try:
            if not self.power.connected:
                raise DisconnectedError("not connected")  # at once: waiting brings no IOC back
            # `put`, not `set`: a Status costs a thread, four times what Channel Access does.
            self.power.put(power, use_complete=True, wait=True, timeout=ANSWER_TIMEOUT)
        except Exception as error:
            raise LaserError(
                f"{self.power.setpoint_pvname}: the IOC does not take {power:g} ({type(error).__name__}). "
                "If it is gone, its watchdog has turned the laser off; start it again with `lunchbox ioc`."
            ) from error

    def _beat(self) -> None:
        while self._lit.wait():
            self._beats += 1
            # Without an IOC there is no laser either; whoever waits for an image is told.
            with contextlib.suppress(TimeoutError, DisconnectedError):
                self.heartbeat.put(self._beats, use_complete=False, wait=False)
            time.sleep(self.settings.heartbeat_period)
