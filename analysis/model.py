"""Where each order of each frame should be: the grating's geometry with the servo, the roll and the scale.

    alpha  = angle_offset + angle_gain * direction * servo
    (X, Y) = (x0, y0) + R(roll) (u, v) / scale

u, v from `grating`. `scale`, true metres per metre of the calibration, is a parameter only in a self-calibrated scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from analysis.grating import footprint, positions
from catalog.setup import Mount, Setup

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

GEOMETRY = ("screen_distance", "grating_offset", "beam_offset", "screen_tilt")
PRIORS = (*GEOMETRY, "angle_offset", "angle_gain")
UNITS = {
    "lambda_over_d": "",
    "screen_distance": "m",
    "angle_offset": "rad",
    "angle_gain": "",
    "grating_offset": "m",
    "beam_offset": "m",
    "screen_tilt": "rad",
    "x0": "m",
    "y0": "m",
    "roll": "rad",
    "scale": "",
}


@dataclass(frozen=True)
class Model:
    """The parameters, their priors, and the positions that they predict.

    names : the parameters, in the order of every vector theta here
    prior, prior_stderr : ndarray, shape (n_parameter,); an infinite stderr is no prior
    size : ndarray, shape (n_parameter,): steps that move positions comparably
    positions : `grating.positions` of the set-up's mount
    """

    names: tuple[str, ...]
    prior: Array
    prior_stderr: Array
    size: Array
    direction: int
    mount: Mount
    positions: Callable[..., tuple[Array, Array]]

    @classmethod
    def of(cls, setup: Setup, *, scale_free: bool) -> Model:
        """The model of a set-up; `scale_free` where no target gave the scale."""
        names = ("lambda_over_d", *PRIORS, "x0", "y0", "roll") + (("scale",) if scale_free else ())
        centre = {name: getattr(setup, name) for name in PRIORS}
        width = {name: getattr(setup, f"{name}_stderr") for name in PRIORS}
        centre |= {"lambda_over_d": setup.lambda_over_d, "x0": 0.0, "y0": 0.0, "roll": 0.0, "scale": 1.0}
        if setup.pixel_size is not None:
            width["scale"] = setup.pixel_size_tolerance
        size = {"lambda_over_d": 0.01, "x0": 1e-3, "y0": 1e-3, "roll": 0.01, "scale": 0.01} | {
            name: width[name] for name in PRIORS
        }
        return cls(
            names=names,
            prior=np.array([centre[n] for n in names]),
            prior_stderr=np.array([width.get(n, np.inf) for n in names]),
            size=np.array([size[n] for n in names]),
            direction=setup.servo_direction,
            mount=setup.mount,
            positions=partial(positions, mount=setup.mount),
        )

    def index(self, name: str) -> int:
        return self.names.index(name)

    def predict(self, theta: Array, servo: Array, order: Integers, *, turned: float | Array = 0.0) -> Array:
        """(X, Y), m, shape (n, 2), at servo angles (rad) and orders, shape (n,); NaN where there is no such order.

        `turned` (rad) is added to the incidence angle.
        """
        value = dict(zip(self.names, theta, strict=True))
        alpha = value["angle_offset"] + value["angle_gain"] * self.direction * servo + turned
        u, v = self.positions(
            order, alpha, lambda_over_d=value["lambda_over_d"], **{name: value[name] for name in GEOMETRY}
        )
        scale = value.get("scale", 1.0)
        c, s = np.cos(value["roll"]), np.sin(value["roll"])
        return np.stack([value["x0"] + (c * u - s * v) / scale, value["y0"] + (s * u + c * v) / scale], -1)

    def stretch(self, theta: Array, servo: Array, order: Integers) -> Array:
        """Widths of the spots along u and along v over the beam's, shape (n, 2)."""
        value = dict(zip(self.names, theta, strict=True))
        alpha = value["angle_offset"] + value["angle_gain"] * self.direction * servo
        cells = footprint(order, alpha, value["lambda_over_d"], self.mount)
        return np.asarray(np.hypot(cells[..., 0], cells[..., 1]))

    def slope(self, theta: Array, servo: Array, order: Integers, *, turned: float | Array = 0.0) -> Array:
        """d(X, Y) / d(alpha), m / rad, shape (n, 2): what the servo's jitter does."""
        h = 1e-4
        up, down = (self.predict(theta, servo, order, turned=turned + t) for t in (h, -h))
        return np.nan_to_num((up - down) / (2 * h))

    def jacobian(self, theta: Array, servo: Array, order: Integers, *, turned: float | Array = 0.0) -> Array:
        """d(X, Y) / d(theta), shape (n, 2, n_parameter)."""
        columns = []
        for i, step in enumerate(1e-4 * self.size):
            up, down = theta.copy(), theta.copy()
            up[i] += step
            down[i] -= step
            high, low = (self.predict(t, servo, order, turned=turned) for t in (up, down))
            columns.append((high - low) / (2 * step))
        return np.nan_to_num(np.stack(columns, -1))
