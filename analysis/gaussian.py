"""Elliptical Gaussians fitted to many windows at once: arrays of shape (n_spot, n_pixel), plain numpy.

    f(x, y) = A exp(-(p dx^2 + 2 q dx dy + r dy^2) / 2),    data = f + c

A vector theta holds x, y (px from the window's centre), p, q, r (1/px^2), A, c (counts).

With five spots an iteration costs about 0.3 ms, of which the exponential is a fifth; numba would save half of that,
and cost more to compile or to import than the analysis of a scan takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.detection import Seeds
from analysis.frames import Light

Array = NDArray[np.float64]
Pixels = NDArray[np.float32]

N_SHAPE = 7


@dataclass(frozen=True, slots=True)
class Windows:
    """Pixels around each seed, flattened: arrays of shape (n_spot, n_pixel)."""

    data: Pixels
    good: Pixels
    saturated: NDArray[np.bool_]
    dark: Array  # shape (n_spot, 1): v0
    dx: Pixels  # pixel - centre of the window
    dy: Pixels
    x0: Array  # shape (n_spot,): centre of the window
    y0: Array
    side: int


def cut_windows(light: Light, x: Array, y: Array, *, half: int) -> Windows:
    ny, nx = light.difference.shape
    x0, y0 = np.rint(x).astype(np.intp), np.rint(y).astype(np.intp)
    offset = np.arange(-half, half + 1)
    columns, rows = x0[:, None] + offset, y0[:, None] + offset
    inside = ((rows >= 0) & (rows < ny))[:, :, None] & ((columns >= 0) & (columns < nx))[:, None, :]
    rows, columns = np.clip(rows, 0, ny - 1), np.clip(columns, 0, nx - 1)
    index = (rows[:, :, None], columns[:, None, :])
    n = len(x0)
    data = (light.difference[index] - light.rows[rows][:, :, None]).reshape(n, -1)
    raw, dark = light.image[index].reshape(n, -1), light.background[index].reshape(n, -1)
    saturated = (raw >= light.saturation) & inside.reshape(n, -1)
    good = inside.reshape(n, -1) & ~saturated & (dark < light.saturation)
    ambient = np.median(dark[:, ::7], axis=1, keepdims=True).astype(np.float64)
    shape = (n, offset.size, offset.size)
    return Windows(
        data=data.astype(np.float32),
        good=good.astype(np.float32),
        saturated=saturated,
        dark=light.noise.dark(ambient),
        dx=np.broadcast_to(offset.astype(np.float32)[None, None, :], shape).reshape(n, -1),
        dy=np.broadcast_to(offset.astype(np.float32)[None, :, None], shape).reshape(n, -1),
        x0=x0.astype(np.float64),
        y0=y0.astype(np.float64),
        side=offset.size,
    )


def _beam(w: Windows, theta: Array) -> tuple[Pixels, Pixels, Pixels, Pixels, Pixels, Pixels]:
    """x and y from the centre, both times the shape's matrix, the profile and the light, shape (n, pixel) each."""
    t = theta.astype(np.float32)[:, :, None]
    dx, dy = w.dx - t[:, 0], w.dy - t[:, 1]
    p, q, r, amplitude = t[:, 2], t[:, 3], t[:, 4], t[:, 5]
    ax, ay = p * dx + q * dy, q * dx + r * dy
    e = np.exp(-0.5 * (ax * dx + ay * dy))
    return dx, dy, ax, ay, e, amplitude * e


def model(w: Windows, theta: Array) -> tuple[Pixels, Pixels]:
    """The light f (without c), shape (n, pixel), and d(f + c)/d(x, y, p, q, r, A, c), shape (n, 7, pixel)."""
    dx, dy, ax, ay, e, f = _beam(w, theta)
    jacobian = np.empty((len(theta), N_SHAPE, dx.shape[1]), np.float32)
    np.multiply(f, ax, out=jacobian[:, 0])
    np.multiply(f, ay, out=jacobian[:, 1])
    fx = f * dx
    np.multiply(fx, dx * np.float32(-0.5), out=jacobian[:, 2])
    np.multiply(fx, -dy, out=jacobian[:, 3])
    np.multiply(f * dy, dy * np.float32(-0.5), out=jacobian[:, 4])
    jacobian[:, 5] = e
    jacobian[:, 6] = 1
    return f, jacobian


def start(w: Windows, seeds: Seeds) -> Array:
    """Start values, shape (n, 7), from the area above half of the peak."""
    n = len(w.x0)
    edge = np.abs(w.dx) >= w.side // 2 - 1
    edge |= np.abs(w.dy) >= w.side // 2 - 1
    ring = np.where(edge & (w.good > 0), w.data, np.nan)
    with np.errstate(all="ignore"):
        base = np.array([np.nanmedian(row) if np.isfinite(row).any() else 0.0 for row in ring])
    peak = np.maximum(seeds.height - base, 1e-3)
    lit = ((w.data - base[:, None] > 0.5 * peak[:, None]) & (w.good > 0)) | w.saturated
    lit &= w.dx**2 + w.dy**2 < (0.4 * w.side) ** 2
    area = np.maximum(lit.sum(1), 1)
    variance = np.clip(area / (2 * np.pi * np.log(2)), 1.0, (w.side / 5) ** 2)
    count = np.maximum(lit.sum(1), 1)
    x = np.where(lit, w.dx, 0).sum(1) / count
    y = np.where(lit, w.dy, 0).sum(1) / count
    zero = np.zeros(n)
    return np.stack([x, y, 1 / variance, zero, 1 / variance, 1.3 * peak, base], 1)


def iterate(w: Windows, theta: Array, weight: Pixels, steps: int) -> Array:
    """Levenberg-Marquardt with fixed weights for all spots at once; shape (n, 7)."""
    n = len(theta)
    damping = np.full(n, 1e-3)
    f, jacobian = model(w, theta)
    residual = w.data - f - theta[:, 6:7].astype(np.float32)
    cost = np.einsum("ij,ij,ij->i", weight, residual, residual).astype(np.float64)
    diagonal = np.arange(N_SHAPE)
    for _ in range(steps):
        weighted = jacobian * weight[:, None, :]
        normal = np.matmul(weighted, jacobian.transpose(0, 2, 1)).astype(np.float64)
        gradient = np.matmul(weighted, residual[:, :, None])[..., 0].astype(np.float64)
        scale = np.sqrt(np.maximum(normal[:, diagonal, diagonal], 1e-20))
        normal /= scale[:, :, None] * scale[:, None, :]
        normal[:, diagonal, diagonal] = 1 + damping[:, None]
        step = np.linalg.solve(normal, (gradient / scale)[..., None])[..., 0] / scale
        trial = theta + step
        variance_min, variance_max = 0.25, (w.side / 2.0) ** 2
        trial[:, [2, 4]] = np.clip(trial[:, [2, 4]], 1 / variance_max, 1 / variance_min)
        limit = 0.9 * np.sqrt(trial[:, 2] * trial[:, 4])
        trial[:, 3] = np.clip(trial[:, 3], -limit, limit)
        trial[:, :2] = np.clip(trial[:, :2], -w.side / 2, w.side / 2)
        f_new, j_new = model(w, trial)
        r_new = w.data - f_new - trial[:, 6:7].astype(np.float32)
        cost_new = np.einsum("ij,ij,ij->i", weight, r_new, r_new).astype(np.float64)
        better = cost_new <= cost * (1 + 1e-6)
        damping = np.where(better, damping * 0.1, np.minimum(damping * 20, 1e3))
        moved = np.abs(trial[:, :2] - theta[:, :2]).max(1)
        theta = np.where(better[:, None], trial, theta)
        if better.all():
            jacobian, residual, cost = j_new, r_new, cost_new
        elif better.any():
            jacobian[better], residual[better], cost[better] = j_new[better], r_new[better], cost_new[better]
        if (better & (moved < 2e-3)).all():
            break
    return theta


@dataclass(frozen=True, slots=True)
class Scatter:
    """Variances of the pixels around one model: white (read + shot) and texture (speckle), shape (n, pixel)."""

    white: Pixels
    texture: Pixels


def scatter_of(w: Windows, theta: Array, light: Light, contrast: Array) -> tuple[Pixels, Scatter]:
    """The light f of the models, shape (n, pixel), and its variances for a speckle contrast per spot, shape (n,)."""
    *_, f = _beam(w, theta)
    lit = np.maximum(f, np.float32(0))
    white: Pixels = (w.dark + lit * light.noise.per_count).astype(np.float32)
    texture: Pixels = (lit**2 * contrast[:, None] ** 2).astype(np.float32)
    return f, Scatter(white, texture)


def sandwich(w: Windows, theta: Array, weight: Pixels, scatter: Scatter) -> tuple[Array, Array]:
    """Covariances of the 7 parameters, shape (n, 7, 7), from white noise and from texture, for these weights."""
    _, jacobian = model(w, theta)
    weighted = jacobian * weight[:, None, :]
    normal = np.matmul(weighted, jacobian.transpose(0, 2, 1)).astype(np.float64)
    index = np.arange(N_SHAPE)
    scale = np.sqrt(np.maximum(normal[:, index, index], 1e-20))
    normal = normal / (scale[:, :, None] * scale[:, None, :])
    normal[:, index, index] += 1e-9
    inverse = np.linalg.inv(normal) / (scale[:, :, None] * scale[:, None, :])
    parts = []
    for variance in (scatter.white, scatter.texture):
        middle = np.matmul(weighted * variance[:, None, :], weighted.transpose(0, 2, 1)).astype(np.float64)
        parts.append(inverse @ middle @ inverse)
    return parts[0], parts[1]
