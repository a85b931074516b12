"""The instrument as ophyd devices: a servo, a laser that must be held on, and the camera's frames in a file.

Everything that moves or shines is behind PVs (`acquisition.ioc`); the camera is here, because Channel Access is for
scalars, not for frames.
"""

from __future__ import annotations

from acquisition.devices.connection import IOCUnreachable, connect, dead_pvs
from acquisition.devices.laser import Laser, LaserError
from acquisition.devices.lunchbox import LunchBox
from acquisition.devices.servo import AngleLimitError, Servo, ServoError
from acquisition.devices.simulated_bench import SimulatedBench

__all__ = [
    "AngleLimitError",
    "IOCUnreachable",
    "Laser",
    "LaserError",
    "LunchBox",
    "Servo",
    "ServoError",
    "SimulatedBench",
    "connect",
    "dead_pvs",
]
