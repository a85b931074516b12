"""The spots of a scan in one table, and where the errors of their positions come from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration
from analysis.covariance import blocks, speckle
from analysis.matching import Observations
from analysis.scan import Scan
from analysis.spots import Spot

Array = NDArray[np.float64]
Spots = Sequence[tuple[Spot, ...]]


def observations(scan: Scan, spots: Spots, calibration: Calibration) -> Observations:
    """The spots of all frames in one table, in pixels and in metres on the screen."""
    flat = [(i, k, s) for i, frame in enumerate(spots) for k, s in enumerate(frame)]
    pixel = np.array([[s.x, s.y] for _, _, s in flat])
    jacobian = calibration.pixel_jacobian(pixel)
    scale = np.sqrt(np.abs(np.linalg.det(jacobian)))
    frame = np.array([i for i, _, _ in flat], dtype=np.intp)
    servo = np.deg2rad(scan.angles)
    return Observations(
        frame=frame,
        index=np.array([k for _, k, _ in flat], dtype=np.intp),
        servo=servo[frame],
        pixel=pixel,
        screen=calibration.to_screen(pixel),
        width=np.array([np.sqrt(s.sigma_x * s.sigma_y) for _, _, s in flat]) * scale,
        spread=np.array([[s.sigma_x, s.sigma_y] for _, _, s in flat]) * np.abs(jacobian[:, [0, 1], [0, 1]]),
        spread_stderr=np.array([[s.x_stderr / s.sigma_x, s.y_stderr / s.sigma_y] for _, _, s in flat]),
        blended=np.array(["blended" in s.flags for _, _, s in flat], dtype=bool),
        n_frames=len(scan),
        servo_of_frame=servo,
        shape=calibration.shape,
    )


def error_sources(seen: Observations, spots: Spots, calibration: Calibration) -> dict[str, Array]:
    """Covariances of all positions, each of shape (2 n, 2 n), m^2: noise, speckle and calibration (`covariance`)."""
    flat = [s for frame in spots for s in frame]
    total = np.array([[[s.x_stderr**2, s.xy_covariance], [s.xy_covariance, s.y_stderr**2]] for s in flat])
    texture = np.array([[[s.texture[0], s.texture[1]], [s.texture[1], s.texture[2]]] for s in flat])
    jacobian = calibration.pixel_jacobian(seen.pixel)

    def metric(matrices: Array) -> Array:
        return np.asarray(jacobian @ matrices @ jacobian.transpose(0, 2, 1))

    common = calibration.parameter_jacobian(seen.pixel).reshape(2 * len(flat), -1)
    return {
        "noise": blocks(metric(total - texture)),
        "speckle": speckle(metric(texture), seen.screen, seen.width),
        "calibration": common @ calibration.covariance @ common.T,
    }
