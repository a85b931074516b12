"""A scan to which something happens: what runs in the processes that the tests of faults end in every way."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (96, 128, 3)
COUNT_TIME = 0.08
#: s; a camera that hangs is given up after this and half a second.
CAMERA_TIMEOUT = 1.0
#: More than the scan lives to take, unless nothing ends it.
POINTS = {"success": 2, "pause": 12}
ENDLESS = 60


def say(**what: Any) -> None:
    os.write(1, (json.dumps({**what, "at": time.monotonic()}) + "\n").encode())


def frame(number: int, *, lit: bool) -> np.ndarray:
    """Frame `number` of the camera: it tells its number, and whether the laser shone all through its exposure."""
    pixels = (np.arange(np.prod(SHAPE)) + number).astype("u1").reshape(SHAPE)
    pixels[-1, -1, -1] = 255 * lit
    return pixels


def is_whole(pixels: np.ndarray, *, lit: bool) -> bool:
    return bool(np.array_equal(pixels, frame(int(pixels[0, 0, 0]), lit=lit)))


class Camera:
    """Looks at the Pico's pin."""

    name = "watching"
    count_time = COUNT_TIME
    shape = SHAPE

    def __init__(self, pins: Path) -> None:
        self._pins = pins
        self._number = 0
        self.fault = ""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def set_count_time(self, count_time: float, /) -> None: ...

    def settings(self) -> dict[str, Any]:
        return {"model": self.name}

    @property
    def lit(self) -> bool:
        return self._laser()[1] > 0

    def _laser(self) -> tuple[float, int]:
        """When the laser's pin last changed, and to what."""
        lines = [line.split() for line in self._pins.read_bytes().split(b"\n")[:-1]]
        moment, _, duty = next(line for line in reversed(lines) if line[1] == b"15")
        return float(moment), int(duty)

    def grab(self) -> Any:
        from acquisition.camera import Exposure
        from acquisition.worker import CameraError

        began, before = time.time(), self._laser()
        over = time.monotonic() + COUNT_TIME
        while time.monotonic() < over:
            time.sleep(0.005)
            if self.fault == "raise":
                raise CameraError("watching: the lens cap is on")
            while self.fault == "hang":
                time.sleep(1)
        lit = before[1] > 0 and self._laser() == before
        self._number += 1
        return Exposure(frame(self._number - 1, lit=lit), began + COUNT_TIME / 2, COUNT_TIME)


def scan(case: str, delay: float, lit: bool, data_root: str, pins: str) -> None:
    """Scan, and do to the scan what `case` says, unless others do it.

    `delay` s after its second frame; if `lit`, once the laser is on after that.
    """
    from acquisition.plans import angle_scan
    from acquisition.session import open_session
    from config import load_settings

    settings = load_settings(data_root=Path(data_root))
    camera_settings = settings.acquisition.camera.model_copy(
        update={"kind": "opencv", "count_time": COUNT_TIME, "timeout": CAMERA_TIMEOUT}
    )
    # Many scans begin at once here, on two cores.
    acquisition = settings.acquisition.model_copy(update={"camera": camera_settings, "connect_timeout": 20.0})
    settings = settings.model_copy(update={"acquisition": acquisition})
    session = open_session(settings)
    camera = Camera(Path(pins))
    session.lunchbox.camera.source = camera
    session.lunchbox.laser.arm(True)
    RE, plan = session.RE, angle_scan(session.lunchbox, start=0, stop=20, num=POINTS.get(case, ENDLESS))

    def fault() -> None:
        while lit and not camera.lit:
            time.sleep(0.005)
        time.sleep(0.1 * delay * lit)
        say(fault=case)
        if case in ("exception", "hung camera"):
            camera.fault = "raise" if case == "exception" else "hang"
        elif case in ("abort", "stop", "halt", "pause"):
            RE.request_pause(defer=False)

    def watch(name: str, document: dict[str, Any]) -> None:
        if name == "event" and document["seq_num"] == 2 and "lunchbox_image" in document["data"]:
            say(scanning=True)
            threading.Timer(delay, fault).start()

    try:
        if case in ("abort", "stop", "halt", "pause"):
            _interactively(session, plan, watch, case)
        else:
            session.run(plan, watch)
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
    say(over=case)
    session.close()
    say(closed=True)


def _interactively(session: Any, plan: Any, watch: Any, case: str) -> None:
    """As somebody at a prompt does: Ctrl-C pauses, then it is his turn."""
    from bluesky.utils import RunEngineInterrupted

    RE = session.RE
    try:
        RE(plan, watch)
    except RunEngineInterrupted:
        say(paused=True)
        if case == "pause":
            time.sleep(0.5)
            say(resumed=True)
            RE.resume()
        else:
            getattr(RE, case)()
