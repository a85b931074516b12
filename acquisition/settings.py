"""Settings of what moves and records, each with its unit and its bounds."""

from __future__ import annotations

import getpass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Seconds = Annotated[float, Field(ge=0, le=3600, description="s")]


class ServoSettings(BaseModel):
    """How far the readback may be from the setpoint, and how long a move may take."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tolerance: float = Field(1.0, gt=0, le=45, description="deg, |readback - setpoint| of a move that arrived")
    timeout: float = Field(10.0, gt=0, le=600, description="s, for one move")


class LaserSettings(BaseModel):
    """How strong the laser is in an image, and how often the client says that it still wants it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    power: float = Field(1.0, ge=0, le=1, description="of full power, while an image is exposed")
    settle_time: float = Field(0.0, ge=0, le=10, description="s, from a laser command to a steady beam")
    heartbeat_period: float = Field(0.5, gt=0, le=10, description="s, between renewals while the laser is on")


class CameraSettings(BaseModel):
    """Which camera looks at the screen; `simulated` needs the simulated IOC and the `bench` section."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["simulated", "opencv", "picamera2"] = Field(
        "simulated", description="simulated needs the simulated IOC; picamera2 is a Raspberry Pi's own camera"
    )
    source: int | str = Field(0, description="number of the camera; opencv: URL, image sequence (f%03d.png), video too")
    count_time: float = Field(0.030, gt=0, le=60, description="s, exposure; 30 ms nulls 100 Hz flicker, 33.3 ms 120 Hz")
    exposure: float | None = Field(None, description="opencv: of the driver, in its own unit; null leaves it as it is")
    gain: float | None = Field(None, description="of the driver, in its own unit; picamera2: analogue, 1 is the least")
    white_balance: float | None = Field(None, description="opencv: of the driver, usually kelvin")
    colour_gains: tuple[float, float] | None = Field(None, description="picamera2: of red and blue; null: 1 and 1")
    pixel_format: str | None = Field(
        None, min_length=4, max_length=4, description="opencv: YUYV is what the sensor saw, MJPG has losses"
    )
    width: int | None = Field(None, ge=16, le=20_000, description="px; null leaves it to the driver")
    height: int | None = Field(None, ge=16, le=20_000, description="px; likewise")
    timeout: float = Field(5.0, gt=0, le=600, description="s, for one frame")

    @field_validator("source")
    @classmethod
    def _number(cls, source: int | str) -> int | str:
        # The environment knows only text, and a file is hardly called "0".
        return int(source) if isinstance(source, str) and source.isdecimal() else source

    @model_validator(mode="after")
    def _is_a_camera(self) -> Self:
        if self.kind == "picamera2" and not isinstance(self.source, int):
            raise ValueError(f"source {self.source!r}: picamera2 knows its cameras by number")
        if (self.width is None) != (self.height is None):
            raise ValueError("width and height go together")
        return self

    @model_validator(mode="after")
    def _waits_for_the_exposure(self) -> Self:
        if self.timeout <= self.count_time:
            raise ValueError(f"timeout {self.timeout:g} s is over before an exposure of {self.count_time:g} s")
        return self


class FileSettings(BaseModel):
    """How frames are kept: uncompressed files open in any viewer."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    compression: Literal["none", "lz4", "zstd"] = Field("none", description="lz4 and zstd need lunchbox[compression]")
    checksum: bool = Field(True, description="fletcher32: a flipped byte is an error, not a pixel")
    fsync: bool = Field(True, description="each frame is on the medium before its event; covers a power cut")


class MetadataSettings(BaseModel):
    """What every run's start document says of who and why."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    operator: str = Field(default_factory=getpass.getuser, min_length=1, max_length=100, description="who runs it")
    purpose: str = Field("", max_length=1000, description="what for, in words")
    data_session: str = Field("", max_length=100, description="beam time, course or experiment that it belongs to")
    sample: dict[str, Any] = Field(default_factory=lambda: {"name": "grating"}, description="free, but a mapping")


class AcquisitionSettings(BaseModel):
    """What a session needs beside the data root and the PV prefix."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect_timeout: Seconds = 5.0
    servo: ServoSettings = ServoSettings()
    laser: LaserSettings = LaserSettings()
    camera: CameraSettings = CameraSettings()
    files: FileSettings = FileSettings()
    metadata: MetadataSettings = Field(default_factory=MetadataSettings)
