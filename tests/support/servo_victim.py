"""Scans on a servo with a fault, in a process of their own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from victim import say


def scans(folder: str, timeout: float, times: int) -> None:
    """Scan up to `times` times, until one succeeds; tell of each its documents, its error, and how long it took.

    `took` is s from the last event, or from the start, to the error.
    """
    from bluesky import RunEngine
    from bluesky.utils import FailedStatus
    from cameras import ArrayCamera

    from acquisition.devices import LunchBox
    from acquisition.plans import angle_scan
    from acquisition.settings import AcquisitionSettings, ServoSettings

    settings = AcquisitionSettings(servo=ServoSettings(timeout=timeout, tolerance=1.0))
    device = LunchBox("LUNCHBOX:", name="lunchbox", camera=ArrayCamera(), frames_dir=Path(folder), settings=settings)
    device.wait_for_connection()
    RE = RunEngine(context_managers=[])
    for _ in range(times):
        documents: list[tuple[str, dict[str, Any]]] = []
        moments = [time.monotonic()]

        def collect(name: str, document: dict[str, Any], documents: Any = documents, moments: Any = moments) -> None:
            documents.append((name, document))
            if name == "event":
                moments.append(time.monotonic())

        said = ""
        try:
            RE(angle_scan(device, start=10, stop=40, num=4), collect)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, FailedStatus) else error
            said = f"{type(cause).__name__}: {cause}"
        say(documents=documents, error=said, took=time.monotonic() - moments[-1])
        if not said:
            break
        time.sleep(0.2)
