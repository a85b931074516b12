"""The IOC that all tests of this process talk to, and what must hold around every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings, SimulatedServo

IDEAL_SERVO = SimulatedServo(dead_band_deg=0, backlash_deg=0, jitter_deg=0, travel_time=0.0005, settle_time=0)


@pytest.fixture(scope="session")
def ioc() -> Iterator[IOCProcess]:
    """A real IOC with an ideal simulated servo, on ports of its own."""
    with IOCProcess(IOCSettings(simulated=IDEAL_SERVO)) as process:
        # Channel Access of this process reads the environment once, with its first PV.
        os.environ.update(process.environment)
        yield process
