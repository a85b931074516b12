"""Speckle, and a beam that is no Gaussian, as the residuals of the fitted spots show them."""

from __future__ import annotations

import numpy as np

from analysis.frames import Light
from analysis.gaussian import N_SHAPE, Array, Pixels, Scatter, Windows, model, scatter_of
from analysis.noise import SPECKLE_GUESS

#: Pixel pairs (dy, dx) whose correlation tells the size of a speckle, each for itself and its mirror; and pairs that
#: are further apart than a speckle reaches.
NEAR = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
FAR = ((0, 4), (4, 0), (3, 3), (3, -3))
DEGREES = 4


def speckle_contrast(w: Windows, theta: Array, light: Light) -> Array:
    """C of each spot, shape (n,): its own residuals, and those of the frame's other spots where it is faint."""
    f, scatter = scatter_of(w, theta, light, np.full(len(theta), SPECKLE_GUESS))
    residual = w.data - f - theta[:, 6:7].astype(np.float32)
    lit = np.maximum(f, 1e-6)
    excess = (residual**2 - scatter.white) / lit**2
    square = np.full(len(theta), SPECKLE_GUESS**2)
    for _ in range(3):
        weight = (lit**2 / (scatter.white + lit**2 * square.astype(np.float32)[:, None])) ** 2 * w.good
        count = weight.sum(1) ** 2 / np.maximum((weight**2).sum(1), 1e-12)
        own = (weight * excess).sum(1) / np.maximum(weight.sum(1), 1e-12) * count / np.maximum(count - N_SHAPE, 1)
        # Information about C^2 falls with the light squared twice: a faint spot borrows from the bright ones.
        info = weight.sum(1)
        info = np.where(count > 2 * N_SHAPE, info, 0)
        pooled = (info @ np.maximum(own, 0) + 4 * SPECKLE_GUESS**2) / (info.sum() + 4)
        square = (info * np.maximum(own, 0) + 30 * pooled) / (info + 30)
        square = np.clip(square, 1e-6, 4)
    return np.sqrt(square)


def speckle_area(w: Windows, theta: Array, scatter: Scatter, light_of_spot: Pixels) -> float:
    """Pixels that one speckle covers, 1 to 8: by so much it adds more to a position's variance than its contrast says.

    The sum of the correlations of neighbouring residuals, relative to the light, over those of pixels four apart
    (which a wrong shape of the beam makes); pooled over the frame's spots, and believed as far as it is significant.
    """
    f = np.maximum(light_of_spot, np.float32(1e-6))
    share = np.where(scatter.texture > scatter.white, f**2 / (scatter.white + scatter.texture), 0) * w.good
    count = float(share.sum()) ** 2 / max(float((share**2).sum()), 1e-12)
    if count < 150:
        return 1.0
    relative = np.where(share > 0, (w.data - light_of_spot - theta[:, 6:7].astype(np.float32)) / f, 0)
    square = float((share * (relative**2 - scatter.white / f**2)).sum() / share.sum())
    if square <= 0.1 * float((share * relative**2).sum() / share.sum()):
        return 1.0
    shape = (len(theta), w.side, w.side)
    share, relative = share.reshape(shape), relative.reshape(shape)
    near = [_correlation(share, relative, lag, square) for lag in NEAR]
    far = [_correlation(share, relative, lag, square) for lag in FAR]
    base = float(np.mean([c for c, _ in far]))
    excess = 2 * sum(c - base for c, _ in near)
    noise = 4 * sum(v for _, v in near) + (2 * len(near)) ** 2 * float(np.mean([v for _, v in far])) / len(far)
    if excess <= 0:
        return 1.0
    return float(min(1 + excess * excess**2 / (excess**2 + noise), 8.0))


def _correlation(share: Pixels, relative: Pixels, lag: tuple[int, int], square: float) -> tuple[float, float]:
    """Correlation of residuals one lag (dy, dx) apart, and its variance."""
    dy, dx = lag
    side = share.shape[1]
    a = (slice(None), slice(0, side - dy), slice(max(0, -dx), side - max(0, dx)))
    b = (slice(None), slice(dy, side), slice(max(0, dx), side - max(0, -dx)))
    pair = np.sqrt(share[a] * share[b])
    total = max(float(pair.sum()), 1e-12)
    value = float((pair * relative[a] * relative[b]).sum()) / total / square
    return value, float((pair**2).sum()) / total**2


def skewness(w: Windows, theta: Array, scatter: Scatter) -> tuple[Array, float]:
    """How much chi^2 would fall if the Gaussians could lean: of each spot alone, shape (n,), and of all alike.

    Score tests, of 4 degrees of freedom each, of the third-order Gauss-Hermite terms
    u^3 - 3 u, (u^2 - 1) v, u (v^2 - 1), v^3 - 3 v. The orders of one beam lean alike.
    """
    f, jacobian = model(w, theta)
    root = np.sqrt(w.good / (scatter.white + scatter.texture))
    u = (w.dx - theta[:, 0:1].astype(np.float32)) * np.sqrt(theta[:, 2:3]).astype(np.float32)
    v = (w.dy - theta[:, 1:2].astype(np.float32)) * np.sqrt(theta[:, 4:5]).astype(np.float32)
    g = f * root
    lean = np.stack([g * (u**3 - 3 * u), g * (u**2 - 1) * v, g * u * (v**2 - 1), g * (v**3 - 3 * v)], 1)
    residual = (w.data - f - theta[:, 6:7].astype(np.float32)) * root
    columns = np.concatenate([jacobian * root[:, None, :], lean], 1)
    normal = np.matmul(columns, columns.transpose(0, 2, 1)).astype(np.float64)
    score = np.matmul(columns, residual[:, :, None]).astype(np.float64)
    n = N_SHAPE
    shape = normal[:, :n, :n]
    scale = np.sqrt(np.maximum(shape[:, range(n), range(n)], 1e-20))
    shape = shape / (scale[:, :, None] * scale[:, None, :]) + 1e-9 * np.eye(n)
    cross = normal[:, :n, n:] / scale[:, :, None]
    solved = np.linalg.solve(shape, np.concatenate([cross, score[:, :n] / scale[:, :, None]], 2))
    own_normal = normal[:, n:, n:] - np.matmul(cross.transpose(0, 2, 1), solved[:, :, :-1])
    own_score = score[:, n:] - np.matmul(cross.transpose(0, 2, 1), solved[:, :, -1:])
    ridge = 1e-6 * np.trace(own_normal, axis1=1, axis2=2)[:, None, None] * np.eye(DEGREES)
    own_normal = own_normal + ridge + 1e-12 * np.eye(DEGREES)
    alone = (own_score * np.linalg.solve(own_normal, own_score)).sum((1, 2))
    score_of_all, normal_of_all = own_score.sum(0), own_normal.sum(0)
    together = float((score_of_all * np.linalg.solve(normal_of_all, score_of_all)).sum())
    return np.asarray(alone), together
