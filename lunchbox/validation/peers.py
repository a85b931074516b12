"""Other people's ways to find spots and a period, on the same frames: what the comparison is with.

trackpy and photutils are development dependencies: `pip install 'lunchbox[validation]'`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis import Scan

Frame = NDArray[Any]
Places = NDArray[np.float64]
#: (image, background, px of each spot to within one) -> places found, shape (m, 2), px
Finder = Callable[[Frame, Frame, Places], Places]

#: counts, px: what a first attempt takes.
THRESHOLD, BLUR = 20.0, 3.0
#: px, odd: what holds a spot of the bench.
DIAMETER = 25


def difference(image: Frame, background: Frame) -> NDArray[np.float32]:
    return np.asarray(cv2.subtract(image, background, dtype=cv2.CV_32F))


def components(image: Frame, background: Frame, _: Places | None = None) -> Places:
    """The tutorial that this project was born from: blur, threshold, centroids of the connected components."""
    blurred = cv2.GaussianBlur(difference(image, background), (0, 0), BLUR)
    _, _, _, centroids = cv2.connectedComponentsWithStats((blurred > THRESHOLD).astype(np.uint8))
    return np.asarray(centroids[1:], float)


def trackpy_locate(image: Frame, background: Frame, _: Places) -> Places:
    """`trackpy.locate`: band-pass, local maxima, iterated centre of mass."""
    import trackpy

    trackpy.quiet()
    found = trackpy.locate(difference(image, background).clip(0), DIAMETER, engine="python")
    return found[["x", "y"]].to_numpy(float)


def photutils_gaussian(image: Frame, background: Frame, near: Places) -> Places:
    """`photutils.centroids.centroid_2dg`, told where each spot is to within a pixel."""
    from photutils.centroids import centroid_2dg, centroid_sources

    x, y = centroid_sources(
        difference(image, background), near[:, 0], near[:, 1], box_size=DIAMETER, centroid_func=centroid_2dg
    )
    return np.stack([x, y], -1)


def finders() -> Mapping[str, Finder]:
    """Those whose packages are installed."""
    found: dict[str, Finder] = {"blur, threshold, components": components}
    if importlib.util.find_spec("trackpy"):
        found["trackpy.locate"] = trackpy_locate
    if importlib.util.find_spec("photutils"):
        found["photutils centroid_2dg"] = photutils_gaussian
    return found


def tutorial_period(scan: Scan) -> float:
    """lambda/d as the tutorial has it; NaN where it finds no three spots.

    The three largest blobs of each frame are orders -1, 0, +1 from left to right; the scale is the square root of the
    target's area above a threshold; lambda/d is the mean of sin(arctan(spacing / distance)).
    """
    target = np.asarray(scan.calibration)
    red = cv2.GaussianBlur(target[..., 0] if target.ndim == 3 else target, (0, 0), BLUR)
    _, mask = cv2.threshold(red, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    pixel = scan.setup.target_size / math.sqrt(stats[1:, cv2.CC_STAT_AREA].max())
    values = []
    for i in range(len(scan)):
        image, background = scan.pair(i)
        blurred = cv2.GaussianBlur(difference(image, background), (0, 0), BLUR)
        _, _, stats, centroids = cv2.connectedComponentsWithStats((blurred > THRESHOLD).astype(np.uint8))
        if len(stats) < 4:
            continue
        largest = 1 + np.argsort(stats[1:, cv2.CC_STAT_AREA])[-3:]
        left, middle, right = sorted(centroids[largest], key=lambda place: place[0])
        spacing = (math.dist(left, middle) + math.dist(middle, right)) / 2 * pixel
        values.append(math.sin(math.atan(spacing / scan.setup.screen_distance)))
    return float(np.mean(values)) if values else float("nan")
