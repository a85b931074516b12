"""A Pico in this process: the real firmware, on a fake `machine` whose pins are written to a file.

    python pico_board.py LOG [NAME=VALUE ...]      # NAME: a constant of the firmware

Standard input and output are the USB line. Each change of a pin is a line of LOG: CLOCK_MONOTONIC, pin, duty.
"""

from __future__ import annotations

import importlib.util
import os
import select
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAIN = Path(__file__).parents[2] / "acquisition" / "pico" / "main.py"


def machine(changed: Callable[[int, int], None]) -> Any:
    """The module `machine` as far as the firmware uses it; `changed(pin, duty)` hears of every duty cycle."""

    class Pin:
        def __init__(self, number: int) -> None:
            self.number = number

    class PWM:
        def __init__(self, pin: Pin) -> None:
            self.pin = pin
            self.hertz = 0

        def freq(self, hertz: int) -> None:
            self.hertz = hertz

        def duty_u16(self, duty: int) -> None:
            assert isinstance(duty, int)
            assert 0 <= duty <= 65535
            assert self.hertz > 0
            changed(self.pin.number, duty)

    module: Any = types.ModuleType("machine")
    module.Pin, module.PWM = Pin, PWM
    return module


def load(changed: Callable[[int, int], None], **constants: int) -> Any:
    """The firmware as a module that has not begun to run, with MicroPython's clock."""
    sys.modules["machine"] = machine(changed)
    clock: Any = time
    clock.ticks_ms = lambda: int(time.monotonic() * 1000)
    clock.ticks_diff = lambda later, earlier: later - earlier
    clock.ticks_add = lambda moment, delta: moment + delta
    spec = importlib.util.spec_from_file_location("pico_main", MAIN)
    assert spec is not None
    assert spec.loader is not None
    firmware = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(firmware)
    for name, value in constants.items():
        assert hasattr(firmware, name)
        setattr(firmware, name, value)
    return firmware


class UsbLine:
    """Standard input as MicroPython has it: unbuffered, and 0x03 is Ctrl-C."""

    def fileno(self) -> int:
        return 0

    def read(self, count: int) -> str:
        data = os.read(0, count)
        if not data:
            # The far end is gone for good: there is nobody to run for.
            os._exit(0)
        if b"\x03" in data:
            raise KeyboardInterrupt
        return data.decode("latin-1")

    def write(self, text: str) -> None:
        os.write(1, text.encode())


def main() -> None:
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    constants = {name: int(value) for name, value in (word.split("=") for word in sys.argv[2:])}
    pins: dict[int, int] = {}

    def changed(pin: int, duty: int) -> None:
        if pins.get(pin) != duty:
            pins[pin] = duty
            os.write(log, b"%.6f %d %d\n" % (time.monotonic(), pin, duty))

    firmware = load(changed, **constants)
    assert firmware.select is select
    line: Any = UsbLine()
    sys.stdin = sys.stdout = line
    firmware.main()
    # The prompt: pins stay as they are, and nothing that arrives means anything.
    while os.read(0, 1024):
        pass


if __name__ == "__main__":
    main()
