"""Settings of the IOC. Angles are degrees here, as they are in the PVs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SimulatedServo(_Settings):
    """A hobby servo's faults. All of them zero: an ideal servo that is where it is told to be at once."""

    dead_band_deg: float = Field(0.05, ge=0, le=10, description="deg; the motor stops this far short of its target")
    backlash_deg: float = Field(0.3, ge=0, le=10, description="deg; width of the play between motor and shaft")
    jitter_deg: float = Field(0.2, ge=0, le=10, description="deg; standard deviation, drawn anew by each motion")
    travel_time: float = Field(0.0033, ge=0, le=10, description="s per degree (0.2 s per 60 deg)")
    settle_time: float = Field(0.05, ge=0, le=60, description="s after the motor has stopped")
    stop_deg: float = Field(180.0, ge=0, le=180, description="deg on the servo's own scale; it cannot turn further")
    overshoot_deg: float = Field(0.0, ge=0, le=90, description="deg; the motor stops this far beyond its target")
    readback_error_deg: float = Field(0.0, ge=-90, le=90, description="deg that the readback tells too much")
    armed: bool = Field(True, description="the laser is armed at start: there is no eye here that it could harm")
    seed: int = Field(0, ge=0, description="of the jitter and of where the play rests at start")


class Pico(_Settings):
    """The serial line to the Pico, and how long its servo takes: it has no way to tell that it has arrived."""

    device: str = Field("/dev/ttyACM0", min_length=1, description="serial device")
    baudrate: int = Field(115200, ge=1200, le=4_000_000, description="baud")
    acknowledged: bool = Field(True, description="the firmware answers each line with 'OK <laser> <servo>'")
    timeout: float = Field(0.5, gt=0, le=10, description="s to wait for a line to be written or answered")
    travel_time: float = Field(0.0033, ge=0, le=10, description="s per degree")
    settle_time: float = Field(0.15, ge=0, le=60, description="s after the servo has travelled")


class IOCSettings(_Settings):
    """What `acquisition.ioc` serves, and to whom."""

    link: Literal["simulated", "pico"] = Field("simulated", description="what turns the servo and lights the laser")
    interfaces: tuple[str, ...] = Field(
        ("127.0.0.1",), min_length=1, description="addresses to serve on; Channel Access has no passwords"
    )
    low_limit_deg: float = Field(-90.0, ge=-180, le=180, description="deg; lowest SERVO setpoint")
    high_limit_deg: float = Field(90.0, ge=-180, le=180, description="deg; highest SERVO setpoint")
    zero_deg: float = Field(90.0, ge=0, le=180, description="deg on the servo's own 0..180 scale that is called 0")
    watchdog: float = Field(2.0, ge=0.1, le=10, description="s without a heartbeat until the laser is turned off")
    refresh_period: float = Field(0.5, gt=0, le=10, description="s between repeats of the last order to the link")
    simulated: SimulatedServo = SimulatedServo()
    pico: Pico = Pico()

    @model_validator(mode="after")
    def _limits_fit_the_servo(self) -> IOCSettings:
        low, high = self.zero_deg + self.low_limit_deg, self.zero_deg + self.high_limit_deg
        if not 0 <= low < high <= 180:
            raise ValueError(
                f"servo limits {self.low_limit_deg} to {self.high_limit_deg} deg about zero_deg={self.zero_deg} are "
                f"{low} to {high} on the servo's own scale, which ends at 0 and 180"
            )
        return self
