"""The four edges of a square at the local half level, to a hundredth of a pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Left out of each edge at either end, as a share of its length: corners are rounded and may be lifted.
CORNER_SHARE = 0.08
#: px to either side of an edge in which it is looked for; the outer halves tell the levels.
EDGE_REACH = 9
ITERATIONS = 8


def edge_points(plane: NDArray[np.float32], corners: Array) -> Array:
    """Points at the local half level along the four edges; shape (n, 3): x, y, edge."""
    found = []
    for side in range(4):
        points = _edge(plane, corners[side], corners[(side + 1) % 4], corners.mean(0))
        found.append(np.column_stack([points, np.full(len(points), side)]))
    return np.concatenate(found)


def _edge(plane: NDArray[np.float32], a: Array, b: Array, inside: Array) -> Array:
    """Points of one edge near the line a-b, one for each row or column of pixels that crosses it; px, shape (n, 2).

    The pixels themselves are fitted with a blurred step, light = outer + (inner - outer) Phi(-(y - y_edge) / blur):
    interpolating between them would bend the edge with the period of the grid.
    """
    along = 0 if abs(b[0] - a[0]) > abs(b[1] - a[1]) else 1
    image = plane if along == 0 else plane.T
    (x0, y0), (x1, y1) = sorted(((a[along], a[1 - along]), (b[along], b[1 - along])))
    margin = CORNER_SHARE * (x1 - x0)
    columns = np.arange(int(np.ceil(x0 + margin)), int(x1 - margin) + 1)
    if columns.size < 8:
        return np.empty((0, 2))
    t = (2 * columns - x0 - x1) / (x1 - x0)
    basis = np.polynomial.legendre.legvander(t, 2)
    curve = np.array([(y0 + y1) / 2, (y1 - y0) / 2, 0.0])
    outwards = 1.0 if inside[1 - along] < curve[0] else -1.0
    blur = 1.2
    for iteration in range(ITERATIONS):
        rows = np.rint(basis @ curve).astype(int)[:, None] + np.arange(-EDGE_REACH, EDGE_REACH + 1)
        rows = np.clip(rows, 0, image.shape[0] - 1)
        values = image[rows, columns[:, None]].astype(float)
        edge = _Step.of(values, outwards * (rows - (basis @ curve)[:, None]), t, blur, clean=iteration > ITERATIONS / 2)
        if edge is None:
            return np.empty((0, 2))
        shift, weight = edge.shifts()
        step = outwards * np.linalg.lstsq(basis * np.sqrt(weight)[:, None], shift * np.sqrt(weight), rcond=None)[0]
        curve, blur = curve + step, edge.blur
        if np.abs(step).max() > EDGE_REACH:
            return np.empty((0, 2))
    sure = weight > 0.3 * np.median(weight)
    place = basis @ curve + outwards * (shift - basis @ (outwards * step))
    points = np.column_stack([columns, place] if along == 0 else [place, columns])[sure]
    direction = (b - a) / np.linalg.norm(b - a)
    return np.asarray(_straight(points, a, direction, np.array([-direction[1], direction[0]])))


@dataclass(frozen=True)
class _Step:
    """Pixels across an edge, shape (n, m), and the blurred step that they show.

    distance : px, positive outside
    level : 1 inside, 0 outside, with the shading of either side taken off; good : 0 for what is neither
    """

    distance: Array
    level: Array
    good: Array
    blur: float

    @classmethod
    def of(cls, values: Array, distance: Array, t: Array, blur: float, *, clean: bool) -> _Step | None:
        """None where inside and outside are equally bright; `clean`, near the edge, leaves out what is no step."""
        shading = np.stack(np.broadcast_arrays(1.0, t[:, None], (t**2)[:, None], distance), -1)
        sides = []
        scatter = 0.0
        for side in (distance < -EDGE_REACH / 2, distance > EDGE_REACH / 2):
            keep = side.copy()
            for _ in range(3):
                coefficients = np.linalg.lstsq(shading[keep], values[keep], rcond=None)[0]
                residual = values - shading @ coefficients
                sigma = 1.4826 * np.median(np.abs(residual[keep])) + 1e-3
                keep = side & (np.abs(residual) < 4 * sigma)
            # Light at the edge itself fades as it does beside it.
            sides.append(shading @ coefficients)
            scatter = max(scatter, float(sigma))
        inner, outer = sides
        contrast = inner - outer
        if abs(float(contrast.mean())) < max(scatter, 1e-6) or (contrast * np.sign(contrast.mean()) <= 0).any():
            return None
        level = (values - outer) / contrast
        self = cls(distance, level, np.ones_like(level), blur)
        shape, slope = self._shape()
        if clean:
            # A hot pixel, dust: further off than noise and a slightly other edge can be.
            good = np.abs(level - shape) < 6 * scatter / np.abs(contrast) + 0.15
            self = cls(distance, level, good.astype(float), blur)
        width = distance / blur * slope  # d(level)/d(blur)
        change = float((width * (level - shape) * self.good).sum() / (width**2 * self.good).sum())
        return replace(self, blur=float(np.clip(blur + change, blur / 1.5, min(1.5 * blur, EDGE_REACH / 4))))

    def _shape(self) -> tuple[Array, Array]:
        """Level and -d(level)/d(distance)."""
        from scipy.special import ndtr

        z = self.distance / self.blur
        return ndtr(-z), np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * self.blur)

    def shifts(self) -> tuple[Array, Array]:
        """How far outside of distance 0 the edge is in each line, px, and the weight of that; shape (n,)."""
        shape, slope = self._shape()
        weight = (slope**2 * self.good).sum(1)
        return (slope * (self.level - shape) * self.good).sum(1) / np.maximum(weight, 1e-9), weight


def _straight(points: Array, a: Array, direction: Array, normal: Array) -> Array:
    """Without the points that stand off a smooth curve through the others: dust, a curled corner."""
    along, off = (points - a) @ direction, (points - a) @ normal
    keep = np.ones(len(points), bool)
    for _ in range(4):
        curve = np.polynomial.Polynomial.fit(along[keep], off[keep], 2)
        residual = off - curve(along)
        sigma = 1.4826 * np.median(np.abs(residual[keep])) + 1e-3
        now = np.abs(residual) < 4 * sigma
        if (now == keep).all() or now.sum() < 8:
            break
        keep = now
    return points[keep]
