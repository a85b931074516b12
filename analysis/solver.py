"""Generalised least squares under priors: the parameters that positions with common errors say.

    minimise  (x - model)^T C^-1 (x - model) + sum ((parameter - prior) / prior_stderr)^2

Each frame's shaft stands off its readback by a jitter delta that nobody measured. The positions are linear in it about
its likeliest value delta_0, which the orders of the frame tell together,

    model = u(alpha + delta_0) - S delta_0,    S = du / d(alpha) at delta_0

and its variance is in C (effective variance). Both are renewed while the parameters still move. About delta_0 = 0 the
curvature of u would pull lambda/d by a tenth of its error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.covariance import Errors
from analysis.errors import NotIdentifiable
from analysis.model import Model

Array = NDArray[np.float64]
Integers = NDArray[np.intp]


@dataclass(frozen=True)
class Positions:
    """What is fitted: n positions.

    servo : ndarray, shape (n,), rad; order : ndarray, shape (n,); screen : ndarray, shape (n, 2), m
    jitter : rad, one standard deviation
    turned, shift : ndarray, shape (n,), rad, and (n, 2), m: delta_0 of each position's frame, and S delta_0
    """

    servo: Array
    order: Integers
    screen: Array
    errors: Errors
    jitter: float
    turned: Array
    shift: Array

    def slope(self, model: Model, theta: Array) -> Array:
        """d(X, Y) / d(alpha), m / rad, shape (n, 2)."""
        return model.slope(theta, self.servo, self.order, turned=self.turned)

    def missed(self, model: Model, theta: Array) -> Array:
        """Measured less modelled, m, shape (n, 2); NaN where the model has no such order."""
        place = model.predict(theta, self.servo, self.order, turned=self.turned)
        return self.screen - place + self.shift


@dataclass(frozen=True)
class Solution:
    """Converged parameters.

    theta, covariance : ndarray, shape (n_parameter,), (n_parameter, n_parameter)
    deletion : ndarray, shape (n,): chi^2 (two axes) of each position against where all the others put it
    residual : ndarray, shape (n, 2): the same along X and along Y, in standard deviations, with sign
    factor : ndarray, shape (2 n, 2 n): Cholesky's factor of the positions' covariance, lower
    data : Positions, with the `turned` that was found
    """

    data: Positions
    theta: Array
    covariance: Array
    chi_squared: float
    deletion: Array
    residual: Array
    factor: Array


def solve(model: Model, data: Positions, theta: Array) -> Solution:
    """The parameters from a start `theta`, by Gauss-Newton.

    Raises
    ------
    NotIdentifiable
        When the positions and the priors leave a parameter open.
    """
    previous = np.inf
    factor = _factor(model, data, theta, data.jitter)
    for iteration in range(25):
        if 0 < iteration < 4:
            data = _turned(model, data, theta, factor)
            factor = _factor(model, data, theta, data.jitter)
        step, _, _ = _linear(model, data, theta, factor)
        theta, step = _accepted(model, data, theta, step)
        moved = float(np.abs(step / model.size).max())
        if iteration >= 2 and (moved < 1e-5 or (moved >= previous and moved < 1e-3)):
            break
        previous = moved
    _, (r, j), normal = _linear(model, data, theta, factor)
    unit = np.outer(model.size, model.size)
    try:
        covariance = np.linalg.inv(normal) * unit
    except np.linalg.LinAlgError:
        covariance = np.full_like(normal, np.nan)
    if not np.isfinite(covariance).all() or (np.diag(covariance) <= 0).any():
        raise NotIdentifiable("the positions leave a parameter undetermined; scan more angles")
    pulls = (theta - model.prior) / model.prior_stderr
    deletion, residual = _against_the_others(factor, r, j, covariance)
    return Solution(data, theta, covariance, float(r @ r + pulls @ pulls), deletion, residual, factor)


def likely_jitter(model: Model, data: Positions, theta: Array, *, nominal: float) -> float:
    """The jitter (rad) that explains the scan best: restricted likelihood, linear about `theta`.

    The nominal value counts as an observation of its logarithm to within a factor of two.
    """
    # With C = F + jitter^2 S S^T one factor of F serves every jitter: the rest has a row per frame.
    factor = _factor(model, data, theta, 0.0)
    _, (r, j), _ = _linear(model, data, theta, factor)
    white = _over(factor, data.errors.turns(data.slope(model, theta)))
    strength, vectors = np.linalg.eigh(white.T @ white)
    turned = (white @ vectors).T @ np.column_stack([r, j])
    plain = np.column_stack([r, j]).T @ np.column_stack([r, j])
    priors = np.where(np.isfinite(model.prior_stderr), (model.prior - theta) / model.prior_stderr, 0.0)

    def likelihood(jitter: float) -> float:
        share = 1 / (jitter**-2 + np.maximum(strength, 0))
        inner = plain - turned.T @ (share[:, None] * turned)
        scaled = (inner[1:, 1:] + np.diag(model.prior_stderr**-2)) * np.outer(model.size, model.size)
        pull = (inner[1:, 0] + priors / model.prior_stderr) * model.size
        chi_squared = inner[0, 0] + priors @ priors - pull @ np.linalg.solve(scaled, pull)
        determinant = np.log1p(jitter**2 * np.maximum(strength, 0)).sum() + np.linalg.slogdet(scaled)[1]
        return -0.5 * float(chi_squared + determinant)

    step = 0.2
    logs = np.arange(-9, 10) * step
    values = np.array([likelihood(nominal * np.exp(x)) - 0.5 * (x / np.log(2)) ** 2 for x in logs])
    i = int(values.argmax())
    shift = 0.0
    if 0 < i < len(values) - 1:
        left, middle, right = values[i - 1 : i + 2]
        shift = 0.5 * (left - right) / (left - 2 * middle + right)
    return float(nominal * np.exp(logs[i] + shift * step))


def _factor(model: Model, data: Positions, theta: Array, jitter: float) -> Array:
    """Cholesky's factor of C, lower."""
    from scipy.linalg import cholesky

    total = data.errors.total(data.slope(model, theta), jitter)
    # A hundredth of a micrometre keeps repeated frames of a frozen pattern apart.
    total[np.diag_indices_from(total)] += 1e-16
    return np.asarray(cholesky(total, lower=True, overwrite_a=True, check_finite=False))


def _turned(model: Model, data: Positions, theta: Array, factor: Array) -> Positions:
    """The positions about the likeliest delta_0 = jitter^2 S^T C^-1 (measured less modelled) of each frame."""
    from scipy.linalg import cho_solve

    weighted = cho_solve((factor, True), np.nan_to_num(data.missed(model, theta)).ravel()).reshape(-1, 2)
    frame = data.errors.frame
    along = np.bincount(frame, (data.slope(model, theta) * weighted).sum(1))
    turned = np.asarray(data.jitter**2 * along[frame], float)
    # An order that was seen propagates.
    there = np.isfinite(model.predict(theta, data.servo, data.order, turned=turned)).all(1)
    data = replace(data, turned=np.where(there, turned, data.turned))
    return replace(data, shift=data.slope(model, theta) * data.turned[:, None])


def _over(factor: Array, columns: Array) -> Array:
    """factor^-1 columns."""
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(factor, columns, lower=True, check_finite=False))


def whitened(model: Model, data: Positions, theta: Array, factor: Array) -> tuple[Array, Array]:
    """Residuals (2 n,) and their Jacobian (2 n, n_parameter), both free of correlation and of unit variance."""
    residual = np.nan_to_num(data.missed(model, theta)).reshape(-1, 1)
    jacobian = model.jacobian(theta, data.servo, data.order, turned=data.turned).reshape(len(residual), -1)
    white = _over(factor, np.hstack([residual, jacobian]))
    return white[:, 0], white[:, 1:]


def _linear(model: Model, data: Positions, theta: Array, factor: Array) -> tuple[Array, tuple[Array, Array], Array]:
    """The step, the whitened residuals with their Jacobian, and the normal matrix in units of `model.size`."""
    r, j = whitened(model, data, theta, factor)
    precision = model.prior_stderr**-2
    pull = np.where(precision > 0, (theta - model.prior) * precision, 0.0)
    normal = (j.T @ j + np.diag(precision)) * np.outer(model.size, model.size)
    damped = normal + 1e-12 * np.diag(np.diag(normal)) + 1e-30 * np.eye(len(normal))
    step = np.linalg.solve(damped, (j.T @ r - pull) * model.size) * model.size
    return step, (r, j), normal


def _accepted(model: Model, data: Positions, theta: Array, step: Array) -> tuple[Array, Array]:
    """The step, cut until every order that was seen propagates."""
    step = step / max(1.0, float(np.abs(step / model.size).max()) / 5)
    for _ in range(12):
        if np.isfinite(data.missed(model, theta + step)).all():
            return theta + step, step
        step = step / 2
    return theta, np.zeros_like(theta)


def _against_the_others(factor: Array, r: Array, j: Array, covariance: Array) -> tuple[Array, Array]:
    """Deletion chi^2, shape (n,), and residuals, shape (n, 2): position i against all others is P_ii^-1 (P r)_i.

    P = C^-1 - C^-1 J covariance J^T C^-1.
    """
    inverse = _over(factor, np.eye(len(factor)))
    n = len(factor) // 2
    whole = inverse.T @ np.column_stack([r, j])
    pr = whole[:, 0] - whole[:, 1:] @ (covariance @ (j.T @ r))
    columns, changes = inverse.reshape(-1, n, 2), whole[:, 1:].reshape(n, 2, -1)
    diagonal = np.einsum("kna,knb->nab", columns, columns) - changes @ covariance @ changes.transpose(0, 2, 1)
    diagonal = diagonal + 1e-9 * np.trace(diagonal, axis1=1, axis2=2)[:, None, None] * np.eye(2)
    pair = pr.reshape(n, 2)
    deletion = np.einsum("ni,ni->n", pair, np.linalg.solve(diagonal, pair[..., None])[..., 0])
    own = np.sqrt(np.maximum(diagonal[:, [0, 1], [0, 1]], 1e-300))
    return deletion, pair / own
