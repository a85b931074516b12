"""A camera that OpenCV opens: a device, a stream or a file."""

from __future__ import annotations

import statistics
import time
from collections import deque
from dataclasses import dataclass

import cv2

from acquisition.camera import DriverCamera, Exposure
from acquisition.worker import CameraError


@dataclass(frozen=True, kw_only=True)
class FixedExposure:
    """What a real camera must not choose by itself, in the driver's own units; None leaves the driver's value.

    A multiple of the mains flicker's period makes the light of lamps the same in every frame: 30.0 ms for 100 Hz,
    33.3 ms for 120 Hz. V4L2 counts exposures in units of 0.1 ms.
    """

    exposure: float | None = None
    gain: float | None = None
    white_balance: float | None = None
    #: Four characters: YUYV is what the sensor saw; MJPG is compressed, with losses.
    pixel_format: str | None = None
    #: px
    width: int | None = None
    height: int | None = None


_V4L2_MANUAL_EXPOSURE = 1
#: Frames that a sensor has begun, or a driver planned, before it hears of a new exposure.
_FRAMES_UNDER_WAY = 4
_PROPERTIES = {
    # First, for what a driver can do else depends on it.
    "pixel_format": cv2.CAP_PROP_FOURCC,
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "gain": cv2.CAP_PROP_GAIN,
    "white_balance": cv2.CAP_PROP_WB_TEMPERATURE,
}


class OpenCVCamera(DriverCamera):
    """A camera, a stream, a video or a sequence of images: whatever `cv2.VideoCapture` opens.

    A driver hands out frames that it took a while ago. Those of a device or a stream are taken from it as they come,
    whoever asks, so that none wait there, and `grab` throws away what was exposed before it was called; from a file,
    each `grab` is the next frame.

    Parameters
    ----------
    source : int or str
        Number of a device, or its path, or a URL, or a file (`frames/%03d.png` is a sequence of images).
    count_time : float, s
        Exposure time, as the run records it.
    fixed : FixedExposure
        Set when the camera opens and read back; `settings` tells both, since drivers refuse silently.
    latency : float, s
        From the end of an exposure until the driver has the frame.
    timeout : float, s
        For one grab, or to open. A driver that hangs is left to itself.
    """

    def __init__(
        self,
        source: int | str,
        *,
        count_time: float = 0.030,
        fixed: FixedExposure | None = None,
        latency: float = 0.03,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(f"camera {source}", count_time=count_time, timeout=timeout)
        self._source = source
        self._live = isinstance(source, int) or "://" in source or source.startswith("/dev/")
        self._fixed = FixedExposure() if fixed is None else fixed
        self._latency = latency
        self._took: deque[float] = deque(maxlen=15)
        self._capture: cv2.VideoCapture | None = None

    @property
    def _driver(self) -> cv2.VideoCapture:
        if self._capture is None:
            raise CameraError(f"{self.name} is not open")
        return self._capture

    def _expose(self, count_time: float) -> None:
        if not self._live or self._fixed.exposure is None:
            raise CameraError(
                f"{self.name}: its exposure cannot be changed to {count_time:g} s. That needs a camera, not a file, "
                "and acquisition.camera.exposure, the driver's value for acquisition.camera.count_time."
            )
        # The driver's unit is taken to grow with the time, as that of V4L2 does.
        wanted = self._fixed.exposure * count_time / self._fixed_count_time
        self._driver.set(cv2.CAP_PROP_EXPOSURE, wanted)
        found = self._driver.get(cv2.CAP_PROP_EXPOSURE)
        # A driver counts in steps, and refuses silently.
        if abs(found - wanted) > max(1.0, 0.02 * wanted):
            raise CameraError(f"{self.name} does not take an exposure of {wanted:g} (its own unit); it is at {found:g}")
        self.count_time = count_time
        for _ in range(_FRAMES_UNDER_WAY):
            self._driver.grab()

    def _open(self) -> None:
        # The error that is raised here says it better than OpenCV's warnings on standard error.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        capture = self._capture = cv2.VideoCapture(self._source)
        if not capture.isOpened():
            raise CameraError(
                f"{self.name} does not open. Check that it is plugged in, that no other program uses it and that you "
                "may read it (group 'video'); camera.source in the configuration names it."
            )
        if self._live:
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _V4L2_MANUAL_EXPOSURE)
            capture.set(cv2.CAP_PROP_AUTO_WB, 0)
            # A file has the pixels that it has.
            wanted = {name: getattr(self._fixed, name) for name in _PROPERTIES}
        else:
            wanted = dict.fromkeys(_PROPERTIES)
        for name, value in wanted.items():
            if value is not None:
                capture.set(_PROPERTIES[name], _fourcc(value) if name == "pixel_format" else value)
        if self._live:
            self._opened().idle = self._drain
        self._shape = (
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            3,
        )
        # What the driver took may differ from what it was told to: both are told.
        self._settings = {
            "model": f"OpenCV {capture.getBackendName()}",
            "source": str(self._source),
            "count_time": self.count_time,
            **{f"{name}_wanted": value for name, value in wanted.items() if value is not None},
            **{name: capture.get(number) for name, number in _PROPERTIES.items()},
            "pixel_format": _characters(int(capture.get(cv2.CAP_PROP_FOURCC))),
        }

    def _release(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _drain(self) -> bool:
        # One that fails will fail again when it is asked for, and is told then.
        return self._capture is not None and self._next() is not None

    def _next(self) -> float | None:
        """Take the driver's next frame; how long it took, s, or None where there is none."""
        began = time.monotonic()
        if not self._driver.grab():
            return None
        self._took.append(time.monotonic() - began)
        return self._took[-1]

    def _grab(self) -> Exposure:
        called = time.monotonic()
        while True:
            took = self._next()
            if took is None:
                raise CameraError(f"{self.name} has no more frames: it was unplugged, or the file has ended")
            now = time.monotonic()
            ended = self._stamp(now) if self._live else now
            if ended is None:
                # A frame that waited in the driver is there at once, and one that is new takes about as long as any.
                waited = took >= 0.5 * statistics.median(self._took)
                ended = now - self._latency if waited else called
            if not self._live or ended - self.count_time >= called:
                break
        age = now - ended + self.count_time / 2 if self._live else 0.0
        timestamp = time.time() - age
        arrived, image = self._driver.retrieve()
        if not arrived:
            raise CameraError(f"{self.name} delivered a frame that cannot be decoded")
        frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if frame.shape != self._shape:
            raise CameraError(f"{self.name} delivered a frame of shape {frame.shape}, not {self._shape}")
        return Exposure(frame, timestamp, self.count_time)

    def _stamp(self, now: float) -> float | None:
        """When the last frame ended, s, monotonic, where the driver tells: V4L2 does; a stream has a clock of its own.

        A driver that stamps the beginning makes frames seem older than they are, which costs one frame.
        """
        stamp = float(self._driver.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        is_device = isinstance(self._source, int) or self._source.startswith("/dev/")
        return stamp if is_device and now - 60 < stamp <= now else None


def _fourcc(name: str) -> int:
    return int(cv2.VideoWriter.fourcc(*name))


def _characters(fourcc: int) -> str:
    """Of a FOURCC; empty where the driver has none."""
    return fourcc.to_bytes(4, "little").decode("latin-1").strip("\0 ") if 0 < fourcc < 1 << 32 else ""
