"""Cameras that are quick, for tests of what is done with their frames."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from acquisition.camera import Exposure
from acquisition.worker import CameraError


class ArrayCamera:
    """Frames made of their own number, ready at once: frame n of this camera is n + pixel index, modulo 256."""

    name = "array"
    count_time = 0.0

    def __init__(self, shape: tuple[int, int, int] = (12, 16, 3)) -> None:
        self.shape = shape
        self.n_grabbed = 0
        self.is_open = False
        self.fail_at: int | None = None
        self.hang = threading.Event()
        self.hang.set()

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False

    def frame(self, number: int) -> np.ndarray:
        return (np.arange(np.prod(self.shape)) + number).astype("u1").reshape(self.shape)

    def grab(self) -> Exposure:
        if not self.hang.wait(timeout=3):
            raise CameraError("array camera: no frame in 3 s")
        if self.n_grabbed == self.fail_at:
            raise CameraError("array camera: the lens cap is on")
        self.n_grabbed += 1
        return Exposure(data=self.frame(self.n_grabbed - 1), timestamp=time.time(), count_time=self.count_time)

    def set_count_time(self, count_time: float, /) -> None:
        self.count_time = count_time

    def settings(self) -> dict[str, Any]:
        return {"model": self.name, "count_time": self.count_time}
