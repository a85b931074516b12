"""What a camera is; the one that looks at the simulated bench; and what all have in common that have a driver."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

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


class DriverCamera(ABC):
    """A camera behind a driver, which may hang: whatever it is asked for, a thread of its own asks.

    Parameters
    ----------
    name : str
    count_time : float, s
        With which each `open` begins.
    timeout : float, s
        For one grab, or to open. A driver that hangs is left to itself.
    """

    def __init__(self, name: str, *, count_time: float, timeout: float) -> None:
        self.name = name
        self.count_time = self._fixed_count_time = count_time
        self._timeout = timeout
        self._shape: tuple[int, int, int] | None = None
        self._settings: dict[str, Any] = {}
        self._worker: Worker | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        if self._shape is None:
            raise CameraError(f"{self.name} is not open; its frames' shape is known once it is")
        return self._shape

    def open(self) -> None:
        if self._worker is None:
            self._worker = Worker(self.name)
        self.count_time = self._fixed_count_time
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
        return self._opened().do(self._grab, self._timeout)

    def set_count_time(self, count_time: float, /) -> None:
        if count_time != self.count_time:
            self._opened().do(lambda: self._expose(count_time), self._timeout)

    def settings(self) -> dict[str, Any]:
        return dict(self._settings)

    def _opened(self) -> Worker:
        if self._worker is None:
            raise CameraError(f"{self.name} is not open")
        return self._worker

    @abstractmethod
    def _open(self) -> None:
        """Open the driver, for `count_time`, and fill in `_shape` and `_settings`."""

    @abstractmethod
    def _release(self) -> None:
        """Give back what `_open` took, however far it came."""

    @abstractmethod
    def _grab(self) -> Exposure: ...

    @abstractmethod
    def _expose(self, count_time: float) -> None:
        """Change the exposure, and `count_time`."""
