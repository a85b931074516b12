"""A scan with no exposure and no settling against the bare RunEngine, and frames written against bare h5py."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.table import Row, seconds

SHAPE = (960, 1280, 3)
POINTS = 46
_SCANS = 8  # of each kind; a scan is short beside what an unsteady machine does to it


class ReadyCamera:
    """Frames that are there already, after `count_time` (s): what is left is everybody else's time."""

    name = "ready"
    shape = SHAPE

    def __init__(self, count_time: float = 0.0) -> None:
        self.count_time = count_time
        self._frame = np.random.default_rng(0).integers(0, 40, SHAPE, dtype="u1")

    def open(self) -> None: ...

    def close(self) -> None: ...

    def grab(self) -> Any:
        from acquisition.camera import Exposure

        time.sleep(self.count_time)
        return Exposure(data=self._frame, timestamp=time.time(), count_time=self.count_time)

    def set_count_time(self, count_time: float, /) -> None:
        self.count_time = count_time

    def settings(self) -> dict[str, Any]:
        return {"model": self.name}


def rows() -> Iterator[Row]:
    """Measure; a minute at most."""
    with tempfile.TemporaryDirectory() as folder:
        yield _ioc_start()
        yield from _scan(Path(folder))
        yield from _write(Path(folder))


def _ioc_start() -> Row:
    from caproto.sync.client import write

    from acquisition.ioc.process import IOCProcess

    def start() -> None:
        with IOCProcess() as ioc:
            os.environ.update(ioc.environment)
            write(f"{ioc.prefix}SERVO", [0.0], notify=True, repeater=False)
            times.append(time.perf_counter() - began)

    times: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        start()
    return Row("IOC, from start to first put", "s", min(times), "goal", 1.0)


def _scan(folder: Path) -> Iterator[Row]:
    from acquisition.ioc.process import IOCProcess
    from acquisition.ioc.settings import IOCSettings, SimulatedServo

    ideal = SimulatedServo(dead_band_deg=0, backlash_deg=0, jitter_deg=0, travel_time=0, settle_time=0)
    with IOCProcess(IOCSettings(simulated=ideal)) as ioc:
        os.environ.update(ioc.environment)
        from bluesky import RunEngine
        from bluesky.plans import scan
        from ophyd.sim import SynAxis, SynSignal

        from acquisition.devices import LunchBox
        from acquisition.plans import angle_scan
        from acquisition.settings import AcquisitionSettings, FileSettings

        engine = RunEngine()
        motor, detector = SynAxis(name="motor"), SynSignal(name="detector")
        floor = seconds(lambda: engine(scan([detector], motor, 0, 45, POINTS)), repeat=_SCANS) / POINTS
        floors = ("bare RunEngine", floor * 1e3)
        for name, files, background in (
            ("checksum", FileSettings(fsync=False), "each"),
            ("checksum, one background", FileSettings(fsync=False), "first"),
            ("checksum, no background", FileSettings(fsync=False), "none"),
            ("no checksum", FileSettings(fsync=False, checksum=False), "each"),
            ("checksum, fsync", FileSettings(), "each"),
        ):
            lunchbox = LunchBox(
                ioc.prefix, camera=ReadyCamera(), frames_dir=folder, settings=AcquisitionSettings(files=files)
            )
            lunchbox.wait_for_connection()

            def scan_once(lunchbox: Any = lunchbox, background: Any = background) -> None:
                engine(angle_scan(lunchbox, num=POINTS, background=background))

            took = seconds(scan_once, repeat=_SCANS, before=lambda: _remove_frames(folder)) / POINTS
            yield Row(f"scan, flush, {name}", "ms/point", took * 1e3, *floors)
            if name == "checksum":
                yield from _stages(lunchbox, engine, folder, floor)
            lunchbox.destroy()


def _remove_frames(folder: Path) -> None:
    """What is not yet on the disk is forgotten: else a scan waits for the frames of those before it."""
    for path in folder.rglob("*.h5"):
        path.unlink()


def _stages(lunchbox: Any, engine: Any, folder: Path, floor: float) -> Iterator[Row]:
    """Where the time of a point goes: each stage alone, its best of many."""
    from bluesky.plans import scan
    from ophyd.sim import SynSignal

    from acquisition.devices.lunchbox import _brightest

    detector = SynSignal(name="detector")
    moved = seconds(lambda: engine(scan([detector], lunchbox.servo, 0, 45, POINTS))) / POINTS
    yield Row("- RunEngine, documents", "ms/point", floor * 1e3)
    yield Row("- servo, put to DMOV and readback", "ms/point", (moved - floor) * 1e3)
    frame = lunchbox.camera.source.grab()
    setpoint = lunchbox.servo.setpoint.get(use_monitor=False)
    index = itertools.count()

    def checks() -> None:
        lunchbox.servo.verify(setpoint)
        for _ in range(2):
            lunchbox.laser.verify(0.0)

    def light() -> None:
        lunchbox.laser.on(1.0)
        lunchbox.laser.off()

    def recorded() -> None:
        if lunchbox._running is not None:
            lunchbox.read()

    def trigger_and_read() -> None:
        lunchbox.trigger().wait(timeout=10)
        lunchbox.read()

    def written() -> None:
        lunchbox._recording.append(frame, frame, servo=float(next(index)))

    for name, stage in (
        ("angle and laser read back", checks),
        ("laser on, off", light),
        ("two grabs", lambda: [lunchbox.camera.grab(timeout=1.0) for _ in range(2)]),
        ("two frames written", written),
        ("brightest spot", lambda: _brightest(frame, frame)),
        ("trigger: the first three of these", lambda: lunchbox.trigger().wait(timeout=10)),
        ("trigger and read: all of these", trigger_and_read),
    ):
        lunchbox.stage()
        took = seconds(stage, repeat=POINTS, before=recorded)
        lunchbox.unstage()
        _remove_frames(folder)
        yield Row(f"- {name}", "ms/point", took * 1e3)


def _write(folder: Path) -> Iterator[Row]:
    from acquisition.camera import Exposure
    from acquisition.frame_file import FrameFile
    from catalog.setup import Setup

    frame = ReadyCamera().grab().data
    exposure = Exposure(data=frame, timestamp=0.0, count_time=0.0)
    number = itertools.count()

    def ours(*, checksum: bool) -> None:
        path = folder / f"{next(number)}.h5"
        with FrameFile(path, shape=SHAPE, setup=Setup(), checksum=checksum, fsync=False) as file:
            for _ in range(POINTS):
                file.append(exposure, exposure, servo=0.0)
        path.unlink()

    def bare(*, checksum: bool) -> None:
        path = folder / f"{next(number)}.h5"
        with h5py.File(path, "x") as file:
            datasets = [
                file.create_dataset(
                    name, (0, *SHAPE), maxshape=(None, *SHAPE), chunks=(1, *SHAPE), dtype="u1", fletcher32=checksum
                )
                for name in ("image", "background")
            ]
            for i, dataset in itertools.product(range(POINTS), datasets):
                dataset.resize(i + 1, axis=0)
                dataset[i] = frame
        path.unlink()

    for name, checksum in (("no checksum", False), ("checksum", True)):
        took = seconds(lambda checksum=checksum: ours(checksum=checksum))
        floor = 2 * POINTS / seconds(lambda checksum=checksum: bare(checksum=checksum))
        yield Row(f"written, flushed, {name}", "frames/s", 2 * POINTS / took, f"bare h5py, {name}", floor)
