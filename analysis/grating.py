"""The grating equation, and where its orders meet the screen. numpy only; SI units, rad.

Axes: z along the undeviated beam, x to the right of the image and y down it, origin on the servo's axis. With t the
unit vector across the grooves and n the grating's normal, order m of the beam k = z leaves along

    k_t   = k - (k.n) n + m g t,    g = lambda / d
    k_out = k_t + sqrt(1 - |k_t|^2) n

and exists while |k_t| < 1. The servo turns the grating by alpha, the incidence angle, about an axis that the mount
chooses (at alpha = 0 it is t = x, n = z):

    classical   y, along the grooves       t = (cos a, 0, -sin a)    n = (sin a, 0, cos a)
    in-plane    z, the beam                t = (cos a, sin a, 0)     n = (0, 0, 1)
    conical     x, across the grooves      t = (1, 0, 0)             n = (0, -sin a, cos a)

With the grating's plane e off the axis (along its normal), the beam b off the axis (along x), and the screen at
distance L tilted by tau about y, the order starts at z0 and reaches the screen after s,

    z0 = (e - b n_x) / n_z
    s  = [(L - z0) cos tau + b sin tau] / (cos tau k_out_z - sin tau k_out_x)
    (u, v) = s (k_out_x / cos tau, k_out_y)

(u, v), along and down the screen, is measured from the undeviated beam, so order 0 is at (0, 0) always. In the
classical mount v = 0, and sin beta = m g - sin alpha, theta = alpha + beta give k_out = (sin theta, 0, cos theta).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Vector = tuple[Any, Any, Any]

#: mount -> (t, n) of cos(alpha) and sin(alpha).
MOUNTS: dict[str, Callable[[Array, Array], tuple[Vector, Vector]]] = {
    "classical": lambda c, s: ((c, 0.0, -s), (s, 0.0, c)),
    "in-plane": lambda c, s: ((c, s, 0.0), (0.0, 0.0, 1.0)),
    "conical": lambda c, s: ((1.0, 0.0, 0.0), (0.0, -s, c)),
}


def directions(order: ArrayLike, incidence_angle: ArrayLike, lambda_over_d: float, mount: str) -> tuple[Vector, Vector]:
    """(n, k_out), the grating's normal and the order's direction, component by component; NaN where evanescent."""
    alpha = np.asarray(incidence_angle, float)
    t, n = MOUNTS[mount](np.cos(alpha), np.sin(alpha))
    push = np.asarray(order) * lambda_over_d
    along = (push * t[0] - n[2] * n[0], push * t[1] - n[2] * n[1], push * t[2] + 1 - n[2] * n[2])
    rest = 1 - (along[0] ** 2 + along[1] ** 2 + along[2] ** 2)
    normal = np.sqrt(np.where(rest > 0, rest, np.nan))
    return n, (along[0] + normal * n[0], along[1] + normal * n[1], along[2] + normal * n[2])


def positions(
    order: ArrayLike,
    incidence_angle: ArrayLike,
    *,
    lambda_over_d: float,
    screen_distance: float,
    grating_offset: float = 0.0,
    beam_offset: float = 0.0,
    screen_tilt: float = 0.0,
    mount: str = "classical",
) -> tuple[Array, Array]:
    """Positions (u, v) on the screen, m, from order 0; of the broadcast shape.

    NaN where the order is evanescent or leaves away from the screen.
    """
    n, out = directions(order, incidence_angle, lambda_over_d, mount)
    cos_tau, sin_tau = np.cos(screen_tilt), np.sin(screen_tilt)
    towards = cos_tau * out[2] - sin_tau * out[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        start = (grating_offset - beam_offset * n[0]) / n[2]
        travel = ((screen_distance - start) * cos_tau + beam_offset * sin_tau) / towards
        travel = np.where((towards > 1e-3) & (n[2] > 1e-3), travel, np.nan)
    return travel * out[0] / cos_tau, travel * out[1]


def footprint(order: ArrayLike, incidence_angle: ArrayLike, lambda_over_d: float, mount: str) -> Array:
    """What a displacement of the beam across itself becomes on the (untilted) screen, of shape (..., 2, 2).

    A ray beside the beam meets the grating's plane beside it, deeper or nearer, and leaves in the same direction. In
    the classical mount this is diag(cos beta / (cos alpha cos theta), 1).
    """
    n, out = directions(order, incidence_angle, lambda_over_d, mount)
    steep = (n[0] / n[2], n[1] / n[2])
    away = (out[0] / out[2], out[1] / out[2])
    cells = [(i == j) + away[i] * steep[j] for i in (0, 1) for j in (0, 1)]
    full = np.stack(np.broadcast_arrays(*cells), -1)
    return np.asarray(full.reshape(*full.shape[:-1], 2, 2))


def diffraction_angle(order: ArrayLike, incidence_angle: ArrayLike, lambda_over_d: float) -> Array:
    """beta of the classical mount, rad, of the broadcast shape; NaN where the order is evanescent (|sin beta| >= 1).

    >>> np.rad2deg(diffraction_angle(1, 0.0, 0.5)).round(6)
    np.float64(30.0)
    """
    sine = np.asarray(order) * lambda_over_d - np.sin(np.asarray(incidence_angle, float))
    return np.asarray(np.arcsin(np.where(np.abs(sine) < 1, sine, np.nan)))[()]


def last_order(lambda_over_d: float) -> int:
    """The highest |m| that can propagate at any incidence: |m| g < 2."""
    return int(np.ceil(2 / lambda_over_d)) - 1
