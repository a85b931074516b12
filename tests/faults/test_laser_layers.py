"""Four layers turn the laser off. Each does so alone, with the other three taken away; without it, the laser stays on.

What takes a layer away: the firmware, a time-out of a quarter of an hour; the watchdog, a client whose heart goes on
beating; the device, one whose methods do not touch the laser; the plan, one without a finalizer, or none at all.
The oracle is the laser's pin.
"""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pico import Pico
from zygote import Zygote

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings
from acquisition.ioc.settings import Pico as PicoSettings

NO_TIMEOUT = 900_000  # ms
LONGEST_WATCHDOG = 10.0
#: s; longer than any layer takes, shorter than the longest watchdog.
PATIENCE = 4.0

#: name -> (what happens, with which firmware and watchdog, what the laser does: s until off, None: it stays on)
EXPERIMENTS: dict[str, tuple[str, tuple[Any, ...], int, float, float | None]] = {
    "watchdog": ("light_and_fall_silent", (), NO_TIMEOUT, 2.0, 3.0),
    "no watchdog": ("light_and_fall_silent", (), NO_TIMEOUT, LONGEST_WATCHDOG, None),
    "firmware": ("light_and_fall_silent", (), 2000, LONGEST_WATCHDOG, 3.0),
    "no firmware": ("light_and_fall_silent", (), NO_TIMEOUT, LONGEST_WATCHDOG, None),
    "device: pause": ("device", ("pause",), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "device: unstage": ("device", ("unstage",), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "device: stop": ("device", ("stop",), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "no device": ("device", ("summary",), NO_TIMEOUT, LONGEST_WATCHDOG, None),
    "plan: exception": ("plan", (True, "exception"), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "plan: abort": ("plan", (True, "abort"), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "plan: success": ("plan", (True, "success"), NO_TIMEOUT, LONGEST_WATCHDOG, 1.0),
    "no plan": ("plan", (False, "exception"), NO_TIMEOUT, LONGEST_WATCHDOG, None),
}


def experiment(zygote: Zygote, folder: Path, name: str) -> float | None:
    """Seconds until the laser's pin was dark for good, None if it was not."""
    function, arguments, timeout, watchdog, _ = EXPERIMENTS[name]
    folder.mkdir()
    arguments = arguments if function == "light_and_fall_silent" else (*arguments, folder)
    with Pico(folder, TIMEOUT_MS=timeout) as pico:
        link = PicoSettings(device=str(pico.device), travel_time=0, settle_time=0)
        with IOCProcess(IOCSettings(link="pico", pico=link, watchdog=watchdog)) as ioc:
            child = zygote.fork(f"layers:{function}", folder / "out", ioc.environment, *arguments)
            try:
                signs = "lit" if function == "light_and_fall_silent" else "acts"
                deadline = time.monotonic() + 30
                while not (found := [said["at"] for said in child.said() if signs in said]):
                    assert time.monotonic() < deadline, child.output
                    time.sleep(0.01)
                began = found[0]
                if "firmware" in name:
                    began = time.monotonic()
                    os.kill(ioc.pid, signal.SIGKILL)
                assert [duty for moment, duty in pico.changes() if moment < began][-1] == 65535, "it was lit"
                time.sleep(PATIENCE)
                assert not child.wait(0), child.output
                return None if pico.laser else pico.changes()[-1][0] - began
            finally:
                child.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[float | None]]:
    folder = tmp_path_factory.mktemp("layers")
    with Zygote() as zygote, ThreadPoolExecutor(6) as pool:
        return {
            name: pool.submit(experiment, zygote, folder / str(number), name) for number, name in enumerate(EXPERIMENTS)
        }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_layer_alone_turns_the_laser_off_and_without_it_the_laser_stays_on(
    name: str, results: dict[str, Future[float | None]]
) -> None:
    took, bound = results[name].result(), EXPERIMENTS[name][-1]
    if bound is None:
        assert took is None, f"something else turned it off after {took:.2f} s: then the layer is not alone"
    else:
        assert took is not None, "the laser is still on"
        assert took <= bound
