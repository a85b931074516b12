"""A scan's positions, made clean: orders assigned anew, outliers taken out, the jitter estimated, all fitted again.

Generalised least squares (`solver`), with the servo's jitter common to the orders of a frame, the speckle frozen to the
screen and the calibration in one covariance (`covariance`). Positions that all the others contradict are taken out,
worst first, and the rest is fitted again.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration
from analysis.covariance import Errors
from analysis.errors import NoOrders, NotIdentifiable
from analysis.fitted import GratingFit
from analysis.matching import NONE, Assignment, Field, Observations, match
from analysis.model import Model
from analysis.observations import error_sources
from analysis.profile import Profile
from analysis.scan import Scan
from analysis.solver import Positions, Solution, likely_jitter, solve
from analysis.spots import Spot
from catalog.setup import Setup

Array = NDArray[np.float64]

#: A position further than this from where all the others put it is taken out (standard deviations, per two axes).
REJECT = 4.5
#: At most this share of the positions is taken out before the fit is called doubtful.
MAX_REJECTED = 0.2
#: Fewer frames say nothing about the servo's jitter.
MIN_FRAMES_FOR_JITTER = 12
#: Positions that are few prove orders only where they are most of the spots; many, where they are not only a few.
FEW_POSITIONS, SHARE_OF_FEW, SHARE_OF_MANY = 12, 0.7, 0.25
#: A parameter further than this from its prior (standard deviations) is flagged: set-up and bench disagree.
PRIOR_TENSION = 3.0
#: A period known no better than this, relative, is no result.
MAX_RELATIVE_STDERR = 0.1


class Problem:
    """One scan's positions, model and errors."""

    def __init__(
        self,
        scan: Scan,
        seen: Observations,
        spots: list[tuple[Spot, ...]],
        model: Model,
        calibration: Calibration,
        jitter: float,
    ) -> None:
        self.scan, self.seen, self.spots, self.model, self.calibration = scan, seen, spots, model, calibration
        self.jitter = max(jitter, 1e-6)
        self.errors = Errors(sum(error_sources(seen, spots, calibration).values(), np.zeros(())), seen.frame)

    @property
    def setup(self) -> Setup:
        return self.scan.setup

    def solve(self, assignment: Assignment, flags: list[str]) -> GratingFit:
        assignment = self._narrow(assignment)
        order = assignment.order
        used = (order != NONE) & ~assignment.ambiguous
        self._check(order, used)
        total = int(used.sum())
        fit = self._fit(assignment.theta, order, used)
        while True:
            limit = max(REJECT**2, 0.6 * float(fit.deletion.max()))
            worst = (fit.deletion > limit) | self._astray(fit)
            if not worst.any() or total - used.sum() + worst.sum() > MAX_REJECTED * total:
                break
            index = np.flatnonzero(used)
            used[index[worst]] = False
            self._check(order, used)
            fit = self._fit(fit.theta, order, used)
        if np.unique(self.seen.frame[used]).size >= MIN_FRAMES_FOR_JITTER:
            nominal = max(self.setup.angle_jitter, 2e-4)
            self.jitter = likely_jitter(self.model, fit.data, fit.theta, nominal=nominal)
            fit = self._fit(fit.theta, order, used)
        if fit.deletion.max() > REJECT**2:
            flags.append("outliers")
        if assignment.ambiguous.any():
            flags.append("ambiguous-orders")
        return self._result(fit, assignment, used, flags)

    def _narrow(self, assignment: Assignment) -> Assignment:
        """Assign anew with gates as wide as jitter and spots allow at the robust fit."""
        seen, model, theta = self.seen, self.model, assignment.theta
        known = assignment.order != NONE
        slope = np.zeros((len(seen.frame), 2))
        slope[known] = model.slope(theta, seen.servo[known], assignment.order[known])
        # Of a spot without an order any order's jitter may be meant: the steepest one's.
        steep = float(np.hypot(*slope.T).max()) if known.any() else 0.0
        reach = np.where(known, np.hypot(*slope.T), steep) * self.jitter
        gate = 5 * reach + 1.0 * seen.width
        return match(seen, model, theta, Field.of(seen, self.calibration), gate=gate)

    def _check(self, order: NDArray[np.intp], used: NDArray[np.bool_]) -> None:
        """There is evidence: an order 0, others beside it, and more than what any two spots would give."""
        if not (order[used] == 0).any():
            raise NoOrders(
                "no usable order 0 in any frame: it must be in the field, and not overlap a reflection; and "
                "servo_direction of the set-up must be the bench's"
            )
        if not (order[used] != 0).any():
            raise NoOrders("order 0 alone was found; at least one other order must be in the field")
        free = int(np.isinf(self.model.prior_stderr).sum())
        if 2 * used.sum() < free + 2:
            raise NotIdentifiable(
                f"{used.sum()} usable positions for {free} free parameters: some period would fit any spots. Scan more "
                "angles"
            )
        if self._single_angle(used) and self._scale_is_free():
            raise NotIdentifiable(
                "one angle without a calibration: larger pixels and a coarser grating look the same. Scan more angles, "
                "give a calibration frame with the target, or pixel_size in the set-up"
            )
        if used.mean() < (SHARE_OF_FEW if used.sum() < FEW_POSITIONS else SHARE_OF_MANY):
            raise NoOrders(
                f"{used.sum()} of {len(used)} spots could be orders of this grating, and by chance as well. Scan more "
                "angles, and cover what reflects"
            )

    def _scale_is_free(self) -> bool:
        return "scale" in self.model.names and bool(np.isinf(self.model.prior_stderr[self.model.index("scale")]))

    def _astray(self, fit: Solution) -> NDArray[np.bool_]:
        """Positions of frames that were not taken where the servo says: their orders agree, but on another angle."""
        turned = np.abs(fit.data.turned)
        one_per_frame = turned[np.unique(fit.data.errors.frame, return_index=True)[1]]
        usual = max(self.jitter, 1.5 * float(np.median(one_per_frame)))
        # One that stands off its neighbours is to blame itself: it has turned the frame.
        torn = np.unique(fit.data.errors.frame[fit.deletion > REJECT**2])
        agree = ~np.isin(fit.data.errors.frame, torn)
        return np.asarray((turned > REJECT * usual) & agree & (fit.data.order != 0))

    def _single_angle(self, used: NDArray[np.bool_]) -> bool:
        return bool(np.ptp(self.seen.servo[used]) < 1e-7)

    def _positions(self, order: NDArray[np.intp], used: NDArray[np.bool_]) -> Positions:
        screen, servo, errors = self.seen.screen[used], self.seen.servo[used], self.errors.of(used)
        return Positions(
            servo, order[used], screen, errors, self.jitter, turned=np.zeros_like(servo), shift=np.zeros_like(screen)
        )

    def _fit(self, theta: Array, order: NDArray[np.intp], used: NDArray[np.bool_]) -> Solution:
        return solve(self.model, self._positions(order, used), theta)

    def _result(self, fit: Solution, assignment: Assignment, used: NDArray[np.bool_], flags: list[str]) -> GratingFit:
        seen, model = self.seen, self.model
        freedom = 2 * int(used.sum()) + int(np.isfinite(model.prior_stderr).sum()) - len(model.names)
        covariance = fit.covariance
        # More scatter than the errors explain is charged to every parameter; less is not believed.
        reduced = fit.chi_squared / max(freedom, 1)
        excess = max(reduced, 1.0) if reduced > 1 + 3 * np.sqrt(2 / max(freedom, 1)) else 1.0
        if used.sum() < FEW_POSITIONS and reduced > 1 + 8 * np.sqrt(2 / max(freedom, 1)):
            raise NoOrders(
                f"{used.sum()} positions, and they contradict each other (reduced chi-squared {reduced:.1f}): too few "
                "to tell orders from other spots. Scan more angles, or set angle_jitter to what the servo does"
            )
        if excess > 1:
            covariance = covariance * excess
            flags.append("high-chi-squared")
        self._check_period(fit, covariance)
        profile = Profile(model, fit, "lambda_over_d", excess=excess)
        if not profile.is_quadratic():
            covariance = _widened(covariance, profile)
            flags.append("not-quadratic")
            self._check_period(fit, covariance)
        tension = np.abs(fit.theta - model.prior) / model.prior_stderr
        if tension.max() > PRIOR_TENSION:
            flags.append(f"unlikely-{model.names[int(tension.argmax())].replace('_', '-')}")
        if self._single_angle(used):
            flags.append("single-angle")
        unknown = np.count_nonzero(assignment.order == NONE)
        if unknown > 0.1 * len(assignment.order) and unknown > 2:
            flags.append("unexplained-spots")
        if used.sum() < FEW_POSITIONS:
            flags.append("few-positions")
        return GratingFit(
            scan=self.scan,
            spots=tuple(self.spots),
            calibration=self.calibration,
            parameter_names=model.names,
            values=fit.theta,
            covariance=covariance,
            chi_squared=fit.chi_squared,
            degrees_of_freedom=freedom,
            excess=excess,
            jitter=self.jitter,
            flags=tuple(dict.fromkeys(flags)),
            seen=seen,
            assignment=replace(assignment, theta=fit.theta),
            used=used,
            deletion=_spread(fit.deletion, used),
            residuals=_spread(fit.residual, used),
            model=model,
            solution=fit,
            errors=self.errors,
        )

    def _check_period(self, fit: Solution, covariance: Array) -> None:
        """The period is determined, and the set-up's grating may have it."""
        i, setup = self.model.index("lambda_over_d"), self.setup
        g, stderr = float(fit.theta[i]), float(np.sqrt(covariance[i, i]))
        if not stderr < MAX_RELATIVE_STDERR * g:
            raise NotIdentifiable(
                f"lambda/d = {g:.3g} +- {stderr:.2g}: the positions do not determine the period. Scan more angles, or "
                "give a calibration frame with the target"
            )
        if abs(g / setup.lambda_over_d - 1) > setup.lambda_over_d_tolerance + 3 * stderr / setup.lambda_over_d:
            raise NoOrders(
                f"the orders found would make it a grating of {g / setup.wavelength / 1e3:.0f} lines/mm; "
                f"groove_density of the set-up says {setup.groove_density / 1e3:.4g} lines/mm, to "
                f"{setup.groove_density_tolerance:.0%}. Correct the set-up, or check what else is on the screen"
            )


def _widened(covariance: Array, profile: Profile) -> Array:
    """The covariance with the parameter's standard error as wide as the wider side of its interval."""
    low, high = profile.interval(1.0)
    factor = np.ones(len(covariance))
    factor[profile.index] = max(profile.best - low, high - profile.best, profile.stderr) / profile.stderr
    return np.asarray(covariance * np.outer(factor, factor))


def _spread(values: Array, used: NDArray[np.bool_]) -> Array:
    """Values of the used positions among all; NaN elsewhere."""
    full = np.full((len(used), *values.shape[1:]), np.nan)
    full[used] = values
    return full
