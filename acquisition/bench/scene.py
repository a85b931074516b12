"""A simulated bench as its camera sees it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from acquisition.bench import light
from acquisition.bench.lens import Lens
from acquisition.bench.light import Image, TrueSpot
from acquisition.bench.optics import Geometry, diffract
from acquisition.bench.sensor import Frame, Sensor
from acquisition.bench.settings import BenchSettings


@dataclass(frozen=True)
class BenchState:
    """What the bench is doing while the shutter is open.

    Attributes
    ----------
    shaft_deg : float, deg
        True angle of the shaft that the grating is mounted on.
    laser : float
        Power, 0 to 1.
    target : bool
        The calibration target is on the screen and the room light is on.
    """

    shaft_deg: float
    laser: float
    target: bool = False


@dataclass(frozen=True)
class _Ghost:
    """A stray reflection: `turns` times as fast as the grating, from (x, y) m on the screen at servo 0."""

    x: float
    y: float
    turns: float
    brightness: float


class Scene:
    """Draws its hidden truth from the settings' seed, and frames of the bench on demand.

    Two scenes of the same settings make the same frames in the same order.
    """

    def __init__(self, settings: BenchSettings) -> None:
        self._settings = settings
        self._shape = (settings.height, settings.width)
        self._truth = truth = {name: self._draw(name, *ends) for name, ends in settings.truth}
        truth["groove_density"] = settings.groove_density * (1 + truth.pop("groove_density_error"))
        truth["grating_period"] = 1 / truth["groove_density"]
        truth["lambda_over_d"] = truth["wavelength"] * truth["groove_density"]

        self._geometry = Geometry(
            mount=settings.mount,
            **{
                name: truth[name]
                for name in ("lambda_over_d", "screen_distance", "grating_offset", "beam_offset", "screen_tilt")
            },
        )
        self._lens = Lens(
            shape=self._shape,
            pixel_size=truth["pixel_size"],
            distance=settings.camera_distance,
            tilt_x=truth["camera_tilt_x"],
            tilt_y=truth["camera_tilt_y"],
            roll=truth["camera_roll"],
            k1=truth["k1"],
        )
        self._peaks = self._order_peaks()
        self._ghosts = self._draw_ghosts()
        self._sensor = Sensor.build(
            shape=self._shape,
            gain=settings.gain,
            read_noise=settings.read_noise,
            hot_pixels=settings.hot_pixels,
            blinking_pixels=settings.blinking_pixels,
            random=self._random("sensor"),
        )
        self._speckle = light.speckle(
            self._shape,
            contrast=settings.speckle_contrast,
            size=settings.speckle_size,
            random=self._random("speckle"),
        )
        self._ambient = light.daylight(
            self._shape,
            level=truth["ambient"],
            gradient=truth["gradient"],
            direction=truth["gradient_direction"],
        )
        self._frames = self._random("frames")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of a frame: height, width, channels R, G, B."""
        return (*self._shape, 3)

    def truth(self) -> dict[str, float]:
        """What a perfect analysis would find, in SI units; nominal values and settings are not in it."""
        return dict(self._truth)

    def incidence_angle(self, shaft_deg: float) -> float:
        """alpha, rad, of the grating on a shaft at this angle."""
        turned = self._settings.servo_direction * np.radians(shaft_deg)
        return float(self._truth["angle_gain"] * turned + self._truth["angle_offset"])

    def spots(self, state: BenchState, *, exposure: float | None = None) -> tuple[TrueSpot, ...]:
        """The truth about the spots whose centre is in the frame, ghosts last; for tests.

        `exposure` is in seconds and by default the settings' count_time.
        """
        strength = state.laser * self._exposures(exposure)
        alpha = self.incidence_angle(state.shaft_deg)
        spots = []
        for order, peak in self._peaks.items():
            ray = diffract(order, alpha, self._geometry)
            if ray is not None:
                spread = abs(float(np.linalg.det(ray.footprint)))
                amplitude = strength * peak * ray.obliquity / spread
                spots.append(self._spot(order, ray.position, ray.footprint, amplitude))
        for ghost in self._ghosts:
            x = ghost.x + self._truth["screen_distance"] * ghost.turns * alpha
            amplitude = strength * ghost.brightness * self._truth["peak"]
            spots.append(self._spot(None, np.array([x, ghost.y]), np.eye(2), amplitude))
        height, width = self._shape
        return tuple(s for s in spots if s.amplitude > 0 and 0 <= s.x <= width - 1 and 0 <= s.y <= height - 1)

    def render(self, state: BenchState, *, exposure: float | None = None) -> Frame:
        """A frame, shape (height, width, 3), uint8; a new one, with noise and flicker of its own, each time.

        `exposure` is in seconds and by default the settings' count_time.
        """
        exposures = self._exposures(exposure)
        mean, noise = self._target_light if state.target else self._daylight
        if exposures != 1:
            mean = mean * np.float32(exposures)
            noise = self._sensor.noise(mean)
        flicker = self._flicker()
        bands = [(mean, noise)]

        spots = self.spots(state, exposure=exposure)
        if spots:
            laser, rows = self._laser_light(spots)
            lit = self._coloured(laser[rows], self._settings.laser_response)
            # The laser does not flicker: undo in advance what the sensor does to a whole row.
            lit /= flicker[rows, None]
            lit += mean[rows]
            above, below = slice(0, rows.start), slice(rows.stop, None)
            bands = [(mean[above], noise[above]), (lit, self._sensor.noise(lit)), (mean[below], noise[below])]
        return self._sensor.expose(bands, flicker, self._frames)

    def _spot(
        self, order: int | None, position: NDArray[np.float64], footprint: NDArray[np.float64], amplitude: float
    ) -> TrueSpot:
        point = position + np.array([self._truth["zero_order_x"], self._truth["zero_order_y"]])
        x, y = self._lens.project(point)
        spread = self._truth["spot_sigma"] * self._lens.magnification(point) @ footprint
        return TrueSpot(order, float(x), float(y), float(amplitude), spread @ spread.T)

    def _laser_light(self, spots: tuple[TrueSpot, ...]) -> tuple[Image, slice]:
        """Shape (height, width), DN in red, and the rows that are lit."""
        image = np.zeros(self._shape, np.float32)
        touched = []
        for spot in spots:
            touched.append(light.add_gaussian(image, spot, amplitude=spot.amplitude))
            if self._settings.halo_fraction:
                touched.append(
                    light.add_gaussian(
                        image,
                        spot,
                        amplitude=spot.amplitude * self._settings.halo_fraction,
                        widened=self._settings.halo_width,
                    )
                )
        rows = slice(min(s.start for s in touched), max(s.stop for s in touched))
        image[rows] *= self._speckle[rows]
        return image, rows

    @cached_property
    def _daylight(self) -> tuple[Image, Image]:
        mean = self._coloured(self._ambient, self._settings.ambient_response)
        return mean, self._sensor.noise(mean)

    @cached_property
    def _target_light(self) -> tuple[Image, Image]:
        settings, truth = self._settings, self._truth
        coverage = light.target(
            self._lens,
            centre=(truth["target_x"], truth["target_y"]),
            rotation=truth["target_rotation"],
            size=settings.target_size,
        )
        albedo = settings.screen_albedo + (1 - settings.screen_albedo) * coverage
        # The room light has the gradient of the daylight, at its own level.
        mean = self._coloured(
            albedo * self._ambient * np.float32(settings.room_light / max(truth["ambient"], 1e-6)),
            settings.ambient_response,
        )
        return mean, self._sensor.noise(mean)

    def _coloured(self, image: Image, response: tuple[float, float, float]) -> Image:
        """Shape (n, width) to (n, 3 * width): R, G, B of one pixel side by side."""
        return np.repeat(image, 3, axis=1) * np.tile(np.array(response, np.float32), image.shape[1])

    def _flicker(self) -> Image:
        """Factor on the daylight of each row of one frame, shape (height,)."""
        settings, random = self._settings, self._frames
        rows = np.arange(settings.height)
        level = 1 + settings.flicker * random.uniform(-1, 1)
        phase = random.uniform(0, 2 * np.pi)
        bands = settings.flicker_bands * np.sin(2 * np.pi * rows / self._band_period + phase)
        return np.asarray(level * (1 + bands), np.float32)

    @cached_property
    def _band_period(self) -> float:
        """px: rows that the rolling shutter reads during one period of the lamp."""
        return self._draw("band_period", 0.2, 0.5) * self._settings.height

    def _order_peaks(self) -> dict[int, float]:
        """Brightness of each order, DN, before obliquity: slits of the given duty, one sign favoured."""
        settings, truth = self._settings, self._truth
        fainter = 1 if self._random("fainter sign").random() < 0.5 else -1
        peaks = {0: truth["peak"] * truth["zero_order_ratio"]}
        for order in range(1, settings.max_order + 1):
            peak = truth["peak"] * (np.sinc(order * truth["duty"]) / np.sinc(truth["duty"])) ** 2
            peaks[-fainter * order] = peak
            peaks[fainter * order] = peak * truth["asymmetry"]
        return {order: peak for order, peak in peaks.items() if order not in settings.missing_orders}

    def _draw_ghosts(self) -> list[_Ghost]:
        random = self._random("ghosts")
        half_width, half_height = (n * self._truth["pixel_size"] / 2 for n in reversed(self._shape))
        return [
            _Ghost(
                x=random.uniform(-0.9, 0.9) * half_width,
                # Reflections between parallel surfaces stay near the plane that the orders lie in.
                y=random.uniform(-0.15, 0.15) * half_height,
                turns=float(random.choice([0.0, 1.0, 2.0])),
                brightness=random.uniform(*self._settings.ghost_peak),
            )
            for _ in range(self._settings.ghosts)
        ]

    def _exposures(self, exposure: float | None) -> float:
        return 1.0 if exposure is None else exposure / self._settings.count_time

    def _random(self, purpose: str) -> np.random.Generator:
        # Independent of what else is drawn: fixing one value does not change another.
        return np.random.Generator(np.random.SFC64([self._settings.seed, zlib.crc32(purpose.encode())]))

    def _draw(self, name: str, low: float, high: float) -> float:
        return float(self._random(name).uniform(low, high))
