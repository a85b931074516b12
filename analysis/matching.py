"""Spots matched with the orders that given parameters predict, frame by frame; doubtful ones are told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration
from analysis.grating import last_order
from analysis.model import Model

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

HIGHEST_ORDER = 4
#: A spot so much wider than the scan's others, relative, is two.
TOO_WIDE = 1.15
#: The order of a spot that has none.
NONE = int(np.iinfo(np.intp).min)


@dataclass(frozen=True)
class Observations:
    """All spots of a scan, one row each.

    frame : ndarray, shape (n,), the frame's number; index : the spot's number in its frame
    servo : ndarray, shape (n,), rad; pixel, screen : ndarray, shape (n, 2), px and m
    width : ndarray, shape (n,), m: sigma of the spot
    spread : ndarray, shape (n, 2), m: sigma along x and along y; spread_stderr : the same, relative
    blended : ndarray, shape (n,): two spots on each other, of which neither has its place
    """

    frame: Integers
    index: Integers
    servo: Array
    pixel: Array
    screen: Array
    width: Array
    spread: Array
    spread_stderr: Array
    blended: NDArray[np.bool_]
    n_frames: int
    servo_of_frame: Array
    shape: tuple[int, int]


@dataclass(frozen=True)
class Assignment:
    """The order of each observation (NONE for none), which of them are in doubt, and the parameters."""

    order: Integers
    ambiguous: NDArray[np.bool_]
    theta: Array
    score: float


@dataclass(frozen=True)
class Field:
    """What the camera sees of the screen, in metres of the calibration."""

    x: tuple[float, float]
    y: tuple[float, float]

    @classmethod
    def of(cls, seen: Observations, calibration: Calibration) -> Field:
        ny, nx = seen.shape
        edge = calibration.to_screen([[0, ny / 2], [nx - 1, ny / 2], [nx / 2, 0], [nx / 2, ny - 1]])
        return cls((float(edge[0, 0]), float(edge[1, 0])), (float(edge[2, 1]), float(edge[3, 1])))

    @property
    def width(self) -> float:
        return self.x[1] - self.x[0]

    def holds(self, points: Array, *, margin: float) -> NDArray[np.bool_]:
        x, y = points[..., 0], points[..., 1]
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (x > self.x[0] + margin)
                & (x < self.x[1] - margin)
                & (y > self.y[0] + margin)
                & (y < self.y[1] - margin)
            )


def match(seen: Observations, model: Model, theta: Array, field: Field, *, gate: Array) -> Assignment:
    """The nearest order of each spot within its gate (m), each order once a frame; doubtful ones are ambiguous.

    score : the number of spots explained, less half of the predicted ones that are not there
    """
    g = float(theta[model.index("lambda_over_d")])
    top = min(HIGHEST_ORDER, last_order(g))
    orders = np.arange(-top, top + 1)
    everywhere = np.repeat(seen.servo_of_frame, len(orders))
    predicted = model.predict(theta, everywhere, np.tile(orders, seen.n_frames)).reshape(seen.n_frames, -1, 2)
    away = seen.screen[:, None] - predicted[seen.frame]
    distance = np.nan_to_num(np.hypot(away[..., 0], away[..., 1]), nan=np.inf)
    nearest = distance.argmin(1)
    least = distance[np.arange(len(nearest)), nearest]
    order = np.where(least < gate, orders[nearest], NONE).astype(np.intp)

    ambiguous = np.zeros(len(order), bool)
    for frame in range(seen.n_frames):
        here = np.flatnonzero(seen.frame == frame)
        for m in orders:
            rivals = here[order[here] == m]
            if rivals.size < 2:
                continue
            rivals = rivals[np.argsort(least[rivals])]
            order[rivals[1:]] = NONE
            # A rival as near, or as bright and nearly as near, leaves no reason to prefer one.
            near = least[rivals[1]] < 2 * least[rivals[0]] + 0.5 * seen.width[rivals[0]]
            ambiguous[rivals[0]] = bool(near)
    ambiguous |= seen.blended & (order != NONE)
    ambiguous |= _too_wide(seen, model, theta, order)
    visible = field.holds(predicted, margin=2 * float(np.median(seen.width)))
    score = 0.0
    for k, m in enumerate(orders):
        hits, expected = int((order == m).sum()), int(visible[:, k].sum())
        if hits >= 0.5 * expected and hits:
            score += float(np.maximum(0, 1 - (least[order == m] / gate[order == m]) ** 2).sum())
            score -= 0.5 * max(expected - hits, 0)
        elif hits:
            order[order == m] = NONE
    return Assignment(order, ambiguous, theta, score)


def _too_wide(seen: Observations, model: Model, theta: Array, order: Integers) -> NDArray[np.bool_]:
    """Spots wider than the beam's others at their angles: two spots that melt into one are not where either is."""
    known = np.flatnonzero(order != NONE)
    wide = np.zeros(len(order), bool)
    if len(known) < 6:
        return wide
    stretch = np.nan_to_num(model.stretch(theta, seen.servo[known], order[known]), nan=1.0)
    ratio = seen.spread[known] / stretch
    ratio /= np.median(ratio, axis=0)
    wide[known] = (ratio > TOO_WIDE + 4 * seen.spread_stderr[known]).any(1)
    return wide
