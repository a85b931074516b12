"""Which camera the settings mean, and which there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from acquisition.camera import Camera
from acquisition.opencv import FixedExposure, OpenCVCamera
from acquisition.picamera import Picamera2Camera, picamera2_class
from acquisition.settings import CameraSettings
from acquisition.worker import CameraError


def real_camera(settings: CameraSettings) -> Camera:
    """The camera of `kind: opencv` or `kind: picamera2`, not yet open."""
    if settings.kind == "picamera2":
        both = settings.width is not None and settings.height is not None
        return Picamera2Camera(
            int(settings.source),
            count_time=settings.count_time,
            gain=settings.gain,
            colour_gains=settings.colour_gains,
            size=(settings.width, settings.height) if both else None,  # type: ignore[arg-type]
            timeout=settings.timeout,
        )
    return OpenCVCamera(
        settings.source,
        count_time=settings.count_time,
        fixed=FixedExposure(
            exposure=settings.exposure,
            gain=settings.gain,
            white_balance=settings.white_balance,
            pixel_format=settings.pixel_format,
            width=settings.width,
            height=settings.height,
        ),
        timeout=settings.timeout,
    )


@dataclass(frozen=True)
class Found:
    """A camera that this machine has: what `acquisition.camera` needs to name it, and what it calls itself."""

    kind: str
    source: int
    model: str


def list_cameras(*, devices: Path = Path("/dev"), names: Path = Path("/sys/class/video4linux")) -> list[Found]:
    """Video devices that Linux knows (none is opened), and what picamera2 sees where it is installed."""
    found = []
    for device in sorted(devices.glob("video[0-9]*"), key=lambda path: int(path.name.removeprefix("video"))):
        name = names / device.name / "name"
        model = name.read_text(encoding="utf-8", errors="replace").strip() if name.is_file() else "video device"
        found.append(Found("opencv", int(device.name.removeprefix("video")), model))
    try:
        seen = picamera2_class().global_camera_info()
    except CameraError:
        seen = []
    found += [Found("picamera2", i, str(camera.get("Model", "camera"))) for i, camera in enumerate(seen)]
    return found
