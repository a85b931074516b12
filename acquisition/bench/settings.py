"""Settings of the simulated bench, in SI units (m, rad, s); brightness in DN, counts of the 8-bit camera."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from catalog.setup import Mount

Pair = tuple[float, float]


def _pair(value: Any) -> Any:
    """One number is a range without width: the truth is that number."""
    return (value, value) if isinstance(value, int | float) else value


def _between(low: float, high: float) -> AfterValidator:
    def check(ends: Pair) -> Pair:
        if not low <= ends[0] <= ends[1] <= high:
            raise ValueError(f"a range must grow and lie within {low:g} to {high:g}, not {ends[0]:g} to {ends[1]:g}")
        return ends

    return AfterValidator(check)


_Range = Annotated[Pair, BeforeValidator(_pair)]
Length = Annotated[_Range, _between(-1.0, 1.0)]
Angle = Annotated[_Range, _between(-math.pi / 2, math.pi / 2)]
Positive = Annotated[_Range, _between(0.0, 1e4)]
Fraction = Annotated[_Range, _between(0.0, 1.0)]


def _degrees(limit: float) -> Pair:
    return (-math.radians(limit), math.radians(limit))


class Truth(BaseModel):
    """Ranges that the hidden truth is drawn from, uniformly; a single number fixes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    wavelength: Annotated[_Range, _between(2e-7, 2e-6)] = Field((645e-9, 660e-9), description="m; a class II diode")
    groove_density_error: Annotated[_Range, _between(-0.1, 0.1)] = Field(
        (-0.002, 0.002), description="relative, made against nominal"
    )
    screen_distance: Annotated[_Range, _between(0.01, 10.0)] = Field((0.226, 0.234), description="m, L")
    grating_offset: Length = Field((-0.004, 0.004), description="m, e: grating plane off the servo axis")
    beam_offset: Length = Field((-0.0015, 0.0015), description="m, b: beam off the servo axis")
    screen_tilt: Angle = Field(_degrees(1.0), description="rad, tau")
    angle_offset: Angle = Field(_degrees(1.5), description="rad, incidence angle at servo 0")
    angle_gain: Annotated[_Range, _between(0.1, 10.0)] = Field((0.97, 1.03), description="incidence per servo angle")
    zero_order_x: Length = Field((-0.005, 0.005), description="m, x_0: screen origin against the image's centre")
    zero_order_y: Length = Field((-0.005, 0.005), description="m; y points down")
    pixel_size: Annotated[_Range, _between(1e-6, 0.01)] = Field((0.000245, 0.000255), description="m on the screen")
    spot_sigma: Annotated[_Range, _between(1e-5, 0.05)] = Field((0.0007, 0.0014), description="m, of the beam")
    peak: Positive = Field((90.0, 150.0), description="DN, of the brighter first order where it hits at right angles")
    zero_order_ratio: Positive = Field((1.6, 1.6), description="brightness of the zero order over the first")
    asymmetry: Fraction = Field((0.6, 1.0), description="brightness of one sign of the orders over the other")
    duty: Annotated[_Range, _between(0.01, 0.99)] = Field((0.25, 0.4), description="open fraction of a groove")
    ambient: Positive = Field((10.0, 25.0), description="DN, at the centre")
    gradient: Fraction = Field((0.2, 0.5), description="of the ambient light, from edge to edge")
    gradient_direction: Annotated[_Range, _between(0.0, 2 * math.pi)] = Field((0.0, 2 * math.pi), description="rad")
    k1: Annotated[_Range, _between(-0.5, 0.5)] = Field((-0.03, 0.0), description="radial distortion, OpenCV's")
    camera_tilt_x: Angle = Field(_degrees(2.0), description="rad, about the image's x axis")
    camera_tilt_y: Angle = Field(_degrees(2.0), description="rad, about the image's y axis")
    camera_roll: Angle = Field(_degrees(2.0), description="rad, about the line of sight")
    target_x: Length = Field((-0.02, 0.02), description="m, centre of the target against the image's")
    target_y: Length = Field((-0.02, 0.02), description="m; y points down")
    target_rotation: Angle = Field(_degrees(5.0), description="rad")


class BenchSettings(BaseModel):
    """A simulated bench, its camera, and the seed that its truth and its noise come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    seed: int = Field(0, ge=0, description="of the truth and of the noise")
    truth: Truth = Truth()
    width: int = Field(1280, ge=16, le=8192, description="px")
    height: int = Field(960, ge=16, le=8192, description="px")

    groove_density: float = Field(600e3, ge=1e4, le=3e6, description="1/m, nominal")
    mount: Mount = Field("classical", description="what the servo turns the grating about")
    servo_direction: Literal[-1, 1] = Field(1, description="+1: a growing servo angle makes the incidence angle grow")
    max_order: int = Field(3, ge=0, le=9, description="highest order that carries light")
    missing_orders: frozenset[int] = Field(frozenset(), description="orders that carry none")
    ghosts: int = Field(0, ge=0, le=20, description="stray reflections on the screen")
    ghost_peak: Pair = Field((0.05, 0.3), description="brightness of a ghost over the first order's")

    speckle_contrast: float = Field(0.3, ge=0, le=1, description="standard deviation over mean")
    speckle_size: float = Field(1.0, ge=0, le=20, description="px, full width of a speckle at half maximum")
    halo_fraction: float = Field(0.004, ge=0, le=0.5, description="peak of a spot's halo over the spot's")
    halo_width: float = Field(12.0, ge=1, le=50, description="sigma of the halo over the spot's")
    flicker: float = Field(0.01, ge=0, le=0.5, description="of the ambient light, between frames, relative, at most")
    flicker_bands: float = Field(0.005, ge=0, le=0.5, description="of the ambient light, along the rows, amplitude")
    target_size: float = Field(0.076, gt=0, le=1, description="m, side of the square calibration target")
    room_light: float = Field(150.0, ge=0, le=255, description="DN, of the target when the room light is on")
    screen_albedo: float = Field(0.4, ge=0, le=1, description="brightness of the screen over the target's")

    count_time: float = Field(0.030, gt=0, le=60, description="s, exposure that every brightness here is meant for")
    camera_distance: float = Field(0.4, gt=0.01, le=10, description="m, lens to screen")
    gain: float = Field(17.0, gt=0, le=1e4, description="electrons per DN")
    read_noise: float = Field(5.0, ge=0, le=1e4, description="electrons")
    laser_response: tuple[float, float, float] = Field((1.0, 0.08, 0.04), description="of R, G, B to the laser")
    ambient_response: tuple[float, float, float] = Field((1.0, 0.95, 0.85), description="of R, G, B to daylight")
    hot_pixels: int = Field(60, ge=0, le=10_000, description="bright in every frame")
    blinking_pixels: int = Field(8, ge=0, le=10_000, description="bright in one frame, others in the next")

    @model_validator(mode="after")
    def _frame_shows_the_zero_order(self) -> Self:
        half = (self.width / 2, self.height / 2)
        for name, pixels in zip(("zero_order_x", "zero_order_y"), half, strict=True):
            ends = getattr(self.truth, name)
            if max(map(abs, ends)) > pixels * self.truth.pixel_size[0]:
                raise ValueError(f"truth.{name} {ends} m lies outside a frame of {self.width}x{self.height} px")
        return self
