"""A bench drawn from the formulas alone: what the analysis is held against.

It shares no line with `acquisition.bench` nor with `analysis`. The optics are the vector grating equation

    k_t = k - (k.n) n + m g t,    k_out = k_t + sqrt(1 - |k_t|^2) n

with the grating turned about the axis of its mount, and the ray traced from the grating's plane (n.r = e) to the
tilted screen ((z - L) cos tau = x sin tau); the camera
is a pinhole with a pose and one radial coefficient; the light is a Gaussian times a speckle pattern frozen to the
screen; the sensor has gain, read noise, quantisation, saturation and hot pixels.

Pixel (0, 0)'s centre is the origin, y points down, positive orders lie at larger x.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

LEVELS = 255


@dataclass(frozen=True)
class Scene:
    """One bench with its truth (m, rad, counts). `frames(angles)` photographs a scan of it."""

    lambda_over_d: float = 0.39
    wavelength: float = 650e-9
    screen_distance: float = 0.230
    grating_offset: float = 0.0
    beam_offset: float = 0.0
    screen_tilt: float = 0.0
    angle_offset: float = 0.0
    angle_gain: float = 1.0
    angle_jitter: float = np.deg2rad(0.2)
    roll: float = 0.0
    mount: str = "classical"
    orders: tuple[int, ...] = (-1, 0, 1)
    amplitudes: dict[int, float] = field(default_factory=lambda: {0: 190.0, 1: 120.0, -1: 100.0, 2: 60.0, -2: 50.0})
    beam_sigma: float = 1.0e-3
    side_lobe: float = 0.0
    speckle: float = 0.3
    shape: tuple[int, int] = (960, 1280)
    pixel_size: float = 0.25e-3
    zero_order: tuple[float, float] = (0.0, 0.0)
    focal_length: float = 1300.0
    k1: float = 0.0
    pose: tuple[float, float] = (0.0, 0.0)
    ambient: float = 18.0
    gradient: float = 0.3
    flicker: float = 0.01
    bands: float = 0.005
    electrons_per_count: float = 17.0
    read_noise: float = 5.0
    hot_pixels: int = 60
    blinking_pixels: int = 8
    target_centre: tuple[float, float] = (0.004, -0.003)
    target_roll: float = 0.02
    target_size: float = 0.076
    ghosts: tuple[tuple[float, float, float], ...] = ()
    colour: bool = False
    seed: int = 0

    @property
    def grating_period(self) -> float:
        return self.wavelength / self.lambda_over_d

    @cached_property
    def _rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @cached_property
    def _noise_pool(self) -> np.ndarray:
        return np.random.default_rng(self.seed + 7).standard_normal(5_000_011, dtype=np.float32)

    @cached_property
    def texture(self) -> np.ndarray:
        """The screen's speckle, shape (y, x), mean 1."""
        if not self.speckle:
            return np.ones(self.shape, np.float32)
        k = 1 / self.speckle**2
        return np.random.default_rng(self.seed + 1).gamma(k, 1 / k, self.shape).astype(np.float32)

    @cached_property
    def _hot(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(self.seed + 2)
        return rng.integers(0, self.shape[0] * self.shape[1], self.hot_pixels), rng.uniform(20, 200, self.hot_pixels)

    def _normal(self, shape: tuple[int, ...]) -> np.ndarray:
        n = int(np.prod(shape))
        start = self._rng.integers(0, self._noise_pool.size - n)
        return self._noise_pool[start : start + n].reshape(shape)

    # -- optics ---------------------------------------------------------------------------------------------------

    def _trace(self, alpha: float, order: int, at: np.ndarray) -> np.ndarray | None:
        """Where the ray at (x, y) of the beam meets the screen, m, as its order; None when it does not."""
        turn = {
            "classical": [[np.cos(alpha), 0, np.sin(alpha)], [0, 1, 0], [-np.sin(alpha), 0, np.cos(alpha)]],
            "in-plane": [[np.cos(alpha), -np.sin(alpha), 0], [np.sin(alpha), np.cos(alpha), 0], [0, 0, 1]],
            "conical": [[1, 0, 0], [0, np.cos(alpha), -np.sin(alpha)], [0, np.sin(alpha), np.cos(alpha)]],
        }[self.mount]
        t, _, n = np.array(turn, float).T
        k = np.array([0.0, 0.0, 1.0])
        tangential = k - (k @ n) * n + order * self.lambda_over_d * t
        if tangential @ tangential >= 1:
            return None
        out = tangential + np.sqrt(1 - tangential @ tangential) * n
        start = np.array([*at, 0.0])
        start[2] = (self.grating_offset - start @ n) / n[2]
        normal = np.array([-np.sin(self.screen_tilt), 0.0, np.cos(self.screen_tilt)])
        if out @ normal <= 1e-6:
            return None
        s = (np.array([0.0, 0.0, self.screen_distance]) - start) @ normal / (out @ normal)
        hit = start + s * out
        return np.array([(hit[0] - self.beam_offset) / np.cos(self.screen_tilt), hit[1]])

    @property
    def _rolled(self) -> np.ndarray:
        c, s = np.cos(self.roll), np.sin(self.roll)
        return np.array([[c, -s], [s, c]])

    def screen_point(self, alpha: float, order: int) -> np.ndarray | None:
        """Where an order meets the screen, m, in the screen's own axes; None when it does not."""
        point = self._trace(alpha, order, np.array([self.beam_offset, 0.0]))
        return None if point is None else self._rolled @ point + np.array(self.zero_order)

    def to_pixel(self, points: np.ndarray) -> np.ndarray:
        """Screen (m, shape (..., 2)) to pixel (shape (..., 2)): pinhole, pose, k1."""
        points = np.asarray(points, float)
        ax, ay = self.pose
        rx = np.array([[1, 0, 0], [0, np.cos(ax), -np.sin(ax)], [0, np.sin(ax), np.cos(ax)]])
        ry = np.array([[np.cos(ay), 0, np.sin(ay)], [0, 1, 0], [-np.sin(ay), 0, np.cos(ay)]])
        xyz = np.concatenate([points, np.zeros((*points.shape[:-1], 1))], -1) @ (rx @ ry).T
        xyz[..., 2] += self.focal_length * self.pixel_size
        xn = xyz[..., :2] / xyz[..., 2:]
        xn = xn * (1 + self.k1 * (xn**2).sum(-1, keepdims=True))
        return xn * self.focal_length + (np.array(self.shape[::-1]) - 1) / 2

    def _jacobian(self, point: np.ndarray) -> np.ndarray:
        h = 1e-5
        return np.stack([(self.to_pixel(point + d) - self.to_pixel(point - d)) / (2 * h) for d in np.eye(2) * h], -1)

    # -- light ----------------------------------------------------------------------------------------------------

    def _draw(self, light: np.ndarray, centre: np.ndarray, covariance: np.ndarray, peak: float) -> None:
        half = int(6 * np.sqrt(covariance.max())) + 2
        x0, y0 = (int(np.round(c)) for c in centre)
        xs = np.arange(max(x0 - half, 0), min(x0 + half + 1, self.shape[1]))
        ys = np.arange(max(y0 - half, 0), min(y0 + half + 1, self.shape[0]))
        if not xs.size or not ys.size:
            return
        dx, dy = xs - centre[0], (ys - centre[1])[:, None]
        p = np.linalg.inv(covariance)
        light[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1] += peak * np.exp(
            -0.5 * (p[0, 0] * dx**2 + 2 * p[0, 1] * dx * dy + p[1, 1] * dy**2)
        )

    def spots(self, alpha: float) -> dict[int, tuple[np.ndarray, np.ndarray, float]]:
        """{order: (centre px, covariance px^2, peak counts)} of all orders that meet the screen."""
        found = {}
        for order in self.orders:
            point = self.screen_point(alpha, order)
            if point is None:
                continue
            at, h = np.array([self.beam_offset, 0.0]), 1e-5
            beside = [self._trace(alpha, order, at + d) - self._trace(alpha, order, at - d) for d in np.eye(2) * h]
            metric = self._rolled @ np.stack(beside, -1) / (2 * h) * self.beam_sigma
            metric = metric @ metric.T
            jacobian = self._jacobian(point)
            found[order] = (self.to_pixel(point), jacobian @ metric @ jacobian.T, self.amplitudes[order])
        return found

    def truth_px(self, alpha: float) -> dict[int, np.ndarray]:
        """{order: centre px} of the orders inside the frame."""
        inside = {}
        for order, (centre, _, _) in self.spots(alpha).items():
            if (centre > 0).all() and (centre < np.array(self.shape[::-1]) - 1).all():
                inside[order] = centre
        return inside

    def _ambient(self, factor: float) -> np.ndarray:
        ny, nx = self.shape
        slope = 1 + self.gradient * (np.linspace(-0.5, 0.5, nx)[None, :] + np.linspace(-0.25, 0.25, ny)[:, None])
        rows = 1 + self.bands * np.sin(np.arange(ny) / 37.0 + self._rng.uniform(0, 6.28))[:, None]
        return (self.ambient * factor * slope * rows).astype(np.float32)

    def _expose(self, counts: np.ndarray) -> np.ndarray:
        k = self.electrons_per_count
        noise = np.sqrt(np.maximum(counts, 0) / k + (self.read_noise / k) ** 2) * self._normal(counts.shape)
        frame = counts + noise
        where, extra = self._hot
        frame.flat[where] += extra
        blinking = self._rng.integers(0, frame.size, self.blinking_pixels)
        frame.flat[blinking] += self._rng.uniform(20, 120, self.blinking_pixels)
        return np.clip(np.round(frame), 0, LEVELS).astype(np.uint8)

    def _photograph(self, laser: np.ndarray, ambient: np.ndarray) -> np.ndarray:
        if not self.colour:
            return self._expose(laser + ambient)
        return np.stack([self._expose(laser * share + ambient) for share in (1.0, 0.08, 0.04)], -1)

    def frame(self, alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Image and background at one true incidence angle (rad), u1, shape (y, x) or (y, x, 3)."""
        light = np.zeros(self.shape, np.float32)
        for centre, covariance, peak in self.spots(alpha).values():
            self._draw(light, centre, covariance, peak)
            self._draw(light, centre, covariance * 144, 0.004 * peak)
            if self.side_lobe:
                shift = np.array([2.0 * np.sqrt(covariance[0, 0]), 0.0])
                self._draw(light, centre + shift, covariance, self.side_lobe * peak)
        for x, y, peak in self.ghosts:
            sigma = self.beam_sigma / self.pixel_size
            self._draw(light, np.array([x, y]), np.eye(2) * sigma**2, peak)
        light *= self.texture
        background = self._photograph(np.float32(0) * light, self._ambient(1.0))
        return self._photograph(light, self._ambient(1 + self._rng.uniform(-1, 1) * self.flicker)), background

    def alphas(self, angles_deg: np.ndarray) -> np.ndarray:
        """The true incidence angles (rad) behind the servo's readback (deg)."""
        jitter = self._rng.normal(0, self.angle_jitter, len(angles_deg)) if self.angle_jitter else 0.0
        return self.angle_offset + self.angle_gain * np.deg2rad(angles_deg) + jitter

    def frames(self, angles_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(images, backgrounds, true incidence angles) of a scan."""
        alphas = self.alphas(np.asarray(angles_deg, float))
        pairs = [self.frame(a) for a in alphas]
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs]), alphas

    def target(self) -> np.ndarray:
        """The calibration frame: a bright square on a darker screen, laser off, room light on; u1."""
        ny, nx = self.shape
        yx = np.mgrid[0:ny:16, 0:nx:16]
        # A smooth inverse of the camera: solve on a coarse grid, then interpolate the metres, not the edge.
        coarse = np.stack([yx[1], yx[0]], -1).reshape(-1, 2).astype(float)
        guess = (coarse - (np.array([nx, ny]) - 1) / 2) * self.pixel_size
        for _ in range(12):
            h = 1e-5
            j = np.stack([(self.to_pixel(guess + d) - self.to_pixel(guess - d)) / (2 * h) for d in np.eye(2) * h], -1)
            guess = guess - np.linalg.solve(j, (self.to_pixel(guess) - coarse)[..., None])[..., 0]
        from scipy.interpolate import RectBivariateSpline

        grid = guess.reshape(*yx.shape[1:], 2)
        metres = [
            RectBivariateSpline(yx[0][:, 0], yx[1][0], grid[..., i])(np.arange(ny), np.arange(nx)) for i in (0, 1)
        ]
        c, r = np.cos(self.target_roll), np.sin(self.target_roll)
        dx, dy = metres[0] - self.target_centre[0], metres[1] - self.target_centre[1]
        u, v = c * dx + r * dy, -r * dx + c * dy
        from scipy.special import ndtr

        blur = 0.7 * self.pixel_size
        half = self.target_size / 2
        inside = (ndtr((half - u) / blur) - ndtr((-half - u) / blur)) * (
            ndtr((half - v) / blur) - ndtr((-half - v) / blur)
        )
        light = (90 + 80 * inside) * self._ambient(1.0) / self.ambient
        return np.stack([self._expose((light * share).astype(np.float32)) for share in (1.0, 0.95, 0.4)], -1)


def random_scene(seed: int, *, groove_density: float = 600e3, **changes: object) -> Scene:
    """A bench drawn uniformly from the ranges of the design's table of the simulated bench."""
    rng = np.random.default_rng(seed)
    u = rng.uniform
    wavelength = u(645e-9, 660e-9)
    one = u(90, 150)
    asymmetry = u(0.6, 1.0)
    scene = Scene(
        lambda_over_d=wavelength * groove_density,
        wavelength=wavelength,
        screen_distance=0.230 + u(-0.004, 0.004),
        grating_offset=u(-0.004, 0.004),
        beam_offset=u(-0.0015, 0.0015),
        screen_tilt=np.deg2rad(u(-1, 1)),
        angle_offset=np.deg2rad(u(-1.5, 1.5)),
        angle_gain=1 + u(-0.03, 0.03),
        roll=np.deg2rad(u(-1.5, 1.5)),
        orders=(-2, -1, 0, 1, 2) if groove_density < 500e3 else (-1, 0, 1),
        amplitudes={0: 1.6 * one, 1: one, -1: one * asymmetry, 2: 0.5 * one, -2: 0.5 * one * asymmetry},
        beam_sigma=u(0.7e-3, 1.4e-3),
        zero_order=(u(-0.006, 0.006), u(-0.006, 0.006)),
        focal_length=u(1000, 1600),
        k1=u(-0.03, 0),
        pose=(np.deg2rad(u(-2, 2)), np.deg2rad(u(-2, 2))),
        ambient=u(10, 25),
        gradient=u(0.2, 0.5),
        target_centre=(u(-0.02, 0.02), u(-0.02, 0.02)),
        target_roll=u(-0.05, 0.05),
        seed=seed,
    )
    return replace(scene, **changes)
