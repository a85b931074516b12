"""Pictures of a chessboard through a lens: a pinhole with k1, written for the tests from the formulas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True)
class BoardCamera:
    """f and the centre in px; x_distorted = x (1 + k1 r^2 + k2 r^4) with x, r per focal length."""

    focal_length: float = 1300.0
    k1: float = -0.2
    k2: float = 0.0
    shape: tuple[int, int] = (960, 1280)
    centre: tuple[float, float] = (645.0, 474.0)

    @property
    def matrix(self) -> np.ndarray:
        (cx, cy), f = self.centre, self.focal_length
        return np.array([[f, 0, cx], [0, f, cy], [0, 0, 1]])

    @cached_property
    def _rays(self) -> np.ndarray:
        """Directions (x / z, y / z) of all pixels, shape (n_y, n_x, 2)."""
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        distorted = np.stack([x - self.centre[0], y - self.centre[1]], -1) / self.focal_length
        ray = distorted.copy()
        for _ in range(25):
            square = (ray**2).sum(-1, keepdims=True)
            ray = distorted / (1 + self.k1 * square + self.k2 * square**2)
        return ray

    def photograph(
        self, rng: np.random.Generator, *, columns: int = 9, rows: int = 6, square: float = 0.025, noise: float = 2.0
    ) -> np.ndarray:
        """A view of the board, u1, shape (n_y, n_x): somewhere in the field, turned and tilted, with a white margin."""
        tilt, direction, roll = rng.uniform(0.1, 0.6), rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
        axis = np.array([np.cos(direction), np.sin(direction), 0.0])
        turn = _rotation(axis, tilt) @ _rotation(np.array([0.0, 0.0, 1.0]), roll)
        distance = rng.uniform(0.42, 0.6)
        half = np.array([self.shape[1], self.shape[0]]) / 2 / self.focal_length * distance
        size = np.array([columns + 1, rows + 1]) * square
        reach = np.maximum(half - 0.5 * size, 0.005)
        middle = np.array([*rng.uniform(-reach, reach), distance])
        # Each pixel's ray meets the board's plane; where in the pattern is what it sees.
        rays = np.concatenate([self._rays, np.ones((*self.shape, 1))], -1)
        normal = turn[:, 2]
        hits = rays * ((middle @ normal) / (rays @ normal))[..., None] - middle
        # Inner corners at 0 .. columns - 1 and 0 .. rows - 1.
        u, v = (hits @ turn[:, i] / square + (n - 1) / 2 for i, n in enumerate((columns, rows)))
        # Edges half a pixel soft: |sine| of the pattern over its slope.
        pixel = distance / self.focal_length / square
        soft = np.tanh(np.sin(np.pi * u) / (np.pi * 0.7 * pixel)) * np.tanh(np.sin(np.pi * v) / (np.pi * 0.7 * pixel))
        inside = (u > -1) & (u < columns) & (v > -1) & (v < rows)
        light = np.where(inside, 125 + 75 * soft, 200.0)
        return np.clip(np.rint(light + rng.normal(0, noise, self.shape)), 0, 255).astype(np.uint8)


def _rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
