"""What the instrument was set up as: recorded in every run's start document, read by the analysis.

Values are nominal; each `*_stderr` is one standard deviation of a Gaussian prior on the difference between the
nominal value and the bench as it stands. A hobby servo and a hand-placed grating are what the defaults describe.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Mount = Literal["classical", "in-plane", "conical"]


class Setup(BaseModel):
    """Nominal geometry and its priors, in SI units (m, rad).

    `screen_distance` is from the servo's axis to the screen, along the undeviated beam. `servo_direction` is +1 when
    a growing servo angle makes the incidence angle alpha of `docs/explanation` grow; without it the sign of the
    orders cannot be known (x_m(alpha) = -x_-m(-alpha)). `mount` says what the servo turns the grating about: the line
    along its grooves (classical), the beam (in-plane), or the line across the grooves (conical).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wavelength: float = Field(650e-9, ge=200e-9, le=2e-6, description="m, of the laser")
    wavelength_tolerance: float = Field(0.01, ge=0, lt=0.5, description="relative, one standard deviation")
    screen_distance: float = Field(0.230, gt=0, le=10, description="m, servo axis to screen")
    screen_distance_stderr: float = Field(0.0023, gt=0, le=1, description="m, of screen_distance")
    groove_density: float = Field(600e3, gt=1e3, lt=5e6, description="1/m, nominal")
    groove_density_tolerance: float = Field(0.15, gt=0, lt=0.5, description="relative; g adds the wavelength's")
    target_size: float = Field(0.076, gt=0, le=2, description="m, side of the square calibration target")
    target_size_stderr: float = Field(1e-4, ge=0, le=0.1, description="m")
    mount: Mount = Field("classical", description="what the servo turns the grating about")
    servo_direction: Literal[-1, 1] = Field(1, description="-1 if a growing servo angle makes the incidence angle fall")
    angle_offset: float = Field(0.0, ge=-1.6, le=1.6, description="rad, incidence angle at servo 0")
    angle_offset_stderr: float = Field(0.015, gt=0, le=1, description="rad, of angle_offset")
    angle_gain: float = Field(1.0, gt=0.1, lt=10, description="incidence angle per servo angle")
    angle_gain_stderr: float = Field(0.0175, gt=0, le=1, description="of angle_gain")
    angle_jitter: float = Field(0.0035, ge=0, le=0.1, description="rad, of one positioning; common to its orders")
    grating_offset: float = Field(0.0, ge=-0.1, le=0.1, description="m, e: grating plane off the servo axis")
    grating_offset_stderr: float = Field(0.0023, gt=0, le=0.1, description="m, of grating_offset")
    beam_offset: float = Field(0.0, ge=-0.1, le=0.1, description="m, b: beam off the servo axis")
    beam_offset_stderr: float = Field(0.0009, gt=0, le=0.1, description="m, of beam_offset")
    screen_tilt: float = Field(0.0, ge=-1, le=1, description="rad, tau")
    screen_tilt_stderr: float = Field(0.010, gt=0, le=0.5, description="rad, of screen_tilt")
    pixel_size: float | None = Field(None, gt=0, le=0.1, description="m on the screen; None: from target or scan")
    pixel_size_tolerance: float = Field(0.01, gt=0, lt=0.5, description="relative, where pixel_size is given")
    camera_tilt_stderr: float = Field(0.02, gt=0, le=0.5, description="rad, camera's axis off the screen's normal")
    lens_distortion: float = Field(
        -0.005, ge=-0.3, le=0.3, description="radial shift at half the frame's width from its centre, relative"
    )
    lens_distortion_stderr: float = Field(0.005, gt=0, le=0.3, description="of lens_distortion, where no lens is given")

    @property
    def grating_period(self) -> float:
        """d, m, nominal."""
        return 1 / self.groove_density

    @property
    def lambda_over_d(self) -> float:
        """g, nominal."""
        return self.wavelength * self.groove_density

    @property
    def lambda_over_d_tolerance(self) -> float:
        """Relative: the grating's tolerance, and three standard deviations of the wavelength."""
        return self.groove_density_tolerance + 3 * self.wavelength_tolerance
