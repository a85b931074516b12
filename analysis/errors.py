"""What the analysis refuses, by name. The tree is drawn in `catalog.errors`."""

from __future__ import annotations

from catalog.errors import LunchBoxError


class AnalysisError(LunchBoxError, ValueError):
    """No number can be had from these frames."""


class BadScan(AnalysisError):
    """Frames, angles or a lens whose shape, type or values cannot be analysed."""


class NoSpots(AnalysisError):
    """Nothing found that looks like a diffraction spot."""


class NoOrders(AnalysisError):
    """Spots found, and no assignment of orders explains them."""


class NoTarget(AnalysisError):
    """The calibration target was not found in the calibration frame."""


class NoLens(AnalysisError):
    """Views of the chessboard do not determine the lens."""


class NotIdentifiable(AnalysisError):
    """The data do not determine the grating's period."""
