"""The laser goes off, however a scan ends; the frames that were acknowledged stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time

import h5py
import pytest
from channel_access import text, value, wait_for
from command import SMALL_BENCH, CommandLine

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings
from catalog import layout

#: Long exposures: the laser is on for most of the scan.
LONG_EXPOSURE = SMALL_BENCH + "acquisition: {camera: {count_time: 0.4}}\n"


@pytest.fixture
def scanning(command: CommandLine, ioc: IOCProcess) -> subprocess.Popen[str]:
    """A scan under way, its laser on."""
    command = CommandLine(command.home, command.environment, config=LONG_EXPOSURE)
    process = command.start("scan", "--points", "40", "--start", "0", "--stop", "20")
    deadline = time.monotonic() + 60
    while frames(command) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wait_for(ioc, "LASER:RBV", 1.0, timeout=10)
    return process


def frames(command: CommandLine) -> int:
    for path in (command.data_root / layout.FRAMES_DIR).rglob("*.h5"):
        with contextlib.suppress(OSError, KeyError), h5py.File(path, "r", swmr=True) as file:
            return min(len(file[layout.IMAGE]), len(file[layout.BACKGROUND]))
    return 0


def test_off_after_success(command: CommandLine, ioc: IOCProcess) -> None:
    command.json("scan", "--points", "2", "--start", "0", "--stop", "1")
    assert value(ioc, "LASER:RBV") == 0.0


@pytest.mark.parametrize(
    ("number", "times"),
    [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGINT, 10), (signal.SIGTERM, 1), (signal.SIGTERM, 2)],
)
def test_off_after_a_signal_within_a_second_and_the_run_is_closed(
    command: CommandLine, ioc: IOCProcess, scanning: subprocess.Popen[str], number: signal.Signals, times: int
) -> None:
    for _ in range(times):
        scanning.send_signal(number)
        time.sleep(0.1)
    assert wait_for(ioc, "LASER:RBV", 0.0, timeout=3) < 1.0
    _, err = scanning.communicate(timeout=20)
    assert scanning.returncode == 1
    assert err.splitlines()[-1].startswith("Interrupted: ")
    assert "Traceback" not in err
    assert value(ioc, "LASER:RBV") == 0.0
    (run,) = command.json("show")["runs"]
    assert run["status"] == "abort"
    assert run["events"] == frames(command) >= 2


def test_off_after_kill_9_by_the_iocs_watchdog_and_recovery_closes_the_run(
    command: CommandLine, ioc: IOCProcess, scanning: subprocess.Popen[str]
) -> None:
    scanning.kill()
    scanning.communicate()
    assert wait_for(ioc, "LASER:RBV", 0.0, timeout=5) <= 3.0
    assert "no heartbeat" in text(ioc, "STATUS")
    (run,) = command.json("show")["runs"]
    assert run["status"] == "abort"
    assert frames(command) >= run["events"] >= 2


def test_off_after_an_exception_in_the_camera(command: CommandLine, ioc: IOCProcess) -> None:
    command = CommandLine(
        command.home, command.environment, config="acquisition: {camera: {kind: opencv, source: /nowhere/%03d.png}}"
    )
    done = command.run("scan", "--points", "2")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("CameraError: camera /nowhere/%03d.png does not open")
    assert value(ioc, "LASER:RBV") == 0.0


def test_a_lost_ioc_ends_the_scan_within_five_seconds_and_its_name_is_said(command: CommandLine) -> None:
    with IOCProcess(IOCSettings()) as own:
        lost = CommandLine(command.home, own.environment, config=LONG_EXPOSURE)
        process = lost.start("scan", "--points", "40", "--start", "0", "--stop", "20")
        wait_for(own, "LASER:RBV", 1.0, timeout=60)
        os.kill(own.pid, signal.SIGKILL)
        killed = time.monotonic()
        _, err = process.communicate(timeout=30)
        took = time.monotonic() - killed
    assert took <= 5.0
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "LUNCHBOX:" in err
    assert "lunchbox ioc" in err
    (run,) = lost.json("show")["runs"]
    assert run["status"] in ("fail", "abort")
    assert frames(lost) == run["events"]
