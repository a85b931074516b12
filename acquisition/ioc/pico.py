"""The serial line to the Raspberry Pi Pico that drives servo and laser.

One line is one order, both words unsigned 16 bit: `<laser> <servo>\\r\\n`. Firmware that acknowledges answers with
`OK <laser> <servo>`; what it answers is what the readbacks tell. A hobby servo does not report where it is, so
`position` is where it was last told to go.
"""

from __future__ import annotations

import asyncio
import contextlib
import termios
from concurrent.futures import ThreadPoolExecutor

import serial

from acquisition.ioc.link import FULL_SCALE, SERVO_SPAN, LinkError, Progress, word
from acquisition.ioc.settings import Pico

_SERIAL_FAULTS = (serial.SerialException, termios.error, OSError)


class PicoLink:
    """Reopens the line by itself after a fault, with the laser off."""

    def __init__(self, settings: Pico, *, position: float = SERVO_SPAN / 2) -> None:
        self.name = f"Pico at {settings.device}"
        self.position = position
        self._settings = settings
        self._laser = 0
        # When the servo is where it was last sent, by the event loop's clock.
        self._arrives = 0.0
        self._port: serial.Serial | None = None
        # One thread: one order and its answer at a time, and a cable that is pulled in the middle of a write does not
        # stop the watchdog.
        self._thread = ThreadPoolExecutor(1, "pico")

    @property
    def laser(self) -> float:
        return self._laser / FULL_SCALE

    async def open(self) -> None:
        await self._order(laser=0)

    async def close(self) -> None:
        try:
            if self._port is not None:
                await self._order(laser=0)
        finally:
            self._disconnect()

    async def refresh(self) -> None:
        await self._order()

    async def set_laser(self, power: float) -> None:
        await self._order(laser=word(power))

    async def move(self, position: float, progress: Progress) -> None:
        start = self.position
        await self._order(servo=word(position / SERVO_SPAN))
        now = asyncio.get_running_loop().time()
        # A motion that this one cut short has not reached its end, from which this one is counted: the rest of it is
        # added, so that the servo is never said to have settled too early.
        self._arrives = max(self._arrives, now) + abs(self.position - start) * self._settings.travel_time
        await asyncio.sleep(self._arrives - now + self._settings.settle_time)

    async def _order(self, *, laser: int | None = None, servo: int | None = None) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, laser, servo)

    def _exchange(self, laser: int | None, servo: int | None) -> None:
        order = (
            self._laser if laser is None else laser,
            word(self.position / SERVO_SPAN) if servo is None else servo,
        )
        try:
            self._laser, servo = self._talk(*order)
        except _SERIAL_FAULTS as error:
            # What is sent when the line is back must not light the laser.
            self._laser = 0
            self._disconnect()
            raise LinkError(
                f"{self.name}: {error}. Check the USB cable and that no other program has the port open; the link "
                "reconnects by itself, with the laser off."
            ) from error
        self.position = servo / FULL_SCALE * SERVO_SPAN

    def _talk(self, laser: int, servo: int) -> tuple[int, int]:
        if self._port is None:
            self._port = serial.Serial(
                self._settings.device,
                self._settings.baudrate,
                timeout=self._settings.timeout,
                write_timeout=self._settings.timeout,
                exclusive=True,
            )
        self._port.reset_input_buffer()
        self._port.write(f"{laser} {servo}\r\n".encode())
        self._port.flush()
        if not self._settings.acknowledged:
            return laser, servo
        answer = self._port.readline()
        match answer.split():
            case [b"OK", laser_word, servo_word] if _is_word(laser_word) and _is_word(servo_word):
                return int(laser_word), int(servo_word)
        raise serial.SerialException(
            f"answered {answer!r} to the order {laser} {servo}"
            if answer
            else "no answer; firmware that never answers needs ioc.pico.acknowledged: false"
        )

    def _disconnect(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            with contextlib.suppress(*_SERIAL_FAULTS):
                port.close()


def _is_word(text: bytes) -> bool:
    return text.isdigit() and int(text) <= FULL_SCALE
