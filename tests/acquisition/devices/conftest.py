"""The `LunchBox` device on the real IOC, with a camera that is ready at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cameras import ArrayCamera

from acquisition.ioc.process import IOCProcess


@pytest.fixture
def camera() -> ArrayCamera:
    return ArrayCamera()


@pytest.fixture
def lunchbox(ioc: IOCProcess, camera: ArrayCamera, tmp_path: Path) -> Iterator[Any]:
    from acquisition.devices import LunchBox

    device = LunchBox(ioc.prefix, camera=camera, frames_dir=tmp_path)
    device.wait_for_connection()
    device.servo.set(0.0).wait(timeout=10)
    yield device
    device.unstage()
    device.destroy()


@pytest.fixture
def RE() -> Any:  # noqa: N802 - bluesky's name
    from bluesky.run_engine import RunEngine

    engine = RunEngine(context_managers=[])
    yield engine
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()
    engine.loop.close()


@pytest.fixture
def documents() -> list[tuple[str, dict[str, Any]]]:
    return []
