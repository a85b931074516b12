"""Where spots are, to a few pixels: area reduction, median, difference of Gaussians, threshold, local maxima."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis.frames import Light

#: The reduced frame is about this wide: a spot of the bench is then about one pixel (1 sigma), whatever the camera.
REDUCED_WIDTH = 320
THRESHOLD = 6.0
MAX_SPOTS = 40


@dataclass(frozen=True, slots=True)
class Seeds:
    """Candidates, brightest first.

    x, y : ndarray f8, shape (n,), pixel; height : ndarray f8, shape (n,), counts; factor : pixels per reduced pixel
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    height: NDArray[np.float64]
    factor: int


def detect(light: Light, *, threshold: float = THRESHOLD) -> Seeds:
    """Candidates for spots in one pair of frames, above `threshold` sigma of the filtered frame."""
    ny, nx = light.difference.shape
    factor = max(1, round(nx / REDUCED_WIDTH))
    my, mx = ny // factor, nx // factor
    plane = light.difference[: my * factor, : mx * factor]
    small = cv2.resize(plane, (mx, my), interpolation=cv2.INTER_AREA)
    small -= light.rows[: my * factor].reshape(my, factor).mean(1, dtype=np.float32)[:, None]
    small = cv2.medianBlur(small, 3)
    narrow = cv2.GaussianBlur(small, (0, 0), 1.0, borderType=cv2.BORDER_REPLICATE)
    filtered = narrow - cv2.GaussianBlur(small, (0, 0), 3.0, borderType=cv2.BORDER_REPLICATE)
    sample = filtered[::2, ::2]
    sigma = 1.4826 * float(np.median(np.abs(sample - np.median(sample))))
    # White noise of v0, reduced and filtered so, has this sigma: it takes over where the frame is constant.
    white = 0.2 * float(np.sqrt(light.noise.floor)) / factor
    level = threshold * max(sigma, white)
    peak = (filtered >= cv2.dilate(filtered, np.ones((7, 7), np.uint8))) & (filtered > level)
    rows, columns = np.nonzero(peak)
    order = np.argsort(filtered[rows, columns])[::-1][:MAX_SPOTS]
    rows, columns = rows[order], columns[order]
    centre = (factor - 1) / 2
    return Seeds(columns * factor + centre, rows * factor + centre, narrow[rows, columns].astype(np.float64), factor)
