"""Checks of the bench: PVs, the link behind them, the serial device, the camera."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.errors import LunchBoxError
from lunchbox.finding import Finding, Findings

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from config import LunchBoxSettings

#: Share of a frame's pixels that may be at the end of the range without a word.
_FEW = 0.001


def pvs(settings: LunchBoxSettings) -> Findings:
    """Whether each PV answers, and whether the link behind them does."""
    from acquisition.devices import IOCUnreachable, Laser, Servo, SimulatedBench, connect

    devices: list[Any] = [Servo(f"{settings.prefix}SERVO", name="servo"), Laser(settings.prefix, name="laser")]
    if settings.acquisition.camera.kind == "simulated":
        devices.append(SimulatedBench(settings.prefix, name="bench"))
    servo, laser = devices[:2]
    try:
        connect(*devices, timeout=settings.acquisition.connect_timeout)
        severity = int(servo.readback.alarm_severity or 0)
        status = str(laser.status.get(use_monitor=False))
        power, angle = float(laser.power.get(use_monitor=False)), float(servo.readback.get(use_monitor=False))
    except IOCUnreachable as error:
        yield Finding("pvs", "broken", *_two_parts(str(error)))
        return
    except TimeoutError as error:
        yield Finding("pvs", "broken", f"the IOC stopped answering ({error})", "start it again with `lunchbox ioc`")
        return
    finally:
        for device in devices:
            device.destroy()
    if severity >= 3:
        yield Finding("pvs", "broken", f"{settings.prefix}SERVO:RBV is invalid: {status}", "see check `serial`")
        return
    yield Finding("pvs", "ok", f"all of {settings.prefix}* answer; servo at {angle:.2f} deg; {status}")
    if power > 0:
        yield Finding(
            "laser", "warning", f"the laser is on ({power:g}), for another client", "do not look into the beam"
        )


def serial(settings: LunchBoxSettings, *, devices: Path = Path("/dev")) -> Findings:
    """Whether the Pico's device is there and may be used. It is not opened: it belongs to the IOC."""
    if settings.ioc.link != "pico":
        yield Finding("serial", "ok", f"not used: ioc.link is {settings.ioc.link}")
        return
    device = Path(settings.ioc.pico.device)
    if not device.exists():
        others = [str(path) for pattern in ("ttyACM*", "ttyUSB*") for path in sorted(devices.glob(pattern))]
        yield Finding(
            "serial",
            "broken",
            f"{device} is not there; others: {', '.join(others) or 'none'}",
            "plug the Pico in, or set ioc.pico.device (a name below /dev/serial/by-id does not change)",
        )
    elif not os.access(device, os.R_OK | os.W_OK):
        yield Finding(
            "serial",
            "broken",
            f"{device} may not be read and written by this user",
            "sudo usermod --append --groups dialout $USER, then log in again",
        )
    else:
        yield Finding("serial", "ok", f"{device} is there")


def camera(settings: LunchBoxSettings) -> Findings:
    """Whether the camera gives a frame, as it was told to, that is neither black nor full."""
    from acquisition.cameras import real_camera

    if settings.acquisition.camera.kind == "simulated":
        yield Finding("camera", "ok", f"simulated, bench of seed {settings.bench.seed}")
        return
    yield from frame_of(real_camera(settings.acquisition.camera))


def frame_of(camera: Camera) -> Findings:
    """The same of a camera that is at hand."""
    try:
        camera.open()
        frame = camera.grab().data
        told = camera.settings()
    except LunchBoxError as error:
        yield Finding("camera", "broken", *_two_parts(str(error)))
        return
    finally:
        with contextlib.suppress(LunchBoxError):
            camera.close()
    height, width, _ = frame.shape
    yield Finding(
        "camera", "ok", f"{camera.name}, {told.get('model', '')}: {width} x {height}, mean {frame.mean():.1f}"
    )
    for name, wanted in told.items():
        if not name.endswith("_wanted"):
            continue
        found = told[name.removesuffix("_wanted")]
        same = found == wanted if isinstance(wanted, str) else abs(found - wanted) <= max(1.0, 0.02 * abs(wanted))
        if not same:
            yield Finding(
                "camera",
                "warning",
                f"{name.removesuffix('_wanted')} is {found}, and {wanted} was asked for",
                "give a value that the driver takes (v4l2-ctl --list-ctrls says which)",
            )
    full = float((frame == 255).mean())
    if frame.max() < 3:
        yield Finding(
            "camera", "warning", "the frame is black", "take the cap off; expose longer (count_time, exposure, gain)"
        )
    elif full > _FEW:
        yield Finding(
            "camera",
            "warning",
            f"{100 * full:.1f} % of the frame are saturated with the laser off",
            "darken the room, or expose shorter (count_time, exposure, gain)",
        )


def _two_parts(message: str) -> tuple[str, str]:
    """What, and the remedy, of an error that says both."""
    what, _, remedy = message.partition(". ")
    return what, remedy
