"""How bright the screen is: spots, their halo and speckle, daylight, and the calibration target. DN throughout."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from acquisition.bench.lens import Lens

Image = NDArray[np.float32]

#: DN; a Gaussian is drawn out to where it has faded to this.
_INVISIBLE = 0.01
#: px, half the width of an edge's rise: what the lens does to a sharp edge.
_EDGE_BLUR = 0.8
#: px, how far a distorted edge may bow out from between its corners, and its blur.
_BOWING = 40


@dataclass(frozen=True)
class TrueSpot:
    """Light of one order (None: a ghost) on the sensor.

    Attributes
    ----------
    order : int or None
    x, y : float, px
        Pixel (0, 0)'s centre is the origin, y points down.
    amplitude : float, DN
        Peak in the red channel; beyond 255 it saturates.
    covariance : ndarray, shape (2, 2), px^2
        Of the Gaussian that the spot is.
    """

    order: int | None
    x: float
    y: float
    amplitude: float
    covariance: NDArray[np.float64]


def add_gaussian(image: Image, spot: TrueSpot, *, amplitude: float, widened: float = 1.0) -> slice:
    """Add a Gaussian to the image in place; return the rows that it touches."""
    covariance = spot.covariance * widened**2
    sigmas = np.sqrt(2 * np.log(max(amplitude / _INVISIBLE, 1.0)))
    rows, y = _window(spot.y, sigmas * np.sqrt(covariance[1, 1]), image.shape[0])
    columns, x = _window(spot.x, sigmas * np.sqrt(covariance[0, 0]), image.shape[1])
    if x.size and y.size:
        (xx, xy), (_, yy) = np.linalg.inv(covariance)
        exponent = np.add.outer((-0.5 * yy) * y**2, (-0.5 * xx) * x**2)
        exponent -= np.float32(xy) * np.multiply.outer(y, x)
        image[rows, columns] += np.float32(amplitude) * cv2.exp(exponent)
    return rows


def _window(centre: float, reach: float, size: int) -> tuple[slice, Image]:
    start, stop = max(int(centre - reach), 0), min(int(centre + reach) + 2, size)
    window = slice(start, max(stop, start))
    return window, (np.arange(window.start, window.stop) - centre).astype(np.float32)


def speckle(shape: tuple[int, int], *, contrast: float, size: float, random: np.random.Generator) -> Image:
    """Gamma-distributed, mean 1, standard deviation `contrast`; `size` px wide at half maximum.

    A Gaussian field is smoothed to the size and mapped to a gamma distribution by Wilson and Hilferty's cube root,
    which is good to a thousandth for contrasts up to a half.
    """
    if contrast == 0:
        return np.ones(shape, np.float32)
    field = random.standard_normal(shape, dtype=np.float32)
    # The autocorrelation of a field smoothed with sigma s is sqrt(2) s wide.
    sigma = size / (2 * np.sqrt(2 * np.log(2)) * np.sqrt(2))
    if sigma > 0:
        field = cv2.GaussianBlur(field, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        field /= field.std()
    ninth = contrast**2 / 9
    gamma = np.maximum(1 - ninth + field * np.float32(np.sqrt(ninth)), 0) ** 3
    gamma -= gamma.mean()
    return 1 + gamma * np.float32(contrast / gamma.std())


def daylight(shape: tuple[int, int], *, level: float, gradient: float, direction: float) -> Image:
    """A plane, `level` at the centre, falling by `gradient` of it from edge to edge along `direction` (rad)."""
    y = np.linspace(-0.5, 0.5, shape[0])[:, None]
    x = np.linspace(-0.5, 0.5, shape[1])[None, :]
    span = abs(np.cos(direction)) + abs(np.sin(direction))
    return np.asarray(level * (1 + gradient * (x * np.cos(direction) + y * np.sin(direction)) / span), np.float32)


def target(lens: Lens, *, centre: tuple[float, float], rotation: float, size: float) -> Image:
    """The square target's coverage of each pixel, 0 to 1, half way at its edges; shape as the lens'."""
    cos, sin = np.cos(rotation), np.sin(rotation)
    axes = np.array([[cos, sin], [-sin, cos]])
    corners = lens.project(centre + size / 2 * np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) @ axes)
    columns, rows = (
        np.arange(max(int(low) - _BOWING, 0), min(int(high) + _BOWING, n), dtype=float)
        for low, high, n in zip(corners.min(axis=0), corners.max(axis=0), reversed(lens.shape), strict=True)
    )
    coverage = np.zeros(lens.shape, np.float32)
    if columns.size and rows.size:
        points = lens.unproject(np.stack(np.meshgrid(columns, rows), axis=-1)) - centre
        inside = (size / 2 - np.abs(points @ axes.T)) / (_EDGE_BLUR * lens.pixel_size)
        coverage[int(rows[0]) : int(rows[-1]) + 1, int(columns[0]) : int(columns[-1]) + 1] = np.prod(
            (1 + np.tanh(inside)) / 2, axis=-1
        )
    return coverage
