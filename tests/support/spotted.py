"""Scans of spots that were never photographed: positions of `scenes` with errors as the analysis has to expect them.

A frame is drawn and searched in 15 ms; its spots are drawn here in none. Truth and priors agree: what the set-up says
of L, e, b, tau and the servo is what the benches are drawn from.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scenes import Scene, random_scene

from analysis import Calibration, Scan, Setup, Spot
from analysis.calibration import self_calibration

SHAPE = (960, 1280)
PIXEL = 0.25e-3


def likely_scene(seed: int, setup: Setup, **changes: object) -> Scene:
    """A bench drawn from the priors of the set-up, under a camera that looks straight at the screen."""
    normal = np.random.default_rng(1000 + seed).normal
    drawn = {
        name: getattr(setup, name) + normal(0, getattr(setup, f"{name}_stderr"))
        for name in ("screen_distance", "grating_offset", "beam_offset", "screen_tilt", "angle_offset", "angle_gain")
    }
    scene = random_scene(seed, groove_density=setup.groove_density)
    return replace(scene, pose=(0.0, 0.0), k1=0.0, roll=0.0, mount=setup.mount, **{**drawn, **changes})


def calibration(*, kappa: float = 0.002, scale: float = 1e-4) -> Calibration:
    """0.25 mm a pixel, to `scale`, under a lens that is straight to `kappa` (one standard deviation each)."""
    plain = self_calibration(SHAPE, Setup(pixel_size=PIXEL, lens_distortion=0.0))
    growth = np.where(np.arange(9) < 6, plain.theta, 0.0)
    covariance = scale**2 * np.outer(growth, growth)
    covariance[8, 8] = kappa**2
    return Calibration(plain.theta, covariance, "target", SHAPE, PIXEL)


def spotted(
    scene: Scene, setup: Setup, angles: np.ndarray, *, seed: int = 0, noise: float = 0.05, speckle: float = 0.05
) -> tuple[Scan, list[tuple[Spot, ...]]]:
    """A scan without light in its frames, and the spots that would be in them.

    noise, speckle : px, standard deviation of a centroid, of the camera's noise and of the frozen speckle
    """
    rng = np.random.default_rng(seed)
    nominal = calibration()
    true = replace(nominal, theta=rng.multivariate_normal(nominal.theta, nominal.covariance, method="eigh"))
    field = _FrozenField(rng, reach=1.25 * scene.beam_sigma)
    frames = []
    for alpha in scene.alphas(angles):
        frame = []
        for order, (_, covariance, _) in scene.spots(alpha).items():
            point = scene.screen_point(alpha, order)
            pixel = _pixel_of(point, true)
            if not (6 < pixel[0] < SHAPE[1] - 7 and 6 < pixel[1] < SHAPE[0] - 7):
                continue
            repeated = np.sqrt(0.97) * field(point) + np.sqrt(0.03) * rng.normal(size=2)
            pixel = pixel + noise * rng.normal(size=2) + speckle * repeated
            frame.append(spot(*pixel, noise, speckle, *np.sqrt(np.diag(covariance))))
        frames.append(tuple(sorted(frame, key=lambda s: s.x)))
    dark = np.broadcast_to(np.uint8(0), (len(angles), *SHAPE))
    return Scan(images=dark, backgrounds=dark, angles=angles, setup=setup, calibration=nominal), frames


def spot(
    x: float, y: float, noise: float = 0.05, speckle: float = 0.05, sigma_x: float = 4.0, sigma_y: float = 4.0
) -> Spot:
    own = float(np.hypot(noise, speckle))
    return Spot(
        float(x), float(y), own, own, 0.0, 100.0, 1.0, float(sigma_x), float(sigma_y), False,
        texture=(speckle**2, 0.0, speckle**2), speckle_contrast=0.3,
    )  # fmt: skip


class _FrozenField:
    """The gradient of a random field with covariance exp(-d^2 / 4 w^2), of unit variance: a sum of random waves."""

    def __init__(self, rng: np.random.Generator, *, reach: float, waves: int = 400) -> None:
        self.reach = reach
        self.wave = rng.normal(0, 1 / (np.sqrt(2) * reach), (waves, 2))
        self.phase = rng.uniform(0, 2 * np.pi, waves)

    def __call__(self, point: np.ndarray) -> np.ndarray:
        slope = -np.sin(self.wave @ point + self.phase)[:, None] * self.wave
        return np.asarray(2 * self.reach * slope.sum(0) / np.sqrt(len(self.wave)))


def _pixel_of(point: np.ndarray, lens: Calibration) -> np.ndarray:
    pixel = point / PIXEL + (np.array(SHAPE[::-1]) - 1) / 2
    for _ in range(6):
        pixel = pixel - (lens.to_screen(pixel)[0] - point) / PIXEL
    return pixel
