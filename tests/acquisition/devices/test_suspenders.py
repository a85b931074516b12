"""What a scan waits for by itself: an armed laser, and room on the disk. Then it goes on, and nothing is missing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import pytest
from bluesky.utils import RunEngineInterrupted
from cameras import ArrayCamera
from fault_bench import DISK, can_mount, small_disk

from acquisition.devices import LunchBox
from acquisition.frame_file import RESERVE
from acquisition.ioc.process import IOCProcess
from acquisition.plans import angle_scan, count
from acquisition.recording import Recording
from acquisition.suspenders import with_laser_armed

Documents = list[tuple[str, dict[str, Any]]]


class Person:
    """Somebody at the bench, who acts when the scan says that it waits; what `finish` raises is what went wrong."""

    def __init__(self, capsys: pytest.CaptureFixture[str], acts: Callable[[], None]) -> None:
        self.said = ""
        self._capsys = capsys
        self._acts = acts
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        deadline = time.monotonic() + 30
        while "the scan waits" not in self.said and time.monotonic() < deadline:
            time.sleep(0.01)
            self._listen()
        try:
            assert "the scan waits" in self.said
            self._acts()
        except BaseException as error:
            self._failure = error

    def _listen(self) -> None:
        out, err = self._capsys.readouterr()
        assert out == ""
        self.said += err

    def finish(self) -> list[str]:
        """The lines that were said."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._listen()
        return self.said.splitlines()


def primary(documents: Documents) -> list[dict[str, Any]]:
    return [document["data"] for name, document in documents if name == "event"]


@pytest.fixture
def armed(lunchbox: LunchBox) -> Iterator[Callable[[], None]]:
    """Call it to arm the laser after a look at it: it is off, and stays off meanwhile."""

    def arm() -> None:
        try:
            for _ in range(20):
                assert lunchbox.laser.power.get(use_monitor=False) == 0.0
                time.sleep(0.01)
        finally:
            lunchbox.laser.arm(True)

    yield arm
    lunchbox.laser.arm(True)


def assert_scanned(documents: Documents, *, points: int) -> None:
    assert documents[-1][1]["exit_status"] == "success"
    assert documents[-1][1]["num_events"] == {"primary": points}
    events = primary(documents)
    assert [event["lunchbox_servo"] for event in events] == pytest.approx(range(points), abs=0.01)
    assert {event["lunchbox_laser"] for event in events} == {1.0}


@pytest.mark.parametrize("grab", [3, 4], ids=["in a background", "in an image"])
def test_a_laser_that_is_disarmed_suspends_the_scan_until_it_is_armed(
    RE: Any,
    lunchbox: LunchBox,
    camera: ArrayCamera,
    documents: Documents,
    capsys: pytest.CaptureFixture[str],
    armed: Callable[[], None],
    grab: int,
) -> None:
    take = camera.grab

    def take_and_disarm() -> Any:
        exposure = take()
        if camera.n_grabbed == grab:
            lunchbox.laser.arm(False)
        return exposure

    camera.grab = take_and_disarm  # type: ignore[method-assign]
    person = Person(capsys, armed)
    RE(angle_scan(lunchbox, start=0, stop=3, num=4), lambda *document: documents.append(document))
    assert person.finish() == [
        "LUNCHBOX:LASER:ARM is 0: the laser is off, and the scan waits. See that nobody can look into the beam, then "
        "give the command `lunchbox arm`, and it goes on by itself; Ctrl-C ends it.",
        "LUNCHBOX:LASER:ARM is 1: the scan goes on",
    ]
    assert_scanned(documents, points=4)
    assert not RE.suspenders


def test_a_plan_that_was_halted_leaves_nothing_that_would_stop_the_next(
    RE: Any, lunchbox: LunchBox, documents: Documents, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunEngineInterrupted):
        RE(with_laser_armed(lunchbox, bps.pause()))
    RE.halt()
    capsys.readouterr()
    for armed in (False, True):
        lunchbox.laser.arm(armed)
        time.sleep(0.1)
        assert RE.state == "idle"
    RE(angle_scan(lunchbox, start=0, stop=3, num=4), lambda *document: documents.append(document))
    assert capsys.readouterr().err == ""
    assert_scanned(documents, points=4)
    assert not RE.suspenders


def test_a_contact_that_bounces_costs_no_scan(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    take = camera.grab

    def take_and_bounce() -> Any:
        exposure = take()
        if camera.n_grabbed in (2, 7):
            for armed in (False, True, False, True):
                lunchbox.laser.arm(armed)
        return exposure

    camera.grab = take_and_bounce  # type: ignore[method-assign]
    RE(angle_scan(lunchbox, start=0, stop=3, num=4), lambda *document: documents.append(document))
    assert_scanned(documents, points=4)


def test_a_plan_is_suspended_on_the_servos_way_too(
    RE: Any, lunchbox: LunchBox, documents: Documents, capsys: pytest.CaptureFixture[str], armed: Callable[[], None]
) -> None:
    def disarm(*, value: float, **_: Any) -> None:
        if value > -85 and len(primary(documents)) == 1:
            lunchbox.servo.readback.clear_sub(disarm)
            lunchbox.laser.armed.put(0, wait=False)

    lunchbox.servo.readback.subscribe(disarm, run=False)
    person = Person(capsys, armed)
    RE(angle_scan(lunchbox, start=-90, stop=90, num=2), lambda *document: documents.append(document))
    person.finish()
    assert [event["lunchbox_servo"] for event in primary(documents)] == pytest.approx([-90, 90], abs=0.01)


@pytest.mark.parametrize("recorded", [0, 1], ids=["and the frames' to the disk", "alone"])
def test_a_pause_on_the_servos_way_is_no_failure(
    RE: Any, lunchbox: LunchBox, documents: Documents, recorded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, written = Recording.append, threading.Event()
    if recorded:
        written.set()

    def slow_disk(*args: Any, **kwargs: Any) -> None:
        append(*args, **kwargs)
        written.wait(timeout=5)

    monkeypatch.setattr(Recording, "append", slow_disk)

    def pause(*, value: float, **_: Any) -> None:
        if value > -85 and len(primary(documents)) == recorded:
            lunchbox.servo.readback.clear_sub(pause)
            # The RunEngine is in `read`, and hears of the pause when the frames are on disk.
            threading.Timer(0.2, written.set).start()
            RE.request_pause(defer=False)

    RE(bps.mv(lunchbox.servo, -90))
    lunchbox.servo.readback.subscribe(pause, run=False)
    with pytest.raises(RunEngineInterrupted):
        RE(angle_scan(lunchbox, start=-90, stop=90, num=2), lambda *document: documents.append(document))
    RE.resume()
    assert [event["lunchbox_servo"] for event in primary(documents)] == pytest.approx([-90, 90], abs=0.01)


def test_without_light_nobody_waits_for_the_laser(RE: Any, lunchbox: LunchBox, camera: ArrayCamera) -> None:
    take = camera.grab
    camera.grab = lambda: (lunchbox.laser.arm(False), take())[1]  # type: ignore[method-assign]
    lunchbox.power.put(0.0)
    try:
        RE(count(lunchbox, num=2))
    finally:
        lunchbox.power.put(1.0)
        lunchbox.laser.arm(True)


def test_a_disk_that_others_fill_suspends_the_scan_until_there_is_room(
    RE: Any, ioc: IOCProcess, tmp_path: Path, documents: Documents, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not can_mount(disk):
        pytest.skip("a small disk can be mounted by root only")
    junk, camera = disk / "junk", ArrayCamera()

    def note_and_fill(name: str, document: dict[str, Any]) -> None:
        documents.append((name, document))
        if name == "event" and len(primary(documents)) == 2:
            junk.write_bytes(bytes(DISK - RESERVE))

    def clean() -> None:
        time.sleep(0.2)
        assert camera.n_grabbed == 4, "it waits before the next point"
        junk.unlink()

    with small_disk(disk):
        lunchbox = LunchBox(ioc.prefix, camera=camera, frames_dir=disk)
        lunchbox.wait_for_connection()
        person = Person(capsys, clean)
        RE(angle_scan(lunchbox, start=0, stop=3, num=4), note_and_fill)
        waits, goes_on = person.finish()
        lunchbox.destroy()
    said = re.match(r"(.+): (\d+) bytes are free, and the next frames need (\d+): the scan waits. Free some", waits)
    assert said is not None
    assert Path(said[1]).is_relative_to(disk)
    assert 0 < int(said[2]) < RESERVE < int(said[3])
    assert goes_on == "there is room again: the scan goes on"
    assert_scanned(documents, points=4)
