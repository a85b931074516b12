"""Confidence intervals by profile likelihood: what a value of one parameter costs when all the others do their best.

Where the positions are linear in the parameters, chi^2 rises as a parabola and the interval is the standard error's.
Where they are not, the interval is what the rise itself says, and may be lopsided (D. J. Venzon and S. H. Moolgavkar,
J. R. Stat. Soc. C 37, 87, 1988).
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from analysis.model import Model
from analysis.solver import Solution, whitened

Array = NDArray[np.float64]

#: A rise of chi^2 that differs by this from the parabola's, as its square root, relative, is not quadratic.
NOT_QUADRATIC = 0.05


class Profile:
    """The rise of chi^2 from its least value, along one parameter.

    excess : what chi^2 is divided by where the scatter is more than the errors explain
    """

    def __init__(self, model: Model, fit: Solution, name: str, *, excess: float = 1.0) -> None:
        self.model, self.fit, self.excess = model, fit, excess
        self.index = model.index(name)
        self.stderr = float(np.sqrt(fit.covariance[self.index, self.index] * excess))

    @property
    def best(self) -> float:
        return float(self.fit.theta[self.index])

    def rise(self, value: float) -> float:
        """sqrt(chi^2 - chi^2_min), in standard deviations, at this value; inf where an order would not exist."""
        others = np.arange(len(self.model.names)) != self.index
        size, prior = self.model.size[others], self.model.prior[others]
        precision = self.model.prior_stderr[others] ** -2
        direction = self.fit.covariance[self.index] / self.fit.covariance[self.index, self.index]
        theta = self.fit.theta + (value - self.best) * direction
        least = np.inf
        for _ in range(12):
            if not np.isfinite(self.fit.data.missed(self.model, theta)).all():
                return np.inf
            r, j = whitened(self.model, self.fit.data, theta, self.fit.factor)
            pulls = (theta - self.model.prior) / self.model.prior_stderr
            chi_squared = float(r @ r + pulls @ pulls)
            if chi_squared > least - 1e-4:
                break
            least = chi_squared
            j = j[:, others] * size
            pull = np.where(precision > 0, (theta[others] - prior) * precision, 0.0)
            normal = j.T @ j + np.diag(precision * size**2)
            theta = theta.copy()
            theta[others] += np.linalg.solve(normal, j.T @ r - pull * size) * size
        return sqrt(max(least - self.fit.chi_squared, 0.0) / self.excess)

    def is_quadratic(self) -> bool:
        """Whether chi^2 at one and two standard errors to both sides is what a parabola has there."""
        return all(
            abs(self.rise(self.best + k * self.stderr) / abs(k) - 1) < NOT_QUADRATIC for k in (1.0, -1.0, 2.0, -2.0)
        )

    def interval(self, deviations: float) -> tuple[float, float]:
        """Values at which chi^2 has risen by deviations^2, on both sides."""
        return self.best - self._reach(-1, deviations), self.best + self._reach(1, deviations)

    def _reach(self, side: int, deviations: float) -> float:
        """How far from the best value the rise reaches `deviations`."""
        return _crossing(lambda x: self.rise(self.best + side * x), deviations, start=deviations * self.stderr)


def _crossing(rise: Callable[[float], float], height: float, *, start: float) -> float:
    """Where a function that grows from 0 at 0 reaches the height; inf where it does not, within 64 times `start`."""
    from scipy.optimize import brentq

    low, high = 0.0, start
    while rise(high) < height:
        low, high = high, 2 * high
        if high > 64 * start:
            return np.inf
    # Beyond the edge of an order the rise is infinite: any number above the height will do.
    return float(brentq(lambda x: min(rise(x), 2 * height) - height, low, high, xtol=1e-4 * start))
