"""Clients of a laser whose other protections were taken away, for processes of their own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from victim import say


def light_and_fall_silent() -> None:
    """Light the laser by plain Channel Access and say nothing more: no device, no plan, no heartbeat."""
    from ioc import Client

    with Client() as client:
        client.put("LASER:ARM", 1)
        client.put("LASER", 1.0)
        say(lit=True)
        time.sleep(60)


def _device(kind: Any, folder: str) -> Any:
    from cameras import ArrayCamera

    device = kind("LUNCHBOX:", name="lunchbox", camera=ArrayCamera(), frames_dir=Path(folder))
    device.wait_for_connection()
    device.laser.arm(True)
    return device


def device(method: str, folder: str) -> None:
    """Hold the laser on for a while, then call one method of the device; no plan."""
    from acquisition.devices import LunchBox

    lunchbox = _device(LunchBox, folder)
    lunchbox.laser.on(1.0)
    say(lit=True)
    time.sleep(1.0)
    say(acts=True)
    getattr(lunchbox, method)()
    time.sleep(60)  # the process lives, and its heartbeat goes on if the laser is still wanted


def plan(with_finalizer: bool, end: str, folder: str) -> None:
    """Run a plan whose device lights the laser and never turns it off."""
    from bluesky import RunEngine
    from bluesky.plans import count as bare_count
    from bluesky.utils import RunEngineInterrupted
    from ophyd import Device
    from ophyd.status import DeviceStatus

    from acquisition.devices import LunchBox
    from acquisition.plans import count

    class Careless(LunchBox):
        stage, unstage, stop = Device.stage, Device.unstage, Device.stop

        def pause(self) -> None: ...

        def resume(self) -> None: ...

        def describe(self) -> Any:
            return Device.describe(self)

        def read(self) -> Any:
            return Device.read(self)

        def collect_asset_docs(self) -> Any:
            return iter(())

        def trigger(self) -> DeviceStatus:
            status = DeviceStatus(self)
            self.laser.on(1.0)
            say(lit=True)
            time.sleep(0.5)
            say(acts=True)
            if end == "exception":
                status.set_exception(RuntimeError("the trigger failed"))
            elif end == "abort":
                threading.Timer(0.1, RE.request_pause, kwargs={"defer": False}).start()
            else:
                status.set_finished()
            return status

    RE = RunEngine(context_managers=[])
    lunchbox = _device(Careless, folder)
    try:
        RE((count if with_finalizer else bare_count)([lunchbox]))
    except RunEngineInterrupted:
        RE.abort()
    except Exception as error:
        say(error=str(error))
    time.sleep(60)
