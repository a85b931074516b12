"""The square calibration target: found in the frame, and what its edges say of camera and lens.

The area of the target, or its corners, would carry the threshold's error and the camera's pose into the scale; edges
at the local half level do not, and their bending shows the lens's distortion.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis.calibration import (
    N_PARAMETERS,
    Calibration,
    Lens,
    carry,
    centre_and_half,
    kappa_variance,
    parameter_jacobian,
)
from analysis.edges import edge_points
from analysis.errors import NoTarget
from catalog.setup import Setup

Array = NDArray[np.float64]

#: px: what shading, paper and the sharpness of an edge may move a whole edge by. One standard deviation.
EDGE_SYSTEMATIC = 0.02
#: px: what a cut edge and the camera's blur may bend it by, at its ends against its middle. One standard deviation.
EDGE_BENDING = 0.005


def find_target(frame: NDArray[Any]) -> Array:
    """Points on the edges of the target, found in the frame.

    Returns
    -------
    ndarray, shape (n, 3): points on the edges: x, y (px) and the edge (0 top, 1 right, 2 bottom, 3 left)
    """
    planes = [frame] if frame.ndim == 2 else [frame[..., i] for i in range(min(3, frame.shape[2]))]
    planes = [np.where(np.isfinite(p), p, 0).astype(np.float32) for p in planes]
    best: tuple[float, Array] | None = None
    for plane in planes:
        quad = _square(plane)
        if quad is not None:
            step, noise = _step(plane, quad)
            if best is None or abs(step) / noise > best[0]:
                best = (abs(step) / noise, quad)
    if best is None:
        raise NoTarget(
            "calibration frame: no square with four straight edges that fills 0.5-80 % of the frame. Light the room, "
            "switch the laser off, and let the whole target and a margin around it be seen"
        )
    corners = best[1]
    # Each channel in proportion to its step over its variance: the sum has the sharpest edges that they can give.
    weights = [step / noise**2 for step, noise in (_step(plane, corners) for plane in planes)]
    total = max(sum(map(abs, weights)), 1e-12)
    mixed = np.zeros(planes[0].shape, np.float32)
    for weight, plane in zip(weights, planes, strict=True):
        mixed += np.float32(weight / total) * plane
    points = edge_points(mixed, corners)
    if min(np.count_nonzero(points[:, 2] == side) for side in range(4)) < 8:
        raise NoTarget("calibration frame: an edge of the target is too faint or too broken to be measured")
    return points


def _square(plane: NDArray[Any]) -> Array | None:
    """Corners of the most square-like region, brighter or darker than what surrounds it; shape (4, 2), px."""
    low, high = np.percentile(plane[::4, ::4], (0.5, 99.5))
    if high - low < 1e-9:
        return None
    grey = np.clip((plane.astype(np.float32) - low) * np.float32(255 / (high - low)), 0, 255).astype(np.uint8)
    grey = cv2.medianBlur(grey, 5)
    # Room light fades across the frame: compare with a plane fitted to it, too.
    candidates = []
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    for threshold in (level, level * 0.85, level * 1.15):
        for binary in (grey > threshold, grey <= threshold):
            mask = cv2.morphologyEx(binary.astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
            contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            candidates += [q for q in (_quadrilateral(c, grey.shape) for c in contours) if q is not None]
    if not candidates:
        return None
    return max(candidates, key=lambda item: item[0])[1]


def _quadrilateral(contour: NDArray[Any], shape: tuple[int, ...]) -> tuple[float, Array] | None:
    """(score, corners) of a contour that is nearly a square; None otherwise."""
    area = cv2.contourArea(contour)
    if not 0.005 * shape[0] * shape[1] < area < 0.8 * shape[0] * shape[1]:
        return None
    hull = cv2.convexHull(contour)
    corners = cv2.approxPolyDP(hull, 0.04 * cv2.arcLength(hull, True), True)[:, 0].astype(float)
    if len(corners) != 4:
        return None
    margin = 3
    if corners.min() < margin or (corners > np.array(shape[1::-1]) - 1 - margin).any():
        return None
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    filled = area / max(cv2.contourArea(corners.astype(np.float32)), 1.0)
    if sides.min() / sides.max() < 0.6 or not 0.9 < filled < 1.1:
        return None
    # Clockwise on the screen (y down) from the top left.
    angle = np.arctan2(*(corners - corners.mean(0)).T[::-1])
    corners = corners[np.argsort(angle)]
    first = np.argmin(corners.sum(1))
    squareness = sides.min() / sides.max() * (1 - abs(1 - filled))
    return float(squareness * np.sqrt(area)), np.roll(corners, -first, axis=0)


def _step(plane: NDArray[np.float32], corners: Array) -> tuple[float, float]:
    """Step across the quadrilateral's edges, inside - outside, and the noise of a pixel; counts."""
    centre = corners.mean(0)
    values = []
    for grow in (0.85, 1.15):
        ring = centre + (corners - centre) * grow
        line = np.concatenate([np.linspace(a, b, 200) for a, b in zip(ring, np.roll(ring, -1, axis=0), strict=True)])
        x, y = np.clip(line.T, 0, np.array(plane.shape[::-1])[:, None] - 2).astype(int)
        values.append((np.median(plane[y, x]), np.mean((plane[y, x + 1] - plane[y, x]) ** 2) / 2))
    (inner, inner_variance), (outer, outer_variance) = values
    return float(inner - outer), float(np.sqrt((inner_variance + outer_variance) / 2 + 0.1))


def fit_target(points: Array, shape: tuple[int, int], setup: Setup, *, lens: Lens | None = None) -> Calibration:
    """Homography and kappa that make the edges a square of the target's size, and their covariance.

    Parameters
    ----------
    points : ndarray, shape (n, 3): x, y (px), edge (0 top, 1 right, 2 bottom, 3 left)
    """
    from scipy.optimize import least_squares

    xy, side = points[:, :2], points[:, 2].astype(int)
    if lens is not None:
        xy = lens.undistort(xy)
    half = setup.target_size / 2
    centre, half_width = centre_and_half(shape)
    # An edge fixes one coordinate: Y on top and bottom, X on right and left.
    axis = np.where(side % 2 == 0, 1, 0)
    goal = np.array([-half, half, half, -half])[side]
    rows = np.arange(len(xy))
    start = _start(xy, side, half)
    scale = float(np.sqrt(abs(np.linalg.det(start[:2, :2]))))
    kappa0 = 0.0 if lens is not None else setup.lens_distortion
    sigma_kappa = np.sqrt(kappa_variance(setup, lens))
    # Sizes that make all nine parameters of order one.
    size = np.array([scale, scale, scale * half_width] * 2 + [0.05 / half_width] * 2 + [0.01])
    sigma = 0.05 * scale

    def residuals(t: Array) -> Array:
        theta = t * size
        edge = (carry(xy, theta, shape)[rows, axis] - goal) / sigma
        return np.append(edge, (theta[8] - kappa0) / sigma_kappa)

    def jacobian(t: Array) -> Array:
        edge = parameter_jacobian(xy, t * size, shape)[rows, axis] / sigma
        return np.vstack([edge, np.eye(N_PARAMETERS)[8] / sigma_kappa]) * size

    h = start / start[2, 2]
    first = np.append(h.ravel()[:8], kappa0) / size
    solution = least_squares(residuals, first, jac=jacobian, method="lm", max_nfev=200)
    rms = float(np.sqrt(np.mean(solution.fun[:-1] ** 2))) * sigma / scale
    if not solution.success or rms > 1.5:
        raise NoTarget(f"calibration frame: the edges found are {rms:.2g} px rms off a square seen in perspective")

    # Neighbouring points share their noise; each edge has an error of its own.
    weight = solution.jac * 1.0
    noise = max(rms, 0.005) * scale / sigma * np.sqrt(_shared(solution.fun[:-1], side))
    weight[:-1] /= noise
    normal = weight.T @ weight
    inverse = np.linalg.inv(normal)
    covariance = inverse.copy()
    pixel = scale / sigma / noise
    along = np.where(axis == 0, xy[:, 1], xy[:, 0])
    for edge in range(4):
        own = side == edge
        ends = along[own].min(), along[own].max()
        t = (2 * along - sum(ends)) / (ends[1] - ends[0])
        for error in (np.full(len(t), EDGE_SYSTEMATIC), EDGE_BENDING * (1.5 * t**2 - 0.5)):
            response = inverse @ (weight[:-1].T @ np.where(own, error * pixel, 0.0))
            covariance += np.outer(response, response)
    covariance *= np.outer(size, size)
    theta = solution.x * size
    # The target's own size is common to all lengths.
    grow = np.append(theta[:6], np.zeros(3)) * setup.target_size_stderr / setup.target_size
    covariance += np.outer(grow, grow)
    square = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    flags: tuple[str, ...] = ()
    if abs(theta[8] - kappa0) > 4 * sigma_kappa:
        flags = ("lens-distortion",)
    local = np.linalg.det(_pixel_jacobian(theta, shape, centre))
    return Calibration(
        theta, covariance, "target", shape, float(np.sqrt(abs(local))), lens, rms, flags, _corners(theta, square)
    )


def _shared(residual: Array, side: NDArray[np.intp]) -> float:
    """How many neighbouring points count as one: from the scatter of the means of blocks of them."""
    length = 20
    means: list[float] = []
    for edge in range(4):
        own = residual[side == edge]
        count = len(own) // length
        means += own[: count * length].reshape(count, length).mean(1).tolist()
    if len(means) < 8:
        return float(length)
    return max(1.0, length * float(np.mean(np.square(means))) / float(np.mean(residual**2)))


def _pixel_jacobian(theta: Array, shape: tuple[int, int], at: Array) -> Array:
    h = 0.5
    steps = np.eye(2) * h
    return (carry(at + steps, theta, shape) - carry(at - steps, theta, shape)).T / (2 * h)


def _corners(theta: Array, square: Array) -> Array:
    """The target's corners, px (as a camera without distortion sees them), shape (4, 2)."""
    h = np.linalg.inv(np.append(theta[:8], 1.0).reshape(3, 3))
    xyw = square @ h[:, :2].T + h[:, 2]
    return np.asarray(xyw[:, :2] / xyw[:, 2:])


def _start(xy: Array, side: NDArray[np.intp], half: float) -> Array:
    """The homography through the crossings of the four edges' lines; shape (3, 3)."""
    lines = []
    for edge in range(4):
        p = xy[side == edge]
        mean = p.mean(0)
        normal = np.linalg.svd(p - mean)[2][-1]
        lines.append(np.append(normal, -normal @ mean))
    # top x left, top x right, bottom x right, bottom x left
    crossing = [np.cross(lines[i], lines[j]) for i, j in ((0, 3), (0, 1), (2, 1), (2, 3))]
    corners = np.array([c[:2] / c[2] for c in crossing])
    square = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    matrix, _ = cv2.findHomography(corners, square)
    return np.asarray(matrix, float)
