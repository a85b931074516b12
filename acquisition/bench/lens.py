"""From the screen to the camera: a tilted pinhole with radial distortion, in OpenCV's conventions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.bench.optics import rotation

Points = NDArray[np.float64]

_STEP = 1e-6  # m, of the numerical derivative


@dataclass(frozen=True, kw_only=True)
class Lens:
    """A camera that looks at the origin of the screen, which it sees at the image's centre.

    Attributes
    ----------
    shape : (height, width), px
    pixel_size : float, m
        On the screen, at the image's centre when the camera is not tilted.
    distance : float, m
    tilt_x, tilt_y, roll : float, rad
    k1 : float
        x_distorted = x (1 + k1 r^2), with x and r in units of the focal length.
    """

    shape: tuple[int, int]
    pixel_size: float
    distance: float
    tilt_x: float
    tilt_y: float
    roll: float
    k1: float

    @property
    def _focal_length(self) -> float:
        return self.distance / self.pixel_size

    @property
    def _centre(self) -> Points:
        # Pixel (0, 0)'s centre is the origin.
        return np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2])

    @property
    def _homography(self) -> Points:
        """Screen (x, y, 1) to image plane (x, y, 1), both in m and per focal length."""
        pose = rotation(2, self.roll) @ rotation(1, self.tilt_y) @ rotation(0, self.tilt_x)
        return np.column_stack([pose[:, 0], pose[:, 1], [0.0, 0.0, self.distance]])

    def project(self, points: Points) -> Points:
        """Screen coordinates, shape (..., 2), m, to pixels, shape (..., 2)."""
        plane = _dehomogenised(points, self._homography)
        radius_squared = np.sum(plane**2, axis=-1, keepdims=True)
        return self._focal_length * plane * (1 + self.k1 * radius_squared) + self._centre

    def unproject(self, pixels: Points) -> Points:
        """The inverse of `project`."""
        distorted = (pixels - self._centre) / self._focal_length
        plane = distorted.copy()
        for _ in range(30):
            correction = distorted / (1 + self.k1 * np.sum(plane**2, axis=-1, keepdims=True)) - plane
            plane += correction
            if np.abs(correction).max() * self._focal_length < 1e-6:
                break
        return _dehomogenised(plane, np.asarray(np.linalg.inv(self._homography)))

    def magnification(self, point: Points) -> Points:
        """d(pixel)/d(screen), shape (2, 2), px/m, at a point of shape (2,)."""
        steps = _STEP * np.eye(2)
        return ((self.project(point + steps) - self.project(point - steps)) / (2 * _STEP)).T


def _dehomogenised(points: Points, homography: Points) -> Points:
    mapped = points @ homography[:, :2].T + homography[:, 2]
    return mapped[..., :2] / mapped[..., 2:]
