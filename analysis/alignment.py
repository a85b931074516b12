"""Where a bench stands, from the fit of a few angles: the servo's angle of zero incidence, the zero order's place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.fitted import GratingFit


@dataclass(frozen=True)
class Alignment:
    """What `alignment` finds.

    zero_deg, zero_deg_stderr : float, deg of the servo, where the beam meets the grating at right angles
    x, y : float, px, where the zero order is; pixel (0, 0)'s centre is the origin, y points down
    right_mm, below_mm : float, mm on the screen, from the frame's centre to the zero order
    """

    zero_deg: float
    zero_deg_stderr: float
    x: float
    y: float
    right_mm: float
    below_mm: float


def alignment(fit: GratingFit) -> Alignment:
    """The alignment of the bench that a scan was taken on."""
    gain = fit.value("angle_gain") * fit.model.direction
    offset = fit.value("angle_offset")
    i, k = fit.parameter_names.index("angle_offset"), fit.parameter_names.index("angle_gain")
    # d(-offset / gain): the two are correlated where the scan is not symmetric.
    gradient = np.zeros(len(fit.values))
    gradient[i], gradient[k] = -1 / gain, offset / (gain * fit.value("angle_gain"))
    zero_order = fit.used & (fit.assignment.order == 0)
    pixel = fit.seen.pixel[zero_order].mean(0)
    centre = (np.array(fit.seen.shape[::-1]) - 1) / 2
    # Along the rows and columns of the frame, which the target need not be parallel to.
    scale = np.sqrt(abs(np.linalg.det(fit.calibration.pixel_jacobian(((pixel + centre) / 2)[None])[0])))
    right, below = (pixel - centre) * scale * 1e3
    return Alignment(
        zero_deg=float(np.rad2deg(-offset / gain)),
        zero_deg_stderr=float(np.rad2deg(np.sqrt(gradient @ fit.covariance @ gradient))),
        x=float(pixel[0]),
        y=float(pixel[1]),
        right_mm=float(right),
        below_mm=float(below),
    )
