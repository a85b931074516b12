"""A Pico on a cable: its board is a process that runs the real firmware, its cable a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

LASER_PIN = 15
SERVO_PIN = 16
_BOARD = Path(__file__).with_name("pico_board.py")


class Pico:
    """The board and its cable. The laser has a supply of its own: it does not go off because the cable is pulled.

    `device` is the serial device; it leads to the same board again after `unplug` and `plug`. What the pins really
    did is in a file that the board writes, whoever else says what: the oracle of the tests of faults.
    """

    def __init__(self, folder: Path, **constants: int) -> None:
        self.device = folder / "ttyACM0"
        #: What every pin did, as its board wrote it.
        self.pins = folder / "pins"
        self.pins.touch()
        ours, theirs = socket.socketpair()
        options = [f"{name}={value}" for name, value in constants.items()]
        self._board = subprocess.Popen(
            [sys.executable, "-S", "-P", str(_BOARD), str(self.pins), *options], stdin=theirs, stdout=theirs
        )
        theirs.close()
        self._usb = ours
        self._terminal: tuple[int, int] | None = None
        self._relay: threading.Thread | None = None
        self._wake: tuple[int, ...] = os.pipe()
        self.plug()
        deadline = time.monotonic() + 10
        while not self.changes(LASER_PIN):
            assert time.monotonic() < deadline, "the board does not boot"
            time.sleep(0.01)

    def __enter__(self) -> Pico:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()
        self._usb.close()
        self._board.wait(5)
        for end in self._wake:
            os.close(end)
        self._wake = ()

    @property
    def plugged(self) -> bool:
        return self._terminal is not None

    def plug(self) -> None:
        terminal = os.openpty()
        tty.setraw(terminal[1])
        self._terminal = terminal
        link = self.device.with_name(".new")
        link.symlink_to(os.ttyname(terminal[1]))
        link.replace(self.device)
        self._relay = threading.Thread(target=self._carry, args=(terminal[0],), daemon=True)
        self._relay.start()

    def unplug(self) -> None:
        if self._terminal is None or self._relay is None:
            return
        # The name goes first: another pseudo-terminal may be given the number of this one.
        self.device.unlink()
        os.write(self._wake[1], b"x")
        self._relay.join(5)
        os.read(self._wake[0], 1)
        for end in self._terminal:
            os.close(end)
        self._terminal = None

    def _carry(self, terminal: int) -> None:
        usb = self._usb.fileno()
        while True:
            ready, _, _ = select.select([terminal, usb, self._wake[0]], [], [])
            if self._wake[0] in ready:
                return
            with contextlib.suppress(OSError):
                if terminal in ready:
                    os.write(usb, os.read(terminal, 4096))
                if usb in ready:
                    os.write(terminal, os.read(usb, 4096))

    def changes(self, pin: int = LASER_PIN, since: float = 0.0) -> list[tuple[float, int]]:
        """(CLOCK_MONOTONIC, duty) of each change of a pin from `since` on."""
        lines = [line.split() for line in self.pins.read_text().splitlines(keepends=True) if line.endswith("\n")]
        found = [(float(moment), int(duty)) for moment, number, duty in lines if int(number) == pin]
        return [(moment, duty) for moment, duty in found if moment >= since]

    @property
    def laser(self) -> int:
        """Duty of the laser's pin now, 0..65535."""
        return self.changes()[-1][1]

    def wait_for_laser(self, wanted: bool, timeout: float) -> float:
        """Seconds until the laser is on, or off."""
        began = time.monotonic()
        while bool(self.laser) is not wanted:
            if time.monotonic() - began > timeout:
                raise TimeoutError(f"the laser is {'on' if self.laser else 'off'} after {timeout:g} s")
            time.sleep(0.005)
        return time.monotonic() - began
