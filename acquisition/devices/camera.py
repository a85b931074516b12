"""What the documents say of the camera: its settings, and how long it exposes."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from ophyd import Device, Signal
from ophyd.utils.epics_pvs import data_shape, data_type

from acquisition.camera import Camera


class CameraConfiguration(Device):
    """The camera's settings, as configuration of the `LunchBox`."""

    source: Camera

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
