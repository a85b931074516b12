"""Peak spacing against angle: how far each spot that was given an order is from order 0, and whether it was used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.matching import NONE

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from analysis.fitted import GratingFit

Array = NDArray[np.float64]

#: Columns of `positions`, and their units.
UNITS = {
    "frame": "",
    "spot": "",
    "angle": "deg",
    "order": "",
    "x": "m",
    "y": "m",
    "x_stderr": "m",
    "y_stderr": "m",
    "x_px": "px",
    "y_px": "px",
    "spacing": "m",
    "spacing_stderr": "m",
    "spacing_px": "px",
    "spacing_px_stderr": "px",
    "model": "m",
    "residual": "",
    "deviation": "",
    "status": "",
    "reason": "",
}
#: Columns of `peak_spacing`, and their units.
SPACING_UNITS = {
    "frame": "",
    "angle": "deg",
    "angle_stderr": "deg",
    "order": "",
    "spacing_mm": "mm",
    "spacing_mm_stderr": "mm",
    "spacing_px": "px",
    "spacing_px_stderr": "px",
    "model_mm": "mm",
    "residual": "",
    "status": "",
    "reason": "",
}


def positions(fit: GratingFit) -> pd.DataFrame:
    """`GratingFit.positions`."""
    import pandas as pd

    has = np.flatnonzero(fit.assignment.order != NONE)
    seen, order, used = fit.seen, fit.assignment.order[has], fit.used[has]
    scale = fit.value("scale") if "scale" in fit.parameter_names else 1.0
    centre = np.array([fit.value("x0"), fit.value("y0")])
    place = fit.model.predict(fit.values, seen.servo[has], order)
    towards = outwards(fit, place, order)

    spots = [fit.spots[i][k] for i, k in zip(seen.frame[has], seen.index[has], strict=True)]
    stderr_px = np.array([[s.x_stderr, s.y_stderr] for s in spots])
    zero = used & (order == 0)
    from_zero = seen.pixel[has] - np.median(seen.pixel[has][zero], axis=0)
    away_px = np.where(order == 0, (from_zero * towards).sum(1), np.sign(order) * np.hypot(*from_zero.T))
    zero_px = np.where(order == 0, 0.0, float(np.median(stderr_px[zero])))

    away, deviation = _against_the_fit(fit, has, place, towards)
    residual = np.where(used, (fit.residuals[has] * towards).sum(1), away)
    deviation = np.where(used, np.sqrt(fit.deletion[has]), deviation)
    errors = scale * np.sqrt(np.maximum(np.diag(fit.errors.fixed), 0)).reshape(-1, 2)[has]
    status = np.where(used, "used", np.where(fit.assignment.ambiguous[has], "ambiguous", "rejected"))
    return pd.DataFrame(
        {
            "frame": seen.frame[has],
            "spot": seen.index[has],
            "angle": fit.scan.angles[seen.frame[has]],
            "order": order,
            "x": seen.screen[has, 0] * scale,
            "y": seen.screen[has, 1] * scale,
            "x_stderr": errors[:, 0],
            "y_stderr": errors[:, 1],
            "x_px": seen.pixel[has, 0],
            "y_px": seen.pixel[has, 1],
            "spacing": ((seen.screen[has] - centre) * towards).sum(1) * scale,
            "spacing_stderr": _spacing_stderr(fit, has, towards, zero) * scale,
            "spacing_px": away_px,
            "spacing_px_stderr": np.hypot(np.hypot(*(stderr_px * towards).T), zero_px),
            "model": ((place - centre) * towards).sum(1) * scale,
            "residual": residual,
            "deviation": deviation,
            "status": status,
            "reason": [_reason(s, bool(b), d) for s, b, d in zip(status, seen.blended[has], deviation, strict=True)],
        }
    ).sort_values(["frame", "order"], ignore_index=True)


def peak_spacing(fit: GratingFit) -> pd.DataFrame:
    """`GratingFit.peak_spacing`."""
    table = fit.positions[fit.positions["order"] != 0]
    millimetres = {"spacing": "spacing_mm", "spacing_stderr": "spacing_mm_stderr", "model": "model_mm"}
    table = table.rename(columns=millimetres)
    table[list(millimetres.values())] *= 1e3
    table["angle_stderr"] = np.rad2deg(fit.jitter)
    return table[list(SPACING_UNITS)].reset_index(drop=True)


def peak_spacing_dataset(fit: GratingFit) -> xr.Dataset:
    """`GratingFit.peak_spacing_dataset`."""
    table = fit.peak_spacing.set_index(["frame", "order"]).drop(columns=["angle", "angle_stderr"])
    dataset = table.to_xarray()
    for name in dataset:
        dataset[name].attrs = {"units": SPACING_UNITS[str(name)]}
    for name in ("status", "reason"):
        dataset[name] = dataset[name].fillna("").astype(str)
    angle = ("frame", fit.scan.angles[dataset["frame"].values], {"units": "deg"})
    dataset = dataset.assign_coords(angle=angle)
    dataset.attrs = {"angle_stderr_deg": float(np.rad2deg(fit.jitter)), "uid": fit.scan.uid}
    return dataset


def outwards(fit: GratingFit, place: Array, order: NDArray[np.intp]) -> Array:
    """Unit vectors from order 0 towards the places of positive orders, away from those of negative ones, shape (n, 2).

    Along the roll for order 0, and where the model has no place.
    """
    roll = fit.value("roll")
    offset = (place - [fit.value("x0"), fit.value("y0")]) * np.sign(order)[:, None]
    length = np.hypot(*offset.T)
    plain = ~(length > 0)
    unit = offset / np.where(plain, 1.0, length)[:, None]
    unit[plain] = np.cos(roll), np.sin(roll)
    return np.asarray(unit)


def _spacing_stderr(fit: GratingFit, has: NDArray[np.intp], towards: Array, zero: NDArray[np.bool_]) -> Array:
    """Standard deviation of the distance from the mean of the used orders 0, shape (n,).

    What both ends have in common (calibration, speckle where they meet) does not count twice. Order 0 is given its own.
    """
    both = np.stack([2 * has, 2 * has + 1], -1)
    order_zero = both[zero]
    block = fit.errors.fixed[both[:, :, None], both[:, None, :]]
    cross = fit.errors.fixed[both[:, :, None, None], order_zero.T[None, None]].mean(-1)
    mean = fit.errors.fixed[order_zero.T[:, None, :, None], order_zero.T[None, :, None, :]].mean((-1, -2))
    of_pair = block - cross - cross.transpose(0, 2, 1) + mean
    covariance = np.where((fit.assignment.order[has] == 0)[:, None, None], block, of_pair)
    return np.sqrt(np.maximum(np.einsum("na,nab,nb->n", towards, covariance, towards), 0))


def _against_the_fit(fit: GratingFit, has: NDArray[np.intp], place: Array, towards: Array) -> tuple[Array, Array]:
    """Distance from the model in standard deviations: along `towards` with sign, and of both directions together."""
    both = np.stack([2 * has, 2 * has + 1], -1)
    slope = fit.jitter * fit.model.slope(fit.values, fit.seen.servo[has], fit.assignment.order[has])
    own = fit.errors.fixed[both[:, :, None], both[:, None, :]] + slope[:, :, None] * slope[:, None, :]
    away = fit.seen.screen[has] - place
    along = (away * towards).sum(1) / np.sqrt(np.einsum("na,nab,nb->n", towards, own, towards))
    return along, np.sqrt(np.einsum("na,na->n", away, np.linalg.solve(own, away[..., None])[..., 0]))


def _reason(status: str, blended: bool, deviation: float) -> str:
    if status == "rejected":
        return f"{deviation:.1f} standard deviations from where the others put it"
    if status == "ambiguous":
        return "another spot lies beneath it" if blended else "another spot may be this order, or lies beneath it"
    return ""
