"""A Raspberry Pi's own camera, by the library that its operating system ships: picamera2.

It comes with the system (`apt install python3-picamera2`) and is not on the package index for other machines, so it is
imported when a camera is opened, and never otherwise.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from acquisition.camera import DriverCamera, Exposure
from acquisition.worker import CameraError

#: Relative; a sensor exposes by whole rows, so that the time it takes is not quite the one it is asked for.
_TIME_TOLERANCE = 0.03


class Picamera2Camera(DriverCamera):
    """The camera at one of the board's own ribbon cables.

    Parameters
    ----------
    number : int
        Of the camera, from 0.
    count_time : float, s
        Exposure time; the sensor's own, so that nothing else needs to be set.
    gain : float, optional
        Analogue, 1 is the least. None leaves 1.
    colour_gains : (float, float), optional
        Of red and blue, in place of the automatic white balance; None: 1 and 1.
    size : (width, height), px, optional
        None: the sensor's.
    timeout : float, s
        For one grab, or to open.
    """

    def __init__(
        self,
        number: int = 0,
        *,
        count_time: float = 0.030,
        gain: float | None = None,
        colour_gains: tuple[float, float] | None = None,
        size: tuple[int, int] | None = None,
        timeout: float = 5.0,
    ) -> None:
        super().__init__(f"Raspberry Pi camera {number}", count_time=count_time, timeout=timeout)
        self._number = number
        self._gain = 1.0 if gain is None else gain
        self._colour_gains = colour_gains or (1.0, 1.0)
        self._size = size
        self._camera: Any = None

    def _open(self) -> None:
        Picamera2 = picamera2_class()
        cameras = Picamera2.global_camera_info()
        if self._number >= len(cameras):
            raise CameraError(
                f"{self.name} is not there; {len(cameras)} found. Check its ribbon cable, and that `rpicam-hello "
                "--list-cameras` lists it; camera.source in the configuration is its number."
            )
        camera = self._camera = Picamera2(self._number)
        size = self._size or camera.sensor_resolution
        # In picamera2's names BGR888 is the one whose bytes are R, G, B.
        main = {"format": "BGR888", "size": size}
        camera.configure(camera.create_video_configuration(main=main, controls=self._controls()))
        width, height = camera.camera_configuration()["main"]["size"]
        self._shape = (height, width, 3)
        camera.start()
        found = self._request(time.monotonic_ns())[1]
        self._settings = {
            "model": str(cameras[self._number].get("Model", "picamera2")),
            "source": str(self._number),
            "count_time": self.count_time,
            "gain_wanted": self._gain,
            "gain": float(found["AnalogueGain"]),
            "exposure": float(found["ExposureTime"]),
            "red_gain": float(found["ColourGains"][0]),
            "blue_gain": float(found["ColourGains"][1]),
            "pixel_format": "BGR888",
        }

    def _controls(self) -> dict[str, Any]:
        microseconds = round(self.count_time * 1e6)
        return {
            "AeEnable": False,
            "AwbEnable": False,
            "ExposureTime": microseconds,
            "AnalogueGain": self._gain,
            "ColourGains": self._colour_gains,
            # The frame is as long as it must be, and no longer.
            "FrameDurationLimits": (microseconds, max(microseconds, 33_333)),
        }

    def _expose(self, count_time: float) -> None:
        self.count_time = count_time
        self._camera.set_controls(self._controls())

    def _release(self) -> None:
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.stop()
            camera.close()

    def _grab(self) -> Exposure:
        data, metadata = self._request(time.monotonic_ns())
        if data.shape != self._shape:
            raise CameraError(f"{self.name} delivered a frame of shape {data.shape}, not {self._shape}")
        age = (time.monotonic_ns() - int(metadata["SensorTimestamp"])) * 1e-9
        count_time = int(metadata["ExposureTime"]) * 1e-6
        return Exposure(data, time.time() - age - count_time / 2, count_time)

    def _request(self, called: int) -> tuple[Any, dict[str, Any]]:
        """Pixels and metadata of the first frame that began after `called` (ns, monotonic), exposed as it should be."""
        wanted = self.count_time * 1e6
        give_up = time.monotonic() + self._timeout
        while time.monotonic() < give_up:
            request = self._camera.capture_request()
            try:
                metadata = request.get_metadata()
                exposed = int(metadata["ExposureTime"])
                # The sensor's time is the end of the first row's exposure, on the monotonic clock.
                fresh = int(metadata["SensorTimestamp"]) - 1000 * exposed >= called
                if fresh and abs(exposed - wanted) <= _TIME_TOLERANCE * wanted + 100:
                    return np.array(request.make_array("main")), metadata
            finally:
                request.release()
        raise CameraError(
            f"{self.name} gave no frame of {self.count_time:g} s in {self._timeout:g} s. The sensor may not reach this "
            "exposure: set acquisition.camera.count_time, or a longer timeout."
        )


def picamera2_class() -> Any:
    """`picamera2.Picamera2`; raises `CameraError` that says how to get it."""
    try:
        from picamera2 import Picamera2
    except ImportError as error:
        raise CameraError(
            f"picamera2 is not installed ({error}). On a Raspberry Pi: sudo apt install python3-picamera2, and a .venv "
            "that sees it (python3 -m venv --system-site-packages .venv). Else set acquisition.camera.kind to opencv."
        ) from None
    return Picamera2
