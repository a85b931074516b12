"""What a camera is, and two that there are: one that looks at the simulated bench, and one that OpenCV opens."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from acquisition.bench.scene import BenchState, Scene
from acquisition.worker import CameraError, Worker

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Exposure:
    """A frame and when it was taken.

    Attributes
    ----------
    data : ndarray, shape (y, x, 3), uint8, counts
        Channels R, G, B; pixel (0, 0) is the top left, y points down.
    timestamp : float, s since the epoch
        Of the middle of the exposure.
    count_time : float, s
    """

    data: Frame
    timestamp: float
    count_time: float


class Camera(Protocol):
    """What the instrument needs of a camera. Each `open` begins with the exposure time that it was made with."""

    name: str
    #: s, of one exposure
    count_time: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame: (y, x, 3). Known once open."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def grab(self) -> Exposure:
        """A frame whose exposure began after the call."""

    def set_count_time(self, count_time: float, /) -> None:
        """Expose the frames that are grabbed from now on for so many s; raises `CameraError` where that cannot be."""

    def settings(self) -> dict[str, Any]:
        """What a run records of the camera: numbers and strings."""


class SimulatedCamera:
    """Looks at a simulated bench.

    Parameters
    ----------
    scene : Scene
    state : callable
        What the bench is doing now; asked once per frame, in the middle of the exposure.
    count_time : float, s
    real_time : bool
        Take as long as the exposure would. Otherwise the shutter is infinitely fast, and only brightness and noise
        know of the exposure.
    """

    name = "simulated camera"

    def __init__(
        self, scene: Scene, state: Callable[[], BenchState], *, count_time: float = 0.030, real_time: bool = True
    ) -> None:
        self.count_time = self._fixed_count_time = count_time
        self._scene = scene
        self._state = state
        self._real_time = real_time

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._scene.shape

    def open(self) -> None:
        self.count_time = self._fixed_count_time

    def close(self) -> None:
        pass

    def grab(self) -> Exposure:
        half = self.count_time / 2 if self._real_time else 0.0
        time.sleep(half)
        timestamp = time.time()
        state = self._state()
        time.sleep(half)
        return Exposure(self._scene.render(state, exposure=self.count_time), timestamp, self.count_time)

    def set_count_time(self, count_time: float, /) -> None:
        self.count_time = count_time

    def settings(self) -> dict[str, Any]:
        return {"model": self.name, "count_time": self.count_time, "real_time": self._real_time}


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


class OpenCVCamera:
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
        self.name = f"camera {source}"
        self.count_time = self._fixed_count_time = count_time
        self._source = source
        self._live = isinstance(source, int) or "://" in source or source.startswith("/dev/")
        self._fixed = FixedExposure() if fixed is None else fixed
        self._latency = latency
        self._timeout = timeout
        self._shape: tuple[int, int, int] | None = None
        self._settings: dict[str, Any] = {}
        self._took: deque[float] = deque(maxlen=15)
        self._worker: Worker | None = None
        self._capture: cv2.VideoCapture | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        if self._shape is None:
            raise CameraError(f"{self.name} is not open; its frames' shape is known once it is")
        return self._shape

    def open(self) -> None:
        if self._worker is None:
            self._worker = Worker(self.name)
        try:
            self._worker.do(self._open, self._timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            # A driver that hangs keeps its thread; the process can end all the same.
            with contextlib.suppress(CameraError):
                worker.do(self._release, 1.0)
            worker.end()

    def grab(self) -> Exposure:
        if self._worker is None:
            raise CameraError(f"{self.name} is not open")
        return self._worker.do(self._grab, self._timeout)

    def set_count_time(self, count_time: float, /) -> None:
        """As `Camera` has it. The driver's unit is taken to grow with the time, as that of V4L2 does.

        Raises
        ------
        CameraError
            A file, no fixed exposure to start from, or a driver that did not take it.
        """
        if count_time == self.count_time:
            return
        if self._worker is None:
            raise CameraError(f"{self.name} is not open")
        if not self._live or self._fixed.exposure is None:
            raise CameraError(
                f"{self.name}: its exposure cannot be changed to {count_time:g} s. That needs a camera, not a file, "
                "and acquisition.camera.exposure, the driver's value for acquisition.camera.count_time."
            )
        self._worker.do(lambda: self._expose(count_time), self._timeout)

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def _expose(self, count_time: float) -> None:
        assert self._capture is not None
        assert self._fixed.exposure is not None
        wanted = self._fixed.exposure * count_time / self._fixed_count_time
        self._capture.set(cv2.CAP_PROP_EXPOSURE, wanted)
        found = self._capture.get(cv2.CAP_PROP_EXPOSURE)
        # A driver counts in steps, and refuses silently.
        if abs(found - wanted) > max(1.0, 0.02 * wanted):
            raise CameraError(f"{self.name} does not take an exposure of {wanted:g} (its own unit); it is at {found:g}")
        self.count_time = count_time
        for _ in range(_FRAMES_UNDER_WAY):
            self._capture.grab()

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
        self.count_time = self._fixed_count_time
        if self._live:
            assert self._worker is not None
            self._worker.idle = self._drain
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
        assert self._capture is not None
        began = time.monotonic()
        if not self._capture.grab():
            return None
        self._took.append(time.monotonic() - began)
        return self._took[-1]

    def _grab(self) -> Exposure:
        assert self._capture is not None
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
        arrived, image = self._capture.retrieve()
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
        assert self._capture is not None
        stamp = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1e3
        is_device = isinstance(self._source, int) or self._source.startswith("/dev/")
        return stamp if is_device and now - 60 < stamp <= now else None


def _fourcc(name: str) -> int:
    return int(cv2.VideoWriter.fourcc(*name))


def _characters(fourcc: int) -> str:
    """Of a FOURCC; empty where the driver has none."""
    return fourcc.to_bytes(4, "little").decode("latin-1").strip("\0 ") if 0 < fourcc < 1 << 32 else ""
