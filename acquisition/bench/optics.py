"""Where the beam goes: vectors in the laboratory, from the laser through the grating to the screen.

The laboratory's z axis is the undeviated beam, its origin lies on the servo's axis, x is horizontal and y points down,
as in an image. With R the grating's rotation, t = R x along the grating vector, n = R z its normal, k the beam and
g = lambda/d, order m leaves along ::

    k_t   = k - (k.n) n + m g t
    k_out = k_t + sqrt(1 - |k_t|^2) n

and exists where |k_t| < 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalog.setup import Mount

Vector = NDArray[np.float64]

_BEAM: Vector = np.array([0.0, 0.0, 1.0])
_AXIS = {"conical": 0, "classical": 1, "in-plane": 2}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the parts stand, m and rad; the letters are those of the formulas in the documentation."""

    lambda_over_d: float
    screen_distance: float
    grating_offset: float
    beam_offset: float
    screen_tilt: float
    mount: Mount


@dataclass(frozen=True)
class Ray:
    """An order's way to the screen.

    Attributes
    ----------
    position : ndarray, shape (2,), m
        Along the screen (x to the right, y down), from the point where the undeviated beam through the servo's axis
        would hit it.
    footprint : ndarray, shape (2, 2)
        What a displacement of the beam across itself becomes on the screen.
    obliquity : float
        cos(diffraction angle) / cos(incidence angle): the power that the beam's cross section gives to the order.
    """

    position: Vector
    footprint: NDArray[np.float64]
    obliquity: float


def rotation(axis: int, angle: float) -> NDArray[np.float64]:
    """Right-handed, about one of the axes, shape (3, 3); about y, a positive angle turns z towards x."""
    unit = np.eye(3)[axis]
    cross = np.array([[0, -unit[2], unit[1]], [unit[2], 0, -unit[0]], [-unit[1], unit[0], 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def diffract(order: int, incidence_angle: float, geometry: Geometry) -> Ray | None:
    """Follow an order to the screen; None where it is evanescent or leaves away from the screen.

    Parameters
    ----------
    order : int
        +1 is at positive x for a classical mount at incidence 0.
    incidence_angle : float, rad
        What the servo has turned the grating by.
    """
    turn = rotation(_AXIS[geometry.mount], incidence_angle)
    along, normal = turn[:, 0], turn[:, 2]
    tangential = _BEAM - (_BEAM @ normal) * normal + order * geometry.lambda_over_d * along
    square = float(tangential @ tangential)
    if square >= 1:
        return None
    direction = tangential + np.sqrt(1 - square) * normal

    cos_tilt, sin_tilt = np.cos(geometry.screen_tilt), np.sin(geometry.screen_tilt)
    screen_normal = np.array([-sin_tilt, 0.0, cos_tilt])
    approach = float(direction @ screen_normal)
    if approach <= 0:
        return None
    across = np.array([[cos_tilt, 0.0, sin_tilt], [0.0, 1.0, 0.0]])
    origin = np.array([0.0, 0.0, geometry.screen_distance])

    on_grating = np.array([geometry.beam_offset, 0.0, 0.0])
    on_grating = on_grating + (geometry.grating_offset - on_grating @ normal) / normal[2] * _BEAM
    way = ((origin - on_grating) @ screen_normal) / approach
    hit = on_grating + way * direction

    # A ray beside this one meets the grating beside it, leaves in the same direction, and is taken to the screen.
    beside = np.array([[1.0, 0.0, -normal[0] / normal[2]], [0.0, 1.0, -normal[1] / normal[2]]])
    on_screen = beside - np.outer(beside @ screen_normal, direction) / approach
    return Ray(
        position=across @ (hit - origin),
        footprint=across @ on_screen.T,
        obliquity=float((direction @ normal) / normal[2]),
    )
