"""The camera as part of the `LunchBox`: its frames, and what the documents say of it."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from ophyd import Device, Signal
from ophyd.utils.epics_pvs import data_shape, data_type

from acquisition.camera import Camera, Exposure
from acquisition.worker import Worker


class CameraDevice(Device):
    """Frames of a camera, which may hang, and its settings as configuration."""

    source: Camera
    _worker: Worker | None = None

    def grab(self, *, timeout: float) -> Exposure:
        """A frame of the camera, or `CameraError`: one that hangs keeps its thread, not the laser."""
        if self._worker is None:
            self._worker = Worker(self.source.name)
        # Longer than the camera's own time-out, which says better what is wrong.
        return self._worker.do(self.source.grab, timeout + 0.5)

    def describe_configuration(self) -> OrderedDict[str, Any]:
        described = super().describe_configuration()
        for key, value in self.source.settings().items():
            described[f"{self.name}_{key}"] = {
                "source": f"PY:{type(self.source).__name__}.{key}",
                "dtype": data_type(value),
                "shape": list(data_shape(value)),
            }
        return described

    def read_configuration(self) -> OrderedDict[str, Any]:
        read = super().read_configuration()
        now = time.time()
        for key, value in self.source.settings().items():
            read[f"{self.name}_{key}"] = {"value": value, "timestamp": now}
        return read


class ExposureTime(Signal):
    """s, of the frames of the triggers that follow; `stage` sets it to the camera's."""

    def describe(self) -> OrderedDict[str, Any]:
        described = super().describe()
        described[self.name] = {**described[self.name], "units": "s", "precision": 4}
        return described
