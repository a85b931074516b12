"""What a pixel's difference, image - background, scatters by: estimated from the pair itself.

    variance = v0 + f / K + C^2 f^2          v0 = a + 2 B / K

with f the laser's light and B the ambient light (counts), K the gain (electrons per count), `a` read noise and
quantisation of both frames, C the contrast of the speckle. `a` and K come from the scatter of neighbouring pixels
against the ambient level, which varies over the frame; C from the residuals of the spots (see `spots`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

BLOCK = 32
SPECKLE_GUESS = 0.3


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Variance of a difference pixel, counts^2."""

    floor: float
    """a: read noise and quantisation of both frames, counts^2."""
    per_count: float
    """1 / K: shot noise, counts^2 per count."""

    def dark(self, ambient: Array | float) -> NDArray[np.float64]:
        """v0, counts^2, where the background shows `ambient` counts."""
        return np.asarray(self.floor + 2 * self.per_count * np.maximum(ambient, 0), dtype=np.float64)


def quantisation(dtype: np.dtype[np.generic]) -> float:
    """Variance that rounding alone gives the difference of two frames, counts^2."""
    return 1 / 6 if dtype.kind in "iub" else 0.0


def estimate_noise(difference: Array, background: Array, *, quantum: float) -> NoiseModel:
    """The noise of one pair of frames.

    Parameters
    ----------
    difference, background : ndarray, shape (n_y, n_x), counts
    quantum : float, counts^2, the least variance there can be (`quantisation`)

    Neighbours along a row are compared, so ambient light that changed between image and background, and the bands of
    a rolling shutter, cancel; blocks that the laser lights up, and hot pixels, are left out as outliers.
    """
    step = 8 if difference.shape[0] >= 8 * BLOCK else 1
    rows, ambient = difference[::step], background[::step]
    half = rows.shape[1] // 2
    squares = rows[:, 1 : 2 * half : 2] - rows[:, 0 : 2 * half : 2]
    squares = squares.astype(np.float64) ** 2 / 2
    # Rounded counts make a median too coarse a measure of scale; a mean without the tail is not.
    sample = squares[::2, ::3]
    typical = float(np.mean(np.minimum(sample, np.quantile(sample, 0.9)))) * 1.3
    good = squares <= 16 * max(typical, quantum, 1e-12)

    ny, nx = BLOCK // 2, BLOCK // 2
    by, bx = squares.shape[0] // ny, squares.shape[1] // nx
    if by * bx < 4:
        return NoiseModel(max(float(squares[good].mean()) if good.any() else quantum, quantum, 1e-12), 0.0)
    cut = (slice(by * ny), slice(bx * nx))
    count = good[cut].reshape(by, ny, bx, nx).sum((1, 3))
    total = (squares * good)[cut].reshape(by, ny, bx, nx).sum((1, 3))
    level = ambient[:, : 2 * half : 2].astype(np.float64)[cut].reshape(by, ny, bx, nx).mean((1, 3))
    usable = count > ny * nx // 2
    if not usable.any():
        return NoiseModel(max(typical, quantum, 1e-12), 0.0)
    variance, level = total[usable] / count[usable], level[usable]
    keep = np.isfinite(level) & (variance <= 1.6 * max(float(np.median(variance)), quantum))
    variance, level = variance[keep], np.maximum(level[keep], 0)
    mean_v, mean_b = float(variance.mean()), float(level.mean())
    # Read noise and shot noise are both >= 0, which bounds 1/K; half of the bound is where it starts from.
    bound = max(mean_v - quantum, 0.0) / (2 * mean_b) if mean_b > 0 else 0.0
    guess = 0.5 * bound
    spread = float(level.var())
    slope = float(np.mean((level - mean_b) * (variance - mean_v))) / (2 * spread) if spread > 0 else 0.0
    known = 4 * spread * variance.size / (float(variance.var()) + 1e-12)
    believed = 1 / max(guess, 1e-9) ** 2
    per_count = float(np.clip((slope * known + guess * believed) / (known + believed), 0, bound))
    return NoiseModel(max(mean_v - 2 * per_count * mean_b, quantum, 1e-12), per_count)
