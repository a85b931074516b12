"""Pixels to metres on the screen.

A pixel is freed of radial distortion and carried to the screen's plane by a homography:

    p - c = (q - c) (1 + kappa |q - c|^2 / h^2)        (c: the frame's centre, h: half its width)
    (X, Y) = H q                                        (kappa = k1 (h / f)^2 of OpenCV's model, f in px)

With a `Lens` (OpenCV's model, from a chessboard) the first line is done by OpenCV and kappa is only what it left.
Without it kappa is unknown: k1 in -.03..0 moves a spot at the edge of the field by up to 1 %. It is then fitted
to the target's edges, which it bends, together with the homography and under the prior of `Setup`; what remains
unknown goes to the fit of the grating as the covariance of the calibration's parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import BadScan
from analysis.frames import MIN_SIDE, check_frame
from catalog.setup import Setup

Array = NDArray[np.float64]

N_PARAMETERS = 9  # eight of the homography (H[2, 2] = 1), and kappa


@dataclass(frozen=True)
class Lens:
    """A lens in OpenCV's conventions.

    camera_matrix : array-like, shape (3, 3), px
    distortion : array-like, shape (4,), (5,), (8,), (12,) or (14,): k1, k2, p1, p2[, k3, ...]
    residual : float, one standard deviation of what distortion it may leave, as a radial shift at half the frame's
        width, relative; None: a twentieth of what `Setup` expects without a lens
    """

    camera_matrix: Any
    distortion: Any
    residual: float | None = None

    def __post_init__(self) -> None:
        matrix = np.array(self.camera_matrix, float)
        distortion = np.array(self.distortion, float).ravel()
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
            raise BadScan(f"lens: camera_matrix must be a finite 3 x 3 with positive focal lengths, not {matrix!r}")
        if distortion.size not in (4, 5, 8, 12, 14) or not np.isfinite(distortion).all():
            raise BadScan(f"lens: distortion must hold 4, 5, 8, 12 or 14 finite coefficients, not {distortion!r}")
        if self.residual is not None and not 0 <= self.residual < 1:
            raise BadScan(f"lens: residual is relative, from 0 to 1, not {self.residual!r}")
        object.__setattr__(self, "camera_matrix", matrix)
        object.__setattr__(self, "distortion", distortion)

    def undistort(self, points: Array) -> Array:
        """Pixels, shape (n, 2), as a camera without distortion would see them."""
        import cv2

        if not len(points):
            return points
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-9)
        return np.asarray(
            cv2.undistortPoints(
                np.ascontiguousarray(points, float)[:, None, :],
                self.camera_matrix,
                self.distortion,
                None,
                None,
                self.camera_matrix,
                criteria,
            ),
            float,
        )[:, 0]


@dataclass(frozen=True)
class Calibration:
    """The map from pixels to metres on the screen, and how well it is known.

    theta : ndarray, shape (9,), H in rows (without its last element 1) and kappa
    covariance : ndarray, shape (9, 9)
    source : "target" or "self": with "self" the scale, 1 px = `pixel_size`, is a start that the fit has to free
    """

    theta: Array
    covariance: Array
    source: str
    shape: tuple[int, int]
    pixel_size: float
    lens: Lens | None = None
    edge_rms: float = float("nan")
    flags: tuple[str, ...] = ()
    corners: Array = field(default_factory=lambda: np.empty((0, 2)))

    def to_screen(self, points: ArrayLike) -> Array:
        """Metres on the screen, shape (n, 2), of pixels, shape (n, 2)."""
        points = np.atleast_2d(np.asarray(points, float))
        if self.lens is not None:
            points = self.lens.undistort(points)
        return carry(points, self.theta, self.shape)

    def pixel_jacobian(self, points: ArrayLike) -> Array:
        """d(X, Y) / d(x, y), m / px, shape (n, 2, 2)."""
        points = np.atleast_2d(np.asarray(points, float))
        h = 0.5
        columns = [(self.to_screen(points + d) - self.to_screen(points - d)) / (2 * h) for d in np.eye(2) * h]
        return np.stack(columns, -1)

    def parameter_jacobian(self, points: ArrayLike) -> Array:
        """d(X, Y) / d(theta), shape (n, 2, 9)."""
        points = np.atleast_2d(np.asarray(points, float))
        if self.lens is not None:
            points = self.lens.undistort(points)
        return parameter_jacobian(points, self.theta, self.shape)


def centre_and_half(shape: tuple[int, int]) -> tuple[Array, float]:
    """The frame's centre (x, y) and half its width, px."""
    return (np.array(shape[::-1], float) - 1) / 2, shape[1] / 2


def straighten(points: Array, kappa: float, shape: tuple[int, int]) -> Array:
    """Pixels freed of kappa, shape (n, 2): the root q of p = c + (q - c)(1 + kappa |q - c|^2 / h^2).

    A barrel folds back at |q - c| = h / sqrt(-3 kappa); pixels that no q reaches are taken to the fold.
    """
    centre, half = centre_and_half(shape)
    p = (points - centre) / half
    distance = np.hypot(p[:, 0], p[:, 1])
    fold = 0.999 / np.sqrt(-3 * kappa) if kappa < 0 else 4.0
    r = np.minimum(distance, fold)
    for _ in range(12):
        r = np.clip(r - (r * (1 + kappa * r**2) - distance) / np.maximum(1 + 3 * kappa * r**2, 1e-3), 0, fold)
    factor = np.where(distance > 1e-12, r / np.maximum(distance, 1e-12), 1.0)
    return centre + p * factor[:, None] * half


def carry(points: Array, theta: Array, shape: tuple[int, int]) -> Array:
    """Pixels, shape (n, 2), to metres, shape (n, 2)."""
    q = straighten(points, float(theta[8]), shape)
    h = np.append(theta[:8], 1.0).reshape(3, 3)
    xyw = q @ h[:, :2].T + h[:, 2]
    return np.asarray(xyw[:, :2] / xyw[:, 2:])


def parameter_jacobian(points: Array, theta: Array, shape: tuple[int, int]) -> Array:
    """d(X, Y) / d(theta), shape (n, 2, 9)."""
    q = straighten(points, float(theta[8]), shape)
    h = np.append(theta[:8], 1.0).reshape(3, 3)
    xyw = q @ h[:, :2].T + h[:, 2]
    metres = xyw[:, :2] / xyw[:, 2:]
    homogeneous = np.column_stack([q, np.ones(len(q))]) / xyw[:, 2:]
    jacobian = np.zeros((len(q), 2, N_PARAMETERS))
    jacobian[:, 0, 0:3] = homogeneous
    jacobian[:, 1, 3:6] = homogeneous
    jacobian[:, :, 6:8] = -metres[:, :, None] * homogeneous[:, None, :2]
    step = 1e-5
    up, down = theta.copy(), theta.copy()
    up[8] += step
    down[8] -= step
    jacobian[:, :, 8] = (carry(points, up, shape) - carry(points, down, shape)) / (2 * step)
    return jacobian


def self_calibration(shape: tuple[int, int], setup: Setup, *, lens: Lens | None = None) -> Calibration:
    """A calibration that knows only its priors: a camera that looks straight at the screen, more or less.

    The scale is `setup.pixel_size`, or a guess that the search for the orders has to replace; the keystone of the
    camera's pose and the lens's kappa have the priors of `Setup`.
    """
    centre, half = centre_and_half(shape)
    scale = setup.pixel_size or 0.32 / shape[1]
    # H maps c to (0, 0); a camera turned by phi adds (1 + tan(phi) (x - c) / f) to the denominator, f ~ 0.8 widths.
    theta = np.array([scale, 0, -scale * centre[0], 0, scale, -scale * centre[1], 0, 0, setup.lens_distortion])
    keystone = setup.camera_tilt_stderr / (1.6 * half)
    covariance = np.zeros((N_PARAMETERS, N_PARAMETERS))
    covariance[6, 6] = covariance[7, 7] = keystone**2
    covariance[8, 8] = kappa_variance(setup, lens)
    if lens is not None:
        theta[8] = 0.0
    return Calibration(theta, covariance, "self", shape, scale, lens)


def kappa_variance(setup: Setup, lens: Lens | None) -> float:
    """The prior's variance of kappa, or what the lens's calibration leaves of it."""
    if lens is None:
        return setup.lens_distortion_stderr**2
    # Exactly none would leave the fit no way to move.
    return max(0.05 * setup.lens_distortion_stderr if lens.residual is None else lens.residual, 1e-6) ** 2


def calibrate(frame: Any, setup: Setup | None = None, *, lens: Lens | None = None) -> Calibration:
    """Calibration from a frame that shows the square target.

    Parameters
    ----------
    frame : array-like, shape (n_y, n_x) or (n_y, n_x, channel), counts; laser off, the target and its surroundings lit
    setup : Setup, for the target's size and the prior of the lens's distortion
    lens : Lens, optional

    Raises
    ------
    NoTarget
        When no square with four straight edges is found.
    """
    from analysis.target import find_target, fit_target

    setup = setup or Setup()
    array = check_frame(frame, f"calibration frame (at least {MIN_SIDE} px)")
    return fit_target(find_target(array), array.shape[:2], setup, lens=lens)
