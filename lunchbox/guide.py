"""The fit of a scan while it runs: told line by line, or asked where an adaptive scan goes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from analysis.live import LiveFit
    from config import LunchBoxSettings

#: Angles, evenly over the range, that the orders of a scan can be told from.
FIRST = 5
#: Fewer angles leave the fit too little to contradict itself with.
FEWEST = 8
#: deg, from which each angle is come to: more than the play of a servo.
APPROACH = 2.0


def live_fit(settings: LunchBoxSettings) -> LiveFit:
    """A subscriber that fits what it has after each event."""
    from analysis.live import LiveFit
    from catalog import layout
    from catalog.paths import FrameRoots

    return LiveFit(FrameRoots.from_settings(settings), settings.data_root / layout.JOURNAL_DIR)


def first_angles(start: float, stop: float) -> list[float]:
    """Where an adaptive scan from `start` to `stop` (deg) begins."""
    return [float(angle) for angle in np.linspace(start, stop, FIRST)]


def candidate_angles(start: float, stop: float) -> NDArray[np.float64]:
    """Where it may go next: every half degree, which is far enough for speckle that does not repeat."""
    return np.linspace(start, stop, max(round(2 * abs(stop - start)), FIRST - 1) + 1)


class LiveLines:
    """A subscriber that tells lambda/d and its error after each angle, or why there is none yet."""

    def __init__(self, settings: LunchBoxSettings) -> None:
        self.live = live_fit(settings)

    def __call__(self, name: str, document: Mapping[str, Any]) -> None:
        from tqdm import tqdm

        before = self.live.taken
        self.live(name, document)
        if self.live.taken > before:
            fit = self.live.fit
            said = f"{fit.lambda_over_d:.5f} +- {fit.lambda_over_d_stderr:.5f}" if fit else f"? ({self.live.why})"
            tqdm.write(f"after {self.live.taken} angles lambda/d = {said}")


class Guide:
    """Angles for `acquisition.plans.adaptive_scan`: those that `look` gives first, then those of `next_angle`.

    It ends when the relative standard error of lambda/d is `target_error` or less. Subscribe `live` to the run.
    """

    def __init__(self, settings: LunchBoxSettings, *, target_error: float, quiet: bool) -> None:
        self.live = live_fit(settings)
        self.candidates: Sequence[float] | NDArray[np.float64] = ()
        self.target_error, self._quiet = target_error, quiet
        self._fitted = 0

    def look(self, start: float, stop: float) -> list[float]:
        """Choose angles from `start` to `stop` (deg), half a degree apart; returns the first ones."""
        self.candidates = candidate_angles(start, stop)
        return first_angles(start, stop)

    @property
    def error(self) -> float:
        """Relative standard error of lambda/d so far; infinite without a fit."""
        fit = self.live.fit
        return fit.lambda_over_d_stderr / fit.lambda_over_d if fit else float("inf")

    def next_angle(self) -> float | None:
        """The next angle (deg); None when lambda/d is known well enough."""
        angle = self.live.next_angle(self.candidates)
        fit = self.live.fit
        assert fit is not None
        error = self.error
        n = len(fit.scan)
        if n == self._fitted:
            raise RuntimeError(f"the fit has not seen the frames after number {n}: it failed, as was said above")
        self._fitted = n
        done = error <= self.target_error and n >= FEWEST
        if not self._quiet:
            from tqdm import tqdm

            then = "that will do" if done else f"next {angle:+.1f} deg"
            tqdm.write(f"after {n} angles lambda/d = {fit.lambda_over_d:.5f} +- {100 * error:.2f} %; {then}")
        return None if done else angle
