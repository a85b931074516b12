"""A stand-in for picamera2, which exists on Raspberry Pis only: the part of its documented interface that we use.

What it keeps of the real one: frames come at their own pace, whoever asks; completed requests wait in a queue, so that
`capture_request` hands out old ones; each must be released, or the camera runs out of buffers; a control takes a few
frames to act, and metadata tell what the sensor did; SensorTimestamp is the end of the first row's exposure, in ns of
the monotonic clock; "BGR888" is an array of R, G, B.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, ClassVar

import numpy as np

FRAMES_UNTIL_CONTROLS_ACT = 3
SENSOR = (64, 48)


class Request:
    def __init__(self, owner: Picamera2, number: int, metadata: dict[str, Any]) -> None:
        self._owner, self._number, self._metadata = owner, number, metadata
        self._released = False

    def get_metadata(self) -> dict[str, Any]:
        assert not self._released
        return dict(self._metadata)

    def make_array(self, name: str) -> np.ndarray:
        assert not self._released
        assert name == "main"
        width, height = self._owner.camera_configuration()["main"]["size"]
        frame = np.zeros((height, width, 3), np.uint8)
        # Red in the first channel, as BGR888 has it.
        frame[..., 0], frame[..., 1] = 200, self._number % 256
        return frame

    def release(self) -> None:
        assert not self._released, "released twice"
        self._released = True
        self._owner.buffers.release()


class Picamera2:
    cameras: ClassVar[list[dict[str, Any]]] = [{"Model": "imx708", "Rotation": 180, "Id": "/base/i2c@1", "Num": 0}]
    instances: ClassVar[list[Picamera2]] = []
    #: us; a sensor that cannot expose longer.
    longest = 112_015_443

    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [dict(camera) for camera in Picamera2.cameras]

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num >= len(self.cameras):
            raise IndexError("list index out of range")
        self.sensor_resolution = SENSOR
        self.closed = False
        self._running = False
        self._configuration: dict[str, Any] = {}
        self._pending: deque[tuple[int, dict[str, Any]]] = deque()
        self._acting: dict[str, Any] = {"ExposureTime": 10_000, "AnalogueGain": 2.0, "ColourGains": (1.7, 1.9)}
        self._done: deque[Request] = deque()
        self._arrived = threading.Condition()
        self.frames = 0
        Picamera2.instances.append(self)

    def create_video_configuration(self, main: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
        return {"main": dict(main), "controls": dict(controls), "buffer_count": 6}

    def configure(self, configuration: dict[str, Any]) -> None:
        self._configuration = configuration
        self.buffers = threading.Semaphore(configuration["buffer_count"])
        self.set_controls(configuration["controls"])

    def camera_configuration(self) -> dict[str, Any]:
        return self._configuration

    def set_controls(self, controls: dict[str, Any]) -> None:
        known = {"AeEnable", "AwbEnable", "ExposureTime", "AnalogueGain", "ColourGains", "FrameDurationLimits"}
        assert controls.keys() <= known, f"libcamera refuses {controls.keys() - known}"
        self._pending.append((self.frames + FRAMES_UNTIL_CONTROLS_ACT, dict(controls)))

    def start(self) -> None:
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._running = False
        self._thread.join(2)

    def close(self) -> None:
        self.closed = True

    def capture_request(self) -> Request:
        with self._arrived:
            while not self._done:
                self._arrived.wait()
            return self._done.popleft()

    def _run(self) -> None:
        while self._running:
            while self._pending and self._pending[0][0] <= self.frames:
                self._acting |= self._pending.popleft()[1]
            exposure = min(int(self._acting["ExposureTime"]), self.longest)
            # Whole rows.
            exposure -= exposure % 14
            time.sleep(max(exposure * 1e-6, 0.005))
            self.frames += 1
            metadata = {
                "SensorTimestamp": time.monotonic_ns(),
                "ExposureTime": exposure,
                "AnalogueGain": float(self._acting["AnalogueGain"]),
                "ColourGains": tuple(self._acting["ColourGains"]),
            }
            if not self.buffers.acquire(blocking=False):
                with self._arrived:
                    if not self._done:
                        continue
                    # The oldest makes room, as the queue of the real one does.
                    self._done.popleft().release()
                self.buffers.acquire()
            with self._arrived:
                self._done.append(Request(self, self.frames, metadata))
                self._arrived.notify()
