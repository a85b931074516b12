"""Sub-pixel positions of diffraction spots, with the uncertainty that noise and speckle leave them.

Each spot is fitted with an elliptical Gaussian on a constant,

    f(x, y) = A exp(-(p dx^2 + 2 q dx dy + r dy^2) / 2) + c,

first by least squares, then with each pixel weighted by the inverse of its variance v0 + f/K + C^2 f^2 (`noise`).
The weighted estimate reaches the Cramer-Rao bound when the beam is a Gaussian, and is pulled furthest when it is not:
where the residuals show a beam that leans (`texture.skewness`), least squares is taken, and the difference of the two
is carried as a systematic.

Pixel (0, 0)'s centre is the origin, x points right, y points down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.detection import THRESHOLD, Seeds, detect
from analysis.frames import Light, laser_light
from analysis.gaussian import Array, Scatter, Windows, cut_windows, iterate, sandwich, scatter_of, start
from analysis.texture import DEGREES, skewness, speckle_area, speckle_contrast

MIN_SIGNIFICANCE = 5.0
#: The score (chi^2 of 4 degrees of freedom) that says that one spot is no Gaussian, and that all of a frame are not.
LEAN, LEAN_TOGETHER = 30.0, 24.0
#: The score, absolute and over that of the frame's other spots, that says that two spots lie on each other.
BLENDED, BLENDED_TO_OTHERS = 80.0, 8.0
#: Share of the difference between the two estimates that is carried as one standard deviation of the shape.
SHAPE_SHARE = 0.7


@dataclass(frozen=True, slots=True)
class Spot:
    """One spot.

    `x_stderr`, `y_stderr` (px) are one standard deviation in all; `texture` (px^2, (xx, xy, yy)) is the part of their
    covariance that speckle causes, which is frozen to the screen and so repeats wherever the same spot falls on the
    same place. `amplitude` (counts) is the peak of the fitted Gaussian: above the sensor's range when saturated.

    `flags` may hold "saturated"; "edge": the frame cuts it; "not-gaussian": the beam has another shape, for which the
    errors allow; "blended": another spot lies beneath it.
    """

    x: float
    y: float
    x_stderr: float
    y_stderr: float
    xy_covariance: float
    amplitude: float
    amplitude_stderr: float
    sigma_x: float
    sigma_y: float
    saturated: bool
    flags: tuple[str, ...] = ()
    texture: tuple[float, float, float] = (0.0, 0.0, 0.0)
    speckle_contrast: float = 0.0


def find_spots(image: Any, background: Any, *, threshold: float = THRESHOLD) -> tuple[Spot, ...]:
    """The diffraction spots of one pair of frames, from left to right.

    Parameters
    ----------
    image, background : array-like, shape (n_y, n_x) or (n_y, n_x, channel), counts
        Laser on and laser off. The red channel of a colour frame is used.
    threshold : float
        Detection threshold in standard deviations of the filtered frame.

    Returns
    -------
    tuple of Spot, sorted by x; empty where nothing stands out.

    Raises
    ------
    BadScan
        When the frames differ in shape, are too small, or hold no finite number.
    """
    light = laser_light(image, background)
    seeds = detect(light, threshold=threshold)
    if not seeds.x.size:
        return ()
    windows = cut_windows(light, seeds.x, seeds.y, half=5 * seeds.factor)
    spots, wide = _measure(windows, seeds, light)
    if wide.any():
        # A spot wider than its window says little about its own background: look again from further away.
        again = Seeds(seeds.x[wide], seeds.y[wide], seeds.height[wide], seeds.factor)
        more, _ = _measure(cut_windows(light, again.x, again.y, half=11 * seeds.factor), again, light)
        spots = [s for s, w in zip(spots, wide, strict=True) if not w] + more
    return _distinct([s for s in spots if s is not None])


def _measure(w: Windows, seeds: Seeds, light: Light) -> tuple[list[Spot | None], NDArray[np.bool_]]:
    """Spots of the windows (None where a window holds none), and which need a wider window."""
    theta = iterate(w, start(w, seeds), w.good, steps=6)
    # Hot and blinking pixels stand out of the noise that a spot of such light can have.
    f, scatter = scatter_of(w, theta, light, np.full(len(theta), 0.5))
    residual = w.data - f - theta[:, 6:7].astype(np.float32)
    w.good[residual**2 > 36 * (scatter.white + scatter.texture)] = 0
    plain = iterate(w, theta, w.good, steps=6)

    contrast = speckle_contrast(w, plain, light)
    weighted = plain
    for _ in range(3):
        f, scatter = scatter_of(w, weighted, light, contrast)
        variance = scatter.white + scatter.texture
        deviation = np.abs(w.data - f - weighted[:, 6:7].astype(np.float32)) / np.sqrt(variance)
        huber = np.minimum(1, np.float32(3) / np.maximum(deviation, np.float32(1e-3)))
        weight = w.good / variance * huber
        weighted = iterate(w, weighted, weight, steps=3)
    f, scatter = scatter_of(w, weighted, light, contrast)
    area = speckle_area(w, weighted, scatter, f)
    alone, together = skewness(w, weighted, scatter)
    leaning = alone > (LEAN if together < LEAN_TOGETHER * area else DEGREES) * area
    # The orders of one beam lean alike: one that leans far more than the others has another spot beneath it.
    others = [np.median(np.delete(alone, i)) if len(alone) > 2 else np.inf for i in range(len(alone))]
    blended = (alone > BLENDED * area) & (alone > BLENDED_TO_OTHERS * np.array(others))

    scatter = Scatter(scatter.white, scatter.texture * np.float32(area))
    best = _Estimate(weighted, *sandwich(w, weighted, w.good / variance, scatter))
    robust = _Estimate(plain, *sandwich(w, plain, w.good, scatter))
    # What separates two estimates of a beam of unknown shape, beyond what their noise does (the variance of an
    # estimate less an efficient one is the difference of theirs), is the measure of what the shape may do.
    noise = np.maximum(robust.variance - best.variance, 0)
    shape = SHAPE_SHARE**2 * np.maximum((plain - weighted)[:, :2] ** 2 - noise, 0)
    shape[~(leaning | blended)] = 0
    wide = (1 / np.minimum(plain[:, 2], plain[:, 4]) > (w.side / 6) ** 2) & (w.side // 2 <= 5 * seeds.factor)
    spots = [
        _spot(
            i,
            w,
            light,
            robust if leaning[i] else best,
            shape=shape[i],
            flags=["not-gaussian"] * bool(leaning[i]) + ["blended"] * bool(blended[i]),
            contrast=float(contrast[i]),
        )
        for i in range(len(theta))
    ]
    return spots, wide


class _Estimate(NamedTuple):
    """Parameters, shape (n, 7), and the two parts of their covariance, shape (n, 7, 7)."""

    theta: Array
    white: Array
    texture: Array

    @property
    def variance(self) -> Array:
        """Of x and y, shape (n, 2), px^2."""
        return np.asarray((self.white + self.texture)[:, [0, 1], [0, 1]])


def _spot(
    i: int, w: Windows, light: Light, estimate: _Estimate, *, shape: Array, flags: list[str], contrast: float
) -> Spot | None:
    theta, white, texture = estimate.theta[i], estimate.white[i], estimate.texture[i]
    covariance = white + texture
    x, y, p, q, r, amplitude, _ = theta
    determinant = max(p * r - q * q, 1e-12)
    variances = np.array([r, p]) / determinant
    x, y = x + w.x0[i], y + w.y0[i]
    ny, nx = light.difference.shape
    errors = np.diag(covariance)
    # Speckle and the beam's shape blur where a spot is, not that there is one.
    significant = (
        white[5, 5] > 0
        and amplitude > MIN_SIGNIFICANCE * np.sqrt(white[5, 5])
        and 0 < errors[:2].min() <= errors[:2].max() < variances.max()
    )
    inside = -0.5 <= x <= nx - 0.5 and -0.5 <= y <= ny - 0.5
    plausible = variances.min() > 0.45**2 and variances.max() < (w.side / 2.2) ** 2
    if not (np.isfinite(theta).all() and significant and inside and plausible):
        return None
    core = (w.dx[i] + w.x0[i] - x) ** 2 / variances[0] + (w.dy[i] + w.y0[i] - y) ** 2 / variances[1] < 4
    saturated = bool((w.saturated[i] & core).any())
    if saturated:
        flags.append("saturated")
    reach = 2 * np.sqrt(variances)
    if x < reach[0] or y < reach[1] or x > nx - 1 - reach[0] or y > ny - 1 - reach[1]:
        flags.append("edge")
    return Spot(
        x=float(x),
        y=float(y),
        x_stderr=float(np.sqrt(errors[0] + shape[0])),
        y_stderr=float(np.sqrt(errors[1] + shape[1])),
        xy_covariance=float(covariance[0, 1]),
        amplitude=float(amplitude),
        amplitude_stderr=float(np.sqrt(errors[5])),
        sigma_x=float(np.sqrt(variances[0])),
        sigma_y=float(np.sqrt(variances[1])),
        saturated=saturated,
        flags=tuple(flags),
        texture=(
            float(texture[0, 0] + shape[0]),
            float(texture[0, 1]),
            float(texture[1, 1] + shape[1]),
        ),
        speckle_contrast=contrast,
    )


def _distinct(spots: list[Spot]) -> tuple[Spot, ...]:
    """Without the fainter of two that converged to one place; from left to right."""
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda s: -s.amplitude):
        near = [k for k in kept if np.hypot(k.x - spot.x, k.y - spot.y) < 1.5 * max(k.sigma_x, k.sigma_y)]
        if not near:
            kept.append(spot)
    return tuple(sorted(kept, key=lambda s: s.x))
