"""A servo that is stuck, slow, beyond, lying or lost: an error with the angles in time, no event that is not true."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
from ioc import IDEAL
from zygote import Child, Zygote

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings
from catalog import layout

TIMEOUT = 1.0
Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as zygote:
        yield zygote


@contextmanager
def scanning(zygote: Zygote, ioc: IOCProcess, folder: Path, *, times: int = 1) -> Iterator[Child]:
    child = zygote.fork("servo_victim:scans", folder / "out", ioc.environment, folder, TIMEOUT, times)
    try:
        yield child
    finally:
        child.close()


def answer(child: Child, number: int = 0) -> tuple[Documents, str, float]:
    """Documents, error and seconds of the scan of this number."""
    deadline = time.monotonic() + 30
    while len(found := child.said()) <= number:
        assert time.monotonic() < deadline, child.output
        time.sleep(0.02)
    return found[number]["documents"], found[number]["error"], found[number]["took"]


def events(documents: Documents) -> list[dict[str, Any]]:
    return [document["data"] for name, document in documents if name == "event"]


def assert_closed_and_readable(documents: Documents, folder: Path, n_events: int, status: str = "fail") -> None:
    name, stop = documents[-1]
    assert (name, stop["exit_status"]) == ("stop", status)
    assert stop["num_events"].get("primary", 0) == n_events
    paths = sorted(folder.rglob("*.h5"), key=lambda path: path.stat().st_mtime)
    if n_events:
        with h5py.File(paths[-1], "r") as file:  # opens without swmr: it was closed
            assert len(file[layout.IMAGE]) == n_events
            assert file[layout.IMAGE][()].shape == (n_events, 12, 16, 3)


@pytest.mark.parametrize(
    ("fault", "n_events", "message"),
    [
        ({"stop_deg": 115.0}, 2, r"did not arrive: setpoint 30 deg, readback 25 deg, tolerance 1 deg"),
        ({"travel_time": 1.0}, 0, rf"is still moving in {TIMEOUT:g} s: setpoint 10 deg, readback [01]\.\d+ deg, tol"),
        (
            {"overshoot_deg": 4.0},
            0,
            r"did not arrive: setpoint 10 deg, readback (14|13\.99\d+|14\.00\d+) deg, tolerance 1 deg",
        ),
        ({"readback_error_deg": -3.0}, 0, r"did not arrive: setpoint 10 deg, readback (7|7\.0\d+|6\.99\d+) deg, tol"),
    ],
    ids=["stuck", "slow", "overshooting", "lying"],
)
def test_a_fault_ends_the_run_in_time_with_all_three_angles(
    zygote: Zygote, tmp_path: Path, fault: dict[str, float], n_events: int, message: str
) -> None:
    settings = IOCSettings(simulated=IDEAL.simulated.model_copy(update=fault))
    with IOCProcess(settings) as ioc, scanning(zygote, ioc, tmp_path) as child:
        documents, said, took = answer(child)
    assert said.startswith("ServoError: LUNCHBOX:SERVO ")
    assert re.search(message, said), said
    assert took < TIMEOUT + 1
    for event, angle in zip(events(documents), (10, 20, 30, 40), strict=False):
        assert event["lunchbox_servo"] == pytest.approx(angle, abs=0.01)
    assert_closed_and_readable(documents, tmp_path, n_events)


def test_a_servo_that_is_off_by_less_than_the_tolerance_tells_where_it_is(zygote: Zygote, tmp_path: Path) -> None:
    settings = IOCSettings(simulated=IDEAL.simulated.model_copy(update={"overshoot_deg": 0.5}))
    with IOCProcess(settings) as ioc, scanning(zygote, ioc, tmp_path) as child:
        documents, said, _ = answer(child)
    assert said == ""
    angles = [event["lunchbox_servo"] for event in events(documents)]
    assert angles == pytest.approx([10.5, 20.5, 30.5, 40.5], abs=0.01), "the event has the angle, not the wish"
    assert_closed_and_readable(documents, tmp_path, 4, "success")


def test_an_ioc_that_is_lost_on_the_way_ends_the_run_at_once_and_serves_the_next_when_it_is_back(
    zygote: Zygote, tmp_path: Path
) -> None:
    settings = IOCSettings(simulated=IDEAL.simulated.model_copy(update={"travel_time": 0.06}))
    with IOCProcess(settings) as ioc, scanning(zygote, ioc, tmp_path, times=100) as child:
        while not list(tmp_path.rglob("*.h5")):
            time.sleep(0.01)
        time.sleep(0.3)
        os.kill(ioc.pid, signal.SIGKILL)
        killed = time.monotonic()
        documents, said, _ = answer(child)
        assert time.monotonic() - killed < TIMEOUT + 1
        assert said.startswith("ServoError: LUNCHBOX:SERVO")
        assert "lunchbox ioc" in said
        assert_closed_and_readable(documents, tmp_path, len(events(documents)))
        ioc.stop()
        ioc.start()
        ioc.wait_until_ready()
        number = 0
        while said:
            number += 1
            documents, said, _ = answer(child, number)
    angles = [event["lunchbox_servo"] for event in events(documents)]
    assert angles == pytest.approx([10, 20, 30, 40], abs=0.01)
    assert_closed_and_readable(documents, tmp_path, 4, "success")
