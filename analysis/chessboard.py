"""The lens from pictures of a chessboard, and how well they know it.

OpenCV finds the corners and fits the camera (Z. Zhang, IEEE Trans. Pattern Anal. Mach. Intell. 22, 1330, 2000). A view
whose corners fit far worse than the others' is left out. What remains of the distortion is told by the views
themselves: each half of them makes a lens, and the two are compared over the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Lens, centre_and_half
from analysis.errors import BadScan, NoLens

Array = NDArray[np.float64]

MIN_VIEWS = 6
#: A view whose residuals are this many times the median's is left out.
REJECT = 3.0
#: Cells of the frame, across and down, in which corners are counted.
CELLS = (8, 6)
#: Less of the frame than this seen with corners leaves the lens to guesswork outside.
MIN_COVERAGE = 0.6
#: k1, k2, p1, p2; k3 only follows the noise of the corners.
_FLAGS = cv2.CALIB_FIX_K3


@dataclass(frozen=True)
class Chessboard:
    """Inner corners across and down, and the side of a square in m (any number will do: only its shape counts)."""

    columns: int = 9
    rows: int = 6
    square: float = 0.025

    def __post_init__(self) -> None:
        if min(self.columns, self.rows) < 3 or self.columns == self.rows or not self.square > 0:
            raise BadScan(
                f"chessboard: {self.columns} x {self.rows} inner corners with squares of {self.square:g} m: it needs 3 "
                "or more either way, not as many across as down (or its turns look alike), and squares larger than 0"
            )

    @property
    def points(self) -> NDArray[np.float32]:
        """Corners on the board, m, shape (n, 3)."""
        grid = np.mgrid[0 : self.columns, 0 : self.rows].T.reshape(-1, 2) * self.square
        return np.column_stack([grid, np.zeros(len(grid))]).astype(np.float32)

    def corners(self, frame: NDArray[Any]) -> Array | None:
        """Inner corners in a frame, px, shape (n, 2); None where not all of them are seen."""
        plane = frame if frame.ndim == 2 else frame[..., :3].mean(2)
        low, high = float(plane.min()), float(plane.max())
        grey = ((plane - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
        found, corners = cv2.findChessboardCornersSB(grey, (self.columns, self.rows), flags=cv2.CALIB_CB_ACCURACY)
        return np.asarray(corners, float).reshape(-1, 2) if found else None


@dataclass(frozen=True)
class LensCalibration:
    """A lens, and what it was made of.

    lens : Lens, with its `residual`
    shape : (n_y, n_x) of the frames
    view_rms : px, of each view's corners about the fit; NaN of a view that was left out
    rms : px, of all that were used
    coverage : share of the frame's `CELLS` in which a corner was seen
    flags : "coverage": large parts of the frame were never seen
    """

    lens: Lens
    shape: tuple[int, int]
    view_rms: tuple[float, ...]
    rms: float
    coverage: float
    flags: tuple[str, ...] = ()


def covered(views: Iterable[Array], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which cells of the frame hold a corner of some view; shape (6, 8), from the top left."""
    seen = np.zeros(CELLS[::-1], bool)
    for corners in views:
        column = np.clip(corners[:, 0] / shape[1] * CELLS[0], 0, CELLS[0] - 1).astype(int)
        row = np.clip(corners[:, 1] / shape[0] * CELLS[1], 0, CELLS[1] - 1).astype(int)
        seen[row, column] = True
    return seen


def calibrate_lens(views: Sequence[Array], shape: tuple[int, int], board: Chessboard) -> LensCalibration:
    """The lens that explains the corners of all views.

    Parameters
    ----------
    views : sequence of ndarray, shape (n, 2), px: `Chessboard.corners` of pictures of the board in different places
    shape : (n_y, n_x) of the frames

    Raises
    ------
    NoLens
        Fewer than six views, or views that contradict each other.
    """
    if len(views) < MIN_VIEWS:
        raise NoLens(
            f"{len(views)} views show all {board.columns} x {board.rows} inner corners of the chessboard, and "
            f"{MIN_VIEWS} are the least. Show it in more places, tilted, up to the corners of the frame; check --board"
        )
    used = np.ones(len(views), bool)
    while True:
        rms, matrix, distortion, of_view = _fit([v for v, u in zip(views, used, strict=True) if u], shape, board)
        worst = of_view > max(REJECT * float(np.median(of_view)), 0.1)
        if not worst.any() or used.sum() - worst.sum() < MIN_VIEWS:
            break
        used[np.flatnonzero(used)[worst]] = False
    if not np.isfinite(rms) or rms > 2.0:
        raise NoLens(
            f"the views' corners are {rms:.2g} px off any lens: a board that is not flat, or frames of several cameras"
        )
    kept = [v for v, u in zip(views, used, strict=True) if u]
    residual = _disagreement(kept, shape, board)
    view_rms = np.full(len(views), np.nan)
    view_rms[used] = of_view
    coverage = float(covered(kept, shape).mean())
    return LensCalibration(
        Lens(matrix, distortion[:4], residual=residual),
        shape,
        tuple(view_rms.tolist()),
        rms,
        coverage,
        ("coverage",) if coverage < MIN_COVERAGE else (),
    )


def _fit(views: Sequence[Array], shape: tuple[int, int], board: Chessboard) -> tuple[float, Array, Array, Array]:
    """RMS (px), camera matrix, distortion, and RMS of each view (px)."""
    corners = [view.astype(np.float32) for view in views]
    rms, matrix, distortion, *_, of_view = cv2.calibrateCameraExtended(
        [board.points] * len(views), corners, shape[::-1], None, None, flags=_FLAGS
    )
    return float(rms), np.asarray(matrix), np.asarray(distortion).ravel(), np.asarray(of_view).ravel()


def _disagreement(views: Sequence[Array], shape: tuple[int, int], board: Chessboard) -> float:
    """What two halves of the views disagree about, as one standard deviation of the lens of all of them.

    Relative to half the frame's width, after the homography that makes the two most alike: a later calibration of
    the screen takes that up.
    """
    lenses = [Lens(matrix, distortion[:4]) for half in (views[::2], views[1::2])
              for _, matrix, distortion, _ in (_fit(half, shape, board),)]  # fmt: skip
    _, half_width = centre_and_half(shape)
    grid = np.stack(np.meshgrid(np.linspace(0, shape[1] - 1, 17), np.linspace(0, shape[0] - 1, 13)), -1).reshape(-1, 2)
    one, other = (lens.undistort(grid) for lens in lenses)
    homography, _ = cv2.findHomography(one, other)
    carried = np.column_stack([one, np.ones(len(one))]) @ homography.T
    away = carried[:, :2] / carried[:, 2:] - other
    # Each half is uncertain by root two more than the whole, and the difference of two by root two again.
    return float(np.sqrt(np.mean(away**2))) / half_width / 2
