"""The result of a fit: frozen values with their uncertainties, the positions behind them, and how to show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration
from analysis.covariance import Errors
from analysis.matching import Assignment, Observations
from analysis.model import UNITS, Model
from analysis.scan import Scan
from analysis.solver import Solution
from analysis.spots import Spot

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GratingFit:
    """What a scan says about its grating.

    lambda_over_d (g) is what is measured. The period d = lambda / g and the groove density 1 / d also carry the
    wavelength, which the scan cannot know: `grating_period_stderr` and `groove_density_stderr` hold both parts, added
    in quadrature; `grating_period_stderr_fit` and `grating_period_stderr_wavelength` give them one by one.

    values, covariance : ndarray, shape (n_parameter,) and (n_parameter, n_parameter), as `parameter_names`
    excess : what the covariance was multiplied with because the positions scatter more than their errors explain
    jitter : rad, of the servo, as the scan shows it
    flags : what is doubtful. empty-frames: frames of which no pixel is a number, left out; self-calibrated: no target,
        the scale is a parameter; no-target: the calibration frame does not show it; ambiguous-orders: positions left
        out because another spot may be the order; outliers: positions that the others contradict, and too many to
        take out; unexplained-spots: spots that are no order; high-chi-squared: more scatter than the errors explain,
        the errors were widened; not-quadratic: the error is the wider side of `interval`; unlikely-NAME: a parameter
        far from its prior; few-positions, single-angle: the priors carry most of the result; and the calibration's
    seen, assignment, used, errors : all spots, their orders, which of them were fitted, the errors of their positions
    solution : what was fitted, and how it converged
    """

    scan: Scan = field(repr=False)
    spots: tuple[tuple[Spot, ...], ...] = field(repr=False)
    calibration: Calibration = field(repr=False)
    parameter_names: tuple[str, ...]
    values: Array
    covariance: Array = field(repr=False)
    chi_squared: float
    degrees_of_freedom: int
    excess: float
    jitter: float
    flags: tuple[str, ...]
    seen: Observations = field(repr=False)
    assignment: Assignment = field(repr=False)
    used: NDArray[np.bool_] = field(repr=False)
    deletion: Array = field(repr=False)
    residuals: Array = field(repr=False)
    model: Model = field(repr=False)
    solution: Solution = field(repr=False)
    errors: Errors = field(repr=False)

    def value(self, name: str) -> float:
        """A parameter's value (m, rad)."""
        return float(self.values[self.parameter_names.index(name)])

    def stderr(self, name: str) -> float:
        """A parameter's standard deviation (m, rad)."""
        i = self.parameter_names.index(name)
        return float(np.sqrt(self.covariance[i, i]))

    @property
    def lambda_over_d(self) -> float:
        return self.value("lambda_over_d")

    @property
    def lambda_over_d_stderr(self) -> float:
        return self.stderr("lambda_over_d")

    @property
    def grating_period(self) -> float:
        """d, m, for the set-up's wavelength."""
        return self.scan.setup.wavelength / self.lambda_over_d

    @property
    def grating_period_stderr_fit(self) -> float:
        """m: the part of the fit alone."""
        return self.grating_period * self.lambda_over_d_stderr / self.lambda_over_d

    @property
    def grating_period_stderr_wavelength(self) -> float:
        """m: the systematic part of the wavelength's tolerance alone."""
        return self.grating_period * self.scan.setup.wavelength_tolerance

    @property
    def grating_period_stderr(self) -> float:
        """m: both parts, in quadrature."""
        return float(np.hypot(self.grating_period_stderr_fit, self.grating_period_stderr_wavelength))

    @property
    def groove_density(self) -> float:
        """1/m."""
        return 1 / self.grating_period

    @property
    def groove_density_stderr(self) -> float:
        """1/m: fit and wavelength, in quadrature."""
        return self.groove_density * self.grating_period_stderr / self.grating_period

    @property
    def lines_per_mm(self) -> float:
        return self.groove_density / 1e3

    @property
    def reduced_chi_squared(self) -> float:
        return self.chi_squared / max(self.degrees_of_freedom, 1)

    @property
    def correlation(self) -> Array:
        """Correlation matrix of the parameters."""
        stderr = np.sqrt(np.diag(self.covariance))
        return np.asarray(self.covariance / np.outer(stderr, stderr))

    @cached_property
    def data_share(self) -> Array:
        """How much of each parameter's variance the positions' own errors make, shape (n_parameter,), 0 to 1.

        The rest comes from priors, the parameter's own or another's: near 0 only they know the parameter.
        """
        from_priors = ((self.solution.covariance / self.model.prior_stderr) ** 2).sum(1)
        return np.asarray(np.clip(1 - from_priors / np.diag(self.solution.covariance), 0, 1))

    def known_from(self, name: str) -> str:
        """ "data", "prior" or "both": what constrains a parameter."""
        share = self.data_share[self.parameter_names.index(name)]
        return "data" if share > 0.9 else "prior" if share < 0.1 else "both"

    @cached_property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """{name: {value, stderr, unit, prior, prior_stderr, data_share, known_from}} of all parameters, in SI units."""
        return {
            name: {
                "value": self.value(name),
                "stderr": self.stderr(name),
                "unit": UNITS[name],
                "prior": float(prior) if np.isfinite(width) else None,
                "prior_stderr": float(width) if np.isfinite(width) else None,
                "data_share": float(share),
                "known_from": self.known_from(name),
            }
            for name, prior, width, share in zip(
                self.parameter_names, self.model.prior, self.model.prior_stderr, self.data_share, strict=True
            )
        }

    def interval(self, name: str = "lambda_over_d", *, level: float = 0.6827) -> tuple[float, float]:
        """Confidence interval of a parameter by profile likelihood (m, rad); lopsided where the problem is.

        Raises
        ------
        ValueError
            When `level` is not between 0 and 1, or there is no such parameter.
        """
        from scipy.special import erfinv

        from analysis.profile import Profile

        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, not {level:g}")
        profile = Profile(self.model, self.solution, name, excess=self.excess)
        return profile.interval(float(np.sqrt(2) * erfinv(level)))

    @cached_property
    def error_budget(self) -> dict[str, float]:
        """{source: its standard error of lambda/d}; they add in quadrature to `lambda_over_d_stderr`. See `budget`."""
        from analysis.budget import error_budget

        return error_budget(self)

    @cached_property
    def orders(self) -> tuple[dict[int, int], ...]:
        """Per frame {order: index into that frame's spots}, rejected and doubtful ones left out."""
        table: tuple[dict[int, int], ...] = tuple({} for _ in range(len(self.scan)))
        for k in np.flatnonzero(self.used):
            table[self.seen.frame[k]][int(self.assignment.order[k])] = int(self.seen.index[k])
        return table

    @cached_property
    def positions(self) -> pd.DataFrame:
        """One row per spot that was given an order.

        frame, spot (index in the frame), angle (deg), order; x, y, x_stderr, y_stderr (m, on the screen); x_px, y_px;
        spacing, spacing_stderr (m), spacing_px, spacing_px_stderr: distance from order 0, negative for negative orders
        (of order 0 itself, along the roll); model (m): the fit's spacing; residual: along the spacing, in standard
        deviations, from where all the other positions put it (of an unused one, from the model); deviation: the same
        for both directions together, without sign; status: used, rejected (the others contradict it) or ambiguous
        (another spot claims the order, or lies beneath it); reason: why it was not used.
        """
        from analysis.spacing import positions

        return positions(self)

    @cached_property
    def peak_spacing(self) -> pd.DataFrame:
        """Peak spacing against angle, one row per frame and order beside order 0.

        frame, angle, angle_stderr (deg), order; spacing_mm, spacing_mm_stderr, spacing_px, spacing_px_stderr: distance
        from order 0, negative for negative orders; model_mm: the fit's; residual, status and reason as in `positions`.
        """
        from analysis.spacing import peak_spacing

        return peak_spacing(self)

    @cached_property
    def peak_spacing_dataset(self) -> xr.Dataset:
        """The same as an xarray.Dataset over (frame, order), with angle (deg) along frame; NaN where no peak was."""
        from analysis.spacing import peak_spacing_dataset

        return peak_spacing_dataset(self)

    def summary(self) -> str:
        """The result as a table for a terminal."""
        from analysis.report import summary

        return summary(self)

    def figure(self, **options: Any) -> Any:
        """A matplotlib Figure: spacing against angle, residuals, a frame with its orders, the result."""
        from analysis.figure import figure

        return figure(self, **options)

    def budget_figure(self) -> Any:
        """A matplotlib Figure of `error_budget`."""
        from analysis.diagnostics import budget_figure

        return budget_figure(self)

    def correlation_figure(self) -> Any:
        """A matplotlib Figure of `correlation`."""
        from analysis.diagnostics import correlation_figure

        return correlation_figure(self)

    def save_figure(self, path: Any, **options: Any) -> Any:
        """The figure as a PNG file; returns the path."""
        from analysis.figure import save_figure

        return save_figure(self, path, **options)

    def _repr_png_(self) -> bytes:
        from analysis.figure import png

        return png(self)
