"""Which angle next: the one whose frame would make lambda/d best known.

With the positions measured so far, their covariance C and Jacobian J, the information about the parameters is
M = prior^-2 + J^T C^-1 J. A frame at another angle brings positions with K in common with those (speckle that is frozen
to the screen, the calibration) and adds

    J'^T S^-1 J',    J' = J_new - K^T C^-1 J,    S = C_new - K^T C^-1 K,

so that what only repeats is worth nothing. The variance of lambda/d is its element of M^-1 (c-optimal design; V. V.
Fedorov, Theory of Optimal Experiments, 1972).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.covariance import Errors, blocks, speckle
from analysis.matching import Field

if TYPE_CHECKING:
    from analysis.calibration import Calibration
    from analysis.fitted import GratingFit

Array = NDArray[np.float64]


def next_angle(fit: GratingFit, angles: ArrayLike) -> float:
    """Of the servo angles (deg, shape (n,)), the one whose frame would leave lambda/d the smallest variance.

    Raises
    ------
    ValueError
        None of them shows an order.
    """
    angles = np.asarray(angles, float)
    variance = expected_variance(fit, angles)
    if not np.isfinite(variance).any():
        raise ValueError("at none of these angles is an order that the scan has seen on the screen")
    return float(angles[np.nanargmin(variance)])


def expected_variance(fit: GratingFit, angles: ArrayLike) -> Array:
    """Variance of lambda/d after one more frame at each of the servo angles (deg), shape (n,); NaN: nothing to see."""
    return Design(fit, angles).variance()


class Design:
    """What frames at some servo angles would tell.

    Parameters
    ----------
    fit
        Of the frames so far: its parameters and errors are taken to be the true ones.
    angles
        deg, shape (n,); an angle that is there twice stands for two frames.
    """

    def __init__(self, fit: GratingFit, angles: ArrayLike) -> None:
        seen, model, used = fit.seen, fit.model, fit.used
        frame, servo, order = _visible(fit, np.deg2rad(np.asarray(angles, float)))
        n_old = int(used.sum())

        white, texture = _typical(fit, order)
        screen = np.concatenate([seen.screen[used], model.predict(fit.values, servo, order)])
        width = np.concatenate([seen.width[used], np.full(len(servo), np.median(seen.width[used]))])
        pixel = np.concatenate([seen.pixel[used], pixels_of(fit.calibration, screen[n_old:])])
        common = fit.calibration.parameter_jacobian(pixel).reshape(2 * len(pixel), -1)
        fixed = blocks(white) + speckle(texture, screen, width) + common @ fit.calibration.covariance @ common.T
        every_servo = np.concatenate([seen.servo[used], servo])
        every_order = np.concatenate([fit.assignment.order[used], order])
        every_frame = np.concatenate([seen.frame[used], seen.n_frames + frame])
        total = Errors(fixed, every_frame).total(model.slope(fit.values, every_servo, every_order), fit.jitter)
        total[np.diag_indices_from(total)] += 1e-16
        self._total = total
        self._jacobian = model.jacobian(fit.values, every_servo, every_order).reshape(len(total), -1) * model.size
        #: Of each row, which of the angles; -1 for what was measured.
        self._frame = np.repeat(np.concatenate([np.full(n_old, -1), frame]), 2)
        self._n = np.size(angles)
        self._model = model

    def variance(self, taken: Sequence[int] | None = None) -> Array:
        """Variance of lambda/d after one more frame at each of the angles, shape (n,); NaN: nothing to see, or taken.

        taken : those of the angles whose frames there are already, in place of the frames of the fit.
        """
        from scipy.linalg import cho_factor, cho_solve

        total, jacobian, size = self._total, self._jacobian, self._model.size
        taken = [-1] if taken is None else taken
        old = np.flatnonzero(np.isin(self._frame, taken))
        factor = cho_factor(total[np.ix_(old, old)])
        known = np.diag((size / self._model.prior_stderr) ** 2) + jacobian[old].T @ cho_solve(factor, jacobian[old])
        g = self._model.index("lambda_over_d")
        variance = np.full(self._n, np.nan)
        for i in np.setdiff1d(self._frame, [-1, *taken]):
            new = np.flatnonzero(self._frame == i)
            shared = cho_solve(factor, total[np.ix_(old, new)])
            change = jacobian[new] - shared.T @ jacobian[old]
            own = total[np.ix_(new, new)] - total[np.ix_(old, new)].T @ shared
            own[np.diag_indices_from(own)] += 1e-14
            variance[i] = np.linalg.inv(known + change.T @ np.linalg.solve(own, change))[g, g] * size[g] ** 2
        return variance


def _visible(fit: GratingFit, servo: Array) -> tuple[NDArray[np.intp], Array, NDArray[np.intp]]:
    """Which candidate, servo angle (rad) and order of every position that the camera would see."""
    orders = np.unique(fit.assignment.order[fit.used])
    frame, order = np.repeat(np.arange(len(servo)), len(orders)), np.tile(orders, len(servo))
    place = fit.model.predict(fit.values, servo[frame], order)
    margin = 3 * float(np.median(fit.seen.width[fit.used]))
    inside = Field.of(fit.seen, fit.calibration).holds(place, margin=margin)
    return frame[inside], servo[frame[inside]], order[inside]


def _typical(fit: GratingFit, order: NDArray[np.intp]) -> tuple[Array, Array]:
    """White and speckle covariances, m^2, shape (n, 2, 2), of the used positions and of new ones of these orders.

    A new spot is taken to be as good as its order's others are, in the median.
    """
    seen, used = fit.seen, fit.used
    spots = [fit.spots[i][k] for i, k in zip(seen.frame[used], seen.index[used], strict=True)]
    whole = np.array([[[s.x_stderr**2, s.xy_covariance], [s.xy_covariance, s.y_stderr**2]] for s in spots])
    texture = np.array([[[s.texture[0], s.texture[1]], [s.texture[1], s.texture[2]]] for s in spots])
    jacobian = fit.calibration.pixel_jacobian(seen.pixel[used])
    parts = []
    for part in (whole - texture, texture):
        own = jacobian @ part @ jacobian.transpose(0, 2, 1)
        of_order = {m: np.median(own[fit.assignment.order[used] == m], axis=0) for m in np.unique(order)}
        parts.append(np.concatenate([own, [of_order[m] for m in order]]) if len(order) else own)
    return parts[0], parts[1]


def pixels_of(calibration: Calibration, screen: Array) -> Array:
    """Pixels, shape (n, 2), of places on the screen (m), by Newton's method."""
    pixel = np.full((len(screen), 2), np.array(calibration.shape[::-1]) / 2)
    for _ in range(12):
        miss = screen - calibration.to_screen(pixel)
        pixel = pixel + np.linalg.solve(calibration.pixel_jacobian(pixel), miss[..., None])[..., 0]
    return pixel
