"""Where the error of lambda/d comes from, source by source.

The estimate is linear in what it is made of: with A the covariance of the parameters, J the Jacobian and C the
covariance of the positions, a change dx of the positions moves the parameters by A J^T C^-1 dx, and a change dp of the
priors' centres by A P dp (P = diag(prior_stderr^-2)). So each part C_s of C = sum C_s adds w C_s w^T to the variance of
g, with w its row of A J^T C^-1, each prior adds (A_gp / prior_stderr_p)^2, and the parts sum to A_gg exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.observations import error_sources

if TYPE_CHECKING:
    from analysis.fitted import GratingFit


def error_budget(fit: GratingFit) -> dict[str, float]:
    """{source: its standard error of lambda/d}, adding in quadrature to `lambda_over_d_stderr`.

    noise (of the camera, in the centroids), speckle, calibration (of pixels to metres), jitter (of the servo), one per
    parameter that has a prior, and excess: what a high chi-squared or a lopsided chi-squared adds.
    """
    from scipy.linalg import cho_solve

    model, solution = fit.model, fit.solution
    data = solution.data
    jacobian = model.jacobian(fit.values, data.servo, data.order, turned=data.turned).reshape(2 * len(data.order), -1)
    g = model.index("lambda_over_d")
    row = cho_solve((solution.factor, True), jacobian @ solution.covariance[:, g])
    both = np.repeat(fit.used, 2)
    sources = error_sources(fit.seen, fit.spots, fit.calibration)
    turns = fit.jitter * data.errors.turns(data.slope(model, fit.values))
    variance = {name: float(row @ part[np.ix_(both, both)] @ row) for name, part in sources.items()}
    variance["jitter"] = float(((row @ turns) ** 2).sum())
    for i, name in enumerate(model.names):
        if np.isfinite(model.prior_stderr[i]):
            variance[name] = float((solution.covariance[g, i] / model.prior_stderr[i]) ** 2)
    variance["excess"] = max(fit.lambda_over_d_stderr**2 - float(solution.covariance[g, g]), 0.0)
    return {name: float(np.sqrt(max(value, 0.0))) for name, value in variance.items()}
