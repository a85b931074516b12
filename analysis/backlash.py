"""The play between the servo and the grating, from a scan that went both ways through the same angles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.errors import BadScan
from analysis.fitted import GratingFit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Backlash:
    """How much further the grating is turned when the servo comes from above than when it comes from below.

    width, stderr : float, deg of the servo
    pairs : how many angles were visited from both sides
    """

    width: float
    stderr: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.width:.2f} ± {self.stderr:.2f}"


def backlash(fit: GratingFit) -> Backlash:
    """The backlash of a fitted scan that went there and back.

    Both visits of an angle see the same places of the screen, so that what speckle, lens and geometry do to one they do
    to the other; the error is the scatter of the pairs, which is that of the servo.

    Raises
    ------
    BadScan
        Fewer than three angles were visited from both sides, or the scan turned round more than once: the side that an
        angle was come to from is told by the angle before it.
    """
    servo, (turned, variance) = fit.scan.angles, turns(fit)
    step = np.diff(servo)
    signs = np.sign(step[step != 0])
    if np.count_nonzero(np.diff(signs)) > 1:
        raise BadScan("the servo turned round more than once: record `lunchbox scan --up-down`")
    up = [i for i in range(1, len(servo)) if step[i - 1] > 0]
    down = [i for i in range(1, len(servo)) if step[i - 1] < 0]
    reach = 0.5 * float(np.median(np.abs(step))) if len(step) else 0.0
    pairs = []
    for i in down:
        nearest = min(up, key=lambda k: abs(servo[k] - servo[i]), default=None)
        if nearest is not None and abs(servo[nearest] - servo[i]) < reach:
            pairs.append((turned[i] - turned[nearest], variance[i] + variance[nearest]))
    difference, known = np.array([pair for pair in pairs if np.isfinite(pair).all()]).reshape(-1, 2).T
    if len(difference) < 3:
        raise BadScan(
            f"{len(difference)} angles were visited from both sides, and three are needed: record `lunchbox scan "
            "--up-down`"
        )
    mean, stderr = _mean_with_jitter(difference, known)
    # Servo angle per incidence angle, with its sign: from above is from above for the servo.
    per_turn = np.rad2deg(1 / (fit.value("angle_gain") * fit.model.direction))
    return Backlash(float(mean * per_turn), float(abs(stderr * per_turn)), len(difference))


def _mean_with_jitter(values: Array, variances: Array) -> tuple[float, float]:
    """Weighted mean and its error, with so much variance added to each value that their scatter is explained."""
    added = 0.0
    for _ in range(50):
        weight = 1 / (variances + added)
        mean = (weight * values).sum() / weight.sum()
        missing = (weight * (values - mean) ** 2).sum() - (len(values) - 1)
        # Newton's step; chi^2 falls with what is added, and what is added is no less than nothing.
        slope = (weight**2 * (values - mean) ** 2).sum()
        step = missing / slope if slope > 0 else 0.0
        if abs(step) <= 1e-6 * (added + float(variances.min())) or (step < 0 and added == 0):
            break
        added = max(0.0, added + step)
    return float(mean), float(1 / np.sqrt(weight.sum()))


def turns(fit: GratingFit) -> tuple[Array, Array]:
    """By how much each frame's incidence angle is beyond what the fit expects of its servo angle, and its variance.

    rad and rad^2, each of shape (n,). By least squares over the frame's orders, each weighted with its own errors; NaN
    where a frame has none that moves.
    """
    seen, used = fit.seen, fit.used
    servo, order = seen.servo[used], fit.assignment.order[used]
    miss = seen.screen[used] - fit.model.predict(fit.values, servo, order)
    slope = fit.model.slope(fit.values, servo, order)
    own = np.diag(fit.errors.of(used).fixed).reshape(-1, 2)
    turned, variance = np.full((2, len(fit.scan)), np.nan)
    for i in np.unique(seen.frame[used]):
        mine = seen.frame[used] == i
        information = float((slope[mine] ** 2 / own[mine]).sum())
        if information > 1:  # rad^-2: one that knows nothing to a radian has seen the zero order alone
            turned[i] = (slope[mine] / own[mine] * miss[mine]).sum() / information
            variance[i] = 1 / information
    return turned, variance
