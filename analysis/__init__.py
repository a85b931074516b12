"""Analysis: from the frames of an angle scan to the grating's period, with an error that can be believed.

    from analysis import load_scan, fit_grating
    fit = fit_grating(load_scan(uid))

What needs scipy, pandas, matplotlib or the catalogue is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.calibration import Calibration as Calibration
    from analysis.calibration import Lens as Lens
    from analysis.calibration import calibrate as calibrate
    from analysis.chessboard import Chessboard as Chessboard
    from analysis.chessboard import calibrate_lens as calibrate_lens
    from analysis.fit import fit_grating as fit_grating
    from analysis.fitted import GratingFit as GratingFit
    from analysis.scan import Scan as Scan
    from analysis.scan import load_scan as load_scan
    from analysis.spots import Spot as Spot
    from analysis.spots import find_spots as find_spots
    from catalog.setup import Setup as Setup

_HOME = {
    "Calibration": "analysis.calibration",
    "Chessboard": "analysis.chessboard",
    "GratingFit": "analysis.fitted",
    "Lens": "analysis.calibration",
    "Scan": "analysis.scan",
    "Setup": "catalog.setup",
    "Spot": "analysis.spots",
    "calibrate": "analysis.calibration",
    "calibrate_lens": "analysis.chessboard",
    "find_spots": "analysis.spots",
    "fit_grating": "analysis.fit",
    "load_scan": "analysis.scan",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
