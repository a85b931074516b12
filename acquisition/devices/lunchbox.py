"""Servo, laser and camera as one detector that writes its frames into a file."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from ophyd import Component as Cpt
from ophyd import Device, Signal
from ophyd.status import DeviceStatus

from acquisition.camera import Camera, Exposure
from acquisition.devices.camera import CameraDevice, ExposureTime
from acquisition.devices.connection import ANSWER_TIMEOUT, connect
from acquisition.devices.laser import POWER_TOLERANCE, Laser, LaserError
from acquisition.devices.servo import Servo
from acquisition.frame_file import Background
from acquisition.recording import Recording, fields_of
from acquisition.settings import AcquisitionSettings
from catalog import layout
from catalog.setup import Setup

_Reading = OrderedDict[str, Any]

_RED = 0  # of R, G, B


@dataclass(frozen=True)
class _Exposed:
    """What one trigger saw, and where the servo and the laser were meanwhile."""

    image: Exposure
    #: The one taken for this image.
    background: Exposure | None
    servo: float
    setpoint: float
    laser: float


class LunchBox(Device):
    """Servo, laser and camera as one detector: each trigger takes a background and an image.

    `background_mode` says for which images a background is taken: for "each", for the "first" of a stage, which is then
    the background of all its events, or for "none"; `unstage` sets it back to "each". `planned_points`, where it is
    known, makes `stage` refuse a disk that has no room for them.

    Frames go into an HDF5 file of its own, opened at `stage`, closed at `unstage`; documents carry references. The
    order per frame is write, flush, fsync, datum, event: a datum never names a frame that cannot be read. A trigger is
    done when the light is off; `read` waits for the disk, and meanwhile the servo may turn.

    Parameters
    ----------
    prefix
        Of the IOC's PVs.
    camera
        Already configured; opened at `stage`, closed at `unstage`.
    frames_dir
        Root of the resource documents; files go into date folders below it.
    setup
        Nominal geometry, recorded in each file.
    """

    servo = Cpt(Servo, "SERVO")
    laser = Cpt(Laser, "")
    camera = Cpt(CameraDevice, "", kind="config")
    background_mode = Cpt(Signal, value="each", kind="config")
    planned_points = Cpt(Signal, value=0, kind="omitted")
    exposure = Cpt(ExposureTime, value=0.0, kind="omitted")
    power = Cpt(Signal, value=1.0, kind="config")

    def __init__(
        self,
        prefix: str = "LUNCHBOX:",
        *,
        name: str = "lunchbox",
        camera: Camera,
        frames_dir: Path,
        setup: Setup | None = None,
        settings: AcquisitionSettings | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(prefix, name=name, **kwargs)
        settings = settings or AcquisitionSettings()
        self.settings = settings
        self.servo.settings = settings.servo
        self.laser.settings = settings.laser
        self.power.put(settings.laser.power)
        self.camera.source = camera
        self.setup = setup or Setup()
        self.frames_dir = frames_dir
        self._recording: Recording | None = None
        self._background: Exposure | None = None
        self._power_when_staged = settings.laser.power
        self._triggered: DeviceStatus | None = None
        self._running: Future[_Reading | None] | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def _repr_info(self) -> Iterator[tuple[str, Any]]:
        # Runs record this as their detector.
        yield "prefix", self.prefix
        yield "name", self.name

    # -- connection ----------------------------------------------------------------------------------------------

    def wait_for_connection(self, all_signals: bool = False, timeout: float | None = None) -> None:
        """Wait until every PV answers.

        Raises
        ------
        IOCUnreachable
            Listing each dead PV, and how to start the IOC.
        """
        connect(self, timeout=timeout or self.settings.connect_timeout)

    # -- Stageable -----------------------------------------------------------------------------------------------

    def stage(self) -> list[object]:
        """Open a new file and the camera; the laser is off from here on."""
        try:
            staged = super().stage()
            self._power_when_staged = self.power.get()
            self.laser.inhibit(False)
            self.laser.off()
            camera = self.camera.source
            camera.open()
            self.exposure.put(camera.count_time)
            self._recording = Recording(
                self.frames_dir,
                shape=camera.shape,
                setup=self.setup,
                files=self.settings.files,
                background=self._backgrounds,
                points=int(self.planned_points.get()),
            )
        except BaseException:
            self.unstage()
            raise
        self._triggered = self._running = self._background = None
        return staged

    def unstage(self) -> list[object]:
        """Laser off, then file and camera closed, whatever state the trigger is in."""
        try:
            self.laser.inhibit(True)
        except LaserError as error:
            # The IOC is gone: its watchdog has the laser. What has been recorded must still be closed.
            self.log.error("%s", error)
        finally:
            self._wait_for_trigger()
            self.camera.source.close()
            recording, self._recording = self._recording, None
            if recording is not None:
                recording.close()
                self.power.put(self._power_when_staged)
            self.background_mode.put("each")
            self.planned_points.put(0)
            # Only now: a trigger that is still stuck finds that its recording is over before it lights the laser.
            self.laser.inhibited = False
        return super().unstage()

    # -- Pausable ------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Laser off; a trigger under way takes no frame. The RunEngine repeats the point after `resume`."""
        self.laser.inhibit(True)

    def resume(self) -> None:
        """Let triggers use the laser again."""
        self._wait_for_trigger()
        self.laser.inhibit(False)

    def stop(self, *, success: bool = False) -> None:
        """Laser off, servo stopped."""
        self.laser.off()
        super().stop(success=success)

    # -- Triggerable ---------------------------------------------------------------------------------------------

    def trigger(self) -> DeviceStatus:
        """Take a background (laser off) if one is due, and an image (laser on), in a thread of the device's own.

        The returned status is done when they are in memory and the laser is off: the grating may be turned.
        """
        if self._recording is None:
            raise RuntimeError(f"{self.name} is not staged: trigger it in a plan, or call stage() first.")
        status = self._triggered = DeviceStatus(self)
        self._running = self._executor.submit(self._run_trigger, self._recording, status)
        return status

    def _run_trigger(self, recording: Recording, status: DeviceStatus) -> _Reading | None:
        try:
            self.camera.source.set_count_time(float(self.exposure.get()))
            exposed = self._take_pair(recording)
        except LaserError as error:
            if self._is_paused():
                # No frame, no failure. The RunEngine goes back to the last checkpoint.
                status.set_finished()
            else:
                status.set_exception(error)
        except Exception as error:
            status.set_exception(error)
        else:
            status.set_finished()
            return self._record(recording, exposed)
        return None

    def _is_paused(self) -> bool:
        """Whether the plan is, or will be in a moment: who disarms the laser ends the light first, and then is seen."""
        deadline = time.monotonic() + ANSWER_TIMEOUT
        while not self.laser.inhibited and self.laser.armed.connected and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.laser.inhibited

    def _take_pair(self, recording: Recording) -> _Exposed:
        servo = self.servo
        setpoint = servo.commanded()
        # Before the laser is on; what monitors say costs nothing, and where they lag the IOC is asked.
        if not servo.seems_at(setpoint):
            servo.verify(setpoint)
        background: Exposure | None = None
        if self._backgrounds == "each" or (self._backgrounds == "first" and self._background is None):
            background = self._take_dark()
        if self._recording is not recording:
            raise LaserError(f"{self.name} was unstaged while the camera was busy; the laser stays off.")
        image, lit = self._expose()
        # And after the exposure: the angle of the event is the one at which the light fell.
        return _Exposed(image, background, servo=servo.verify(setpoint), setpoint=setpoint, laser=lit)

    def _record(self, recording: Recording, exposed: _Exposed) -> _Reading:
        image = exposed.image
        recording.append(image, exposed.background, servo=exposed.servo)
        # Only now: a background that is not in the file is not that of any image.
        background = self._background = exposed.background or self._background
        values: dict[str, Any] = {
            **recording.datum_ids,
            self.servo.name: exposed.servo,
            f"{self.servo.name}_setpoint": exposed.setpoint,
            self.laser.name: exposed.laser,
            f"{self.name}_peak": _brightest(image, background),
            self.exposure.name: image.count_time,
            f"{self.name}_timestamp": image.timestamp,
        }
        taken = {} if background is None else {f"{self.name}_background": background.timestamp}
        return OrderedDict(
            (key, {"value": value, "timestamp": taken.get(key, image.timestamp)}) for key, value in values.items()
        )

    def _take_dark(self) -> Exposure:
        """A frame without the laser, which is off since the last image; spots in it would go from the image."""
        dark = self.camera.grab(timeout=self.settings.camera.timeout)
        if self.laser.readback() > POWER_TOLERANCE:
            # Somebody else lit it.
            self.laser.off()
            dark = self.camera.grab(timeout=self.settings.camera.timeout)
            self.laser.verify(0.0)
        return dark

    def _expose(self) -> tuple[Exposure, float]:
        """An image, and the power that the laser had at its end; the laser is off then."""
        power = float(self.power.get())
        if not power:
            return self.camera.grab(timeout=self.settings.camera.timeout), self.laser.verify(0.0)
        try:
            self.laser.on(power)
            return self.camera.grab(timeout=self.settings.camera.timeout), self.laser.verify(power)
        finally:
            self.laser.off()

    @property
    def _backgrounds(self) -> Background:
        mode = self.background_mode.get()
        if mode not in ("each", "first", "none"):
            raise ValueError(f"{self.background_mode.name} is {mode!r}; it must be each, first or none.")
        return mode

    def _wait_for_trigger(self) -> None:
        # Longer than any camera time-out: a hung grab must not hang unstage. What went wrong, `read` says.
        if self._running is not None and wait([self._running], 2 * self.settings.camera.timeout + 1).not_done:
            self.log.error("the camera did not return; its frame is dropped")

    def shortage(self) -> str:
        """What the disk lacks for the frames of the next trigger, in words; empty where there is room."""
        return "" if self._recording is None else self._recording.shortage()

    # -- Readable ------------------------------------------------------------------------------------------------

    def describe(self) -> OrderedDict[str, Any]:
        """Data keys of `primary`; frames are (y, x, channel), u1, counts; `peak` is the brightest spot."""
        shape = list(self.camera.source.shape)
        described: OrderedDict[str, Any] = OrderedDict()
        for key, dataset in fields_of(self._backgrounds).items():
            described[key] = {
                "source": f"FILE:{dataset}",
                "dtype": "array",
                "shape": shape,
                "dtype_numpy": "|u1",
                "external": "FILESTORE:",
                "units": "counts",
                "dims": list(layout.FRAME_DIMS),
            }
        described.update(self.servo.describe())
        described.update(self.laser.describe())
        own = {"source": f"PY:{self.name}", "dtype": "number", "shape": []}
        described[f"{self.name}_peak"] = {**own, "units": "counts", "precision": 1}
        described.update(self.exposure.describe())
        described[f"{self.name}_timestamp"] = {**own, "units": "s", "precision": 3}
        return described

    def read(self) -> OrderedDict[str, Any]:
        """What the last trigger measured, once it is on disk; reading twice gives the same.

        Raises
        ------
        RuntimeError
            Nothing has been triggered since `stage`.
        catalog.errors.DataRootError
            The disk refused the frames.
        """
        reading: _Reading | None = None
        if self._running is not None and self._triggered is not None and self._triggered.done:
            reading = self._running.result()
        if reading is None:
            raise RuntimeError(f"{self.name} has no frame: trigger it before reading.")
        return reading.copy()

    @property
    def hints(self) -> dict[str, list[str]]:
        """What a live table shows beside the angle."""
        return {"fields": [f"{self.name}_peak", self.laser.name]}

    # -- WritesExternalAssets ------------------------------------------------------------------------------------

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Resource and datum documents of the last trigger, once."""
        return iter(()) if self._recording is None else self._recording.collect()


def _brightest(image: Exposure, background: Exposure | None) -> float:
    """The brightest 8 x 8 pixels of image - background in red, counts: so large that no hot pixel is it."""
    seen = image.data if background is None else cv2.subtract(image.data, background.data)
    red = cv2.extractChannel(seen, _RED)
    for _ in range(3):  # by 2 each time: three times as fast as by 8
        red = cv2.resize(red, (max(1, red.shape[1] // 2), max(1, red.shape[0] // 2)), interpolation=cv2.INTER_AREA)
    return float(red.max())
