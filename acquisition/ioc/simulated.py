"""A servo and a laser that exist only here, with a hobby servo's faults."""

from __future__ import annotations

import asyncio
import math
import random
import time

from acquisition.ioc.link import FULL_SCALE, SERVO_SPAN, Progress, word
from acquisition.ioc.settings import SimulatedServo

_PROGRESS_PERIOD = 0.05


class SimulatedLink:
    """`position` is what the servo's own potentiometer tells; `shaft` is where the grating really is.

    Between the two lie the play of the gears, which depends on the direction last moved in, and a jitter that each
    motion draws anew.
    """

    name = "simulated"

    def __init__(self, settings: SimulatedServo, *, position: float = SERVO_SPAN / 2) -> None:
        self._settings = settings
        self._motor = position
        self._random = random.Random(settings.seed)
        self._half_play = settings.backlash_deg / 2
        self._geared = position + self._random.uniform(-self._half_play, self._half_play)
        self._jitter = self._random.gauss(0, settings.jitter_deg)
        self.laser = 0.0

    @property
    def position(self) -> float:
        """deg on the servo's own scale, as its potentiometer tells."""
        return self._motor + self._settings.readback_error_deg

    @property
    def shaft(self) -> float:
        """deg on the servo's own scale."""
        return self._geared + self._jitter

    async def open(self) -> None:
        self.laser = 0.0

    async def close(self) -> None:
        self.laser = 0.0

    async def refresh(self) -> None:
        pass

    async def set_laser(self, power: float) -> None:
        self.laser = word(power) / FULL_SCALE

    async def move(self, position: float, progress: Progress) -> None:
        start = self._motor
        distance = word(position / SERVO_SPAN) / FULL_SCALE * SERVO_SPAN - start
        if abs(distance) <= self._settings.dead_band_deg:
            return
        beyond = (self._settings.overshoot_deg - self._settings.dead_band_deg) * math.copysign(1, distance)
        end = max(0.0, min(start + distance + beyond, self._settings.stop_deg))
        self._jitter = self._random.gauss(0, self._settings.jitter_deg)

        duration = abs(end - start) * self._settings.travel_time
        began = time.monotonic()
        while (remaining := began + duration - time.monotonic()) > 0:
            await asyncio.sleep(min(_PROGRESS_PERIOD, remaining))
            travelled = min((time.monotonic() - began) / duration, 1.0)
            self._turn(start + (end - start) * travelled)
            await progress()
        self._turn(end)
        if self._settings.settle_time:
            await asyncio.sleep(self._settings.settle_time)

    def _turn(self, position: float) -> None:
        self._motor = position
        # The shaft is dragged along by one flank of the play or the other, and rests in between.
        self._geared = min(max(self._geared, position - self._half_play), position + self._half_play)
