"""From a scan to the grating's period: all parameters at once, under their priors, with errors that hang together.

Spots (`spots`), metres (`calibration`), orders (`orders`, robustly), then `refinement`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration, calibrate, self_calibration
from analysis.errors import BadScan, NoSpots, NoTarget
from analysis.fitted import GratingFit
from analysis.model import Model
from analysis.observations import observations
from analysis.orders import assign_orders
from analysis.refinement import Problem
from analysis.scan import Scan
from analysis.spots import Spot, find_spots


def fit_grating(scan: Scan, *, progress: Callable[[int, int], None] | None = None) -> GratingFit:
    """The grating's lambda/d, period and geometry from an angle scan.

    Parameters
    ----------
    scan : Scan
    progress : called with (frames done, frames in all)

    Raises
    ------
    BadScan, NoSpots, NoOrders, NotIdentifiable
        Where the frames hold no answer; never a number without evidence.
    """
    spots: list[tuple[Spot, ...]] = []
    shape: tuple[int, ...] = ()
    empty: BadScan | None = None
    for i in range(len(scan)):
        image, background = scan.pair(i)
        if i and image.shape[:2] != shape:
            raise BadScan(f"frame {i} has shape {image.shape[:2]}, frame 0 has {shape}; a scan has one shape")
        try:
            spots.append(find_spots(image, background))
        except BadScan as error:
            error = BadScan(f"frame {i} ({scan.angles[i]:g} deg): {error}")
            if not (_is_empty(image) or _is_empty(background)):
                raise error from None
            spots.append(())
            empty = empty or error
        shape = image.shape[:2]
        if progress is not None:
            progress(i + 1, len(scan))
    if empty is not None and not any(spots):
        raise empty
    return fit_spots(scan, spots, (shape[0], shape[1]), flags=("empty-frames",) if empty else ())


def _is_empty(frame: NDArray[Any]) -> bool:
    """A frame of the right kind, of which no pixel is a number."""
    return frame.ndim in (2, 3) and frame.dtype.kind == "f" and not np.isfinite(frame).any()


def fit_spots(
    scan: Scan, spots: list[tuple[Spot, ...]], shape: tuple[int, int], *, flags: Sequence[str] = ()
) -> GratingFit:
    """The same from spots that were found before: of each frame, of shape (n_y, n_x); no frame is read.

    `flags` are what is known of the frames already.

    Raises
    ------
    BadScan, NoSpots, NoOrders, NotIdentifiable
    """
    if not any(spots):
        raise NoSpots(
            f"no diffraction spot in any of {len(scan)} frames: nothing in image - background stands out. Check that "
            "the laser was on for the images and off for the backgrounds, the exposure, and that they are not swapped"
        )
    calibration, doubts = _calibration_of(scan, shape)
    model = Model.of(scan.setup, scale_free=calibration.source == "self")
    seen = observations(scan, spots, calibration)
    assignment = assign_orders(seen, model, scan.setup, calibration)
    problem = Problem(scan, seen, spots, model, calibration, scan.setup.angle_jitter)
    return problem.solve(assignment, [*flags, *doubts])


def _calibration_of(scan: Scan, shape: tuple[int, int]) -> tuple[Calibration, list[str]]:
    if isinstance(scan.calibration, Calibration):
        if scan.calibration.shape != shape:
            raise BadScan(f"calibration is for frames of {scan.calibration.shape}, the scan's have {shape}")
        return scan.calibration, list(scan.calibration.flags)
    if scan.calibration is not None:
        frame = np.asarray(scan.calibration)
        if frame.shape[:2] != shape:
            raise BadScan(f"the calibration frame has shape {frame.shape}, the scan's frames {shape}")
        try:
            calibration = calibrate(frame, scan.setup, lens=scan.lens)
        except NoTarget:
            return self_calibration(shape, scan.setup, lens=scan.lens), ["no-target", "self-calibrated"]
        return calibration, list(calibration.flags)
    return self_calibration(shape, scan.setup, lens=scan.lens), ["self-calibrated"]
