"""What the analysis makes of a scan whose truth is known, and of many."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis import fit_grating
from analysis.errors import AnalysisError
from lunchbox.validation.peers import tutorial_period
from lunchbox.validation.trials import Trial

#: px beside three standard errors: further than this from where its order is, a spot is another one.
MISTAKEN = 3.0


@dataclass(frozen=True)
class Verdict:
    """One fit against the truth.

    error, stderr : of lambda/d, relative; NaN where the analysis declined
    orders, wrong : positions that were used, and those of them that are not the order they were taken for
    declined : the name of the error, or ""
    tutorial : error of the tutorial's lambda/d (`peers.tutorial_period`), relative; NaN where it has none
    seconds : of the analysis
    """

    error: float
    stderr: float
    reduced_chi_squared: float
    orders: int
    wrong: int
    flags: tuple[str, ...]
    declined: str
    tutorial: float
    seconds: float

    @property
    def pull(self) -> float:
        return self.error / self.stderr


def judge(trial: Trial) -> Verdict:
    """Fit the scan, and hold the result against the truth."""
    theirs = tutorial_period(trial.scan) / trial.lambda_over_d - 1 if trial.scan.calibration is not None else np.nan
    began = time.perf_counter()
    try:
        fit = fit_grating(trial.scan)
    except AnalysisError as error:
        took = time.perf_counter() - began
        return Verdict(np.nan, np.nan, np.nan, 0, 0, (), type(error).__name__, theirs, took)
    took = time.perf_counter() - began
    wrong = 0
    for spots, truth, assigned in zip(fit.spots, trial.orders, fit.orders, strict=True):
        for order, index in assigned.items():
            spot = spots[index]
            if order not in truth and "edge" in spot.flags:
                continue  # its centre is outside, and so is the order's
            place = truth.get(order, (np.inf, np.inf))
            allowed = MISTAKEN + 3 * np.hypot(spot.x_stderr, spot.y_stderr)
            wrong += bool(np.hypot(spot.x - place[0], spot.y - place[1]) > allowed)
    return Verdict(
        error=fit.lambda_over_d / trial.lambda_over_d - 1,
        stderr=fit.lambda_over_d_stderr / trial.lambda_over_d,
        reduced_chi_squared=fit.reduced_chi_squared,
        orders=sum(map(len, fit.orders)),
        wrong=int(wrong),
        flags=fit.flags,
        declined="",
        tutorial=theirs,
        seconds=took,
    )


@dataclass(frozen=True)
class Summary:
    """Many verdicts of one kind of scene.

    rms, stated : of lambda/d, relative: the errors that were made, and those that were stated (both root mean square)
    pull : root mean square of error / stated; 1 where the errors are true
    within_1, within_2 : shares of the scans whose error is less than one and two stated ones
    tutorial : root mean square error of the tutorial's lambda/d on the same frames, relative
    seconds : of one analysis, mean
    """

    name: str
    scans: int
    declined: int
    rms: float
    stated: float
    pull: float
    within_1: float
    within_2: float
    orders: int
    wrong: int
    tutorial: float
    seconds: float


def summarise(name: str, verdicts: Sequence[Verdict]) -> Summary:
    fitted = [v for v in verdicts if not v.declined]
    errors, stated = np.array([v.error for v in fitted]), np.array([v.stderr for v in fitted])
    pulls = np.abs(errors / stated)

    def rms(values: np.ndarray) -> float:
        return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")

    return Summary(
        name=name,
        scans=len(verdicts),
        declined=len(verdicts) - len(fitted),
        rms=rms(errors),
        stated=rms(stated),
        pull=rms(pulls),
        within_1=float(np.mean(pulls < 1)) if len(pulls) else float("nan"),
        within_2=float(np.mean(pulls < 2)) if len(pulls) else float("nan"),
        orders=sum(v.orders for v in verdicts),
        wrong=sum(v.wrong for v in verdicts),
        tutorial=rms(np.array([v.tutorial for v in verdicts if np.isfinite(v.tutorial)])),
        seconds=float(np.mean([v.seconds for v in verdicts])),
    )
