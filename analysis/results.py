"""A fit as a run of its own, in the catalogue under `/processed`: what it was made of, and what came out.

start         raw_run_uid, calibration_uid, lens_uid, setup, software version
"positions"   one event per spot that was given an order
"parameters"  one event per parameter of the fit, with its row of the covariance matrix
"results"     one event: the period, lambda/d, their errors, flags

A lens calibration likewise: "views", one event per view of the chessboard (rms in px, -1 where it was left out), and
"results".

Every value is a number or a text: a table that any engine under the catalogue can hold.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import event_model
import numpy as np

from analysis import spacing
from analysis.calibration import Lens
from analysis.chessboard import LensCalibration
from analysis.fitted import GratingFit
from analysis.model import UNITS
from catalog.layout import RAW_RUN_UID


def store(
    fit: GratingFit,
    scan: Any,
    journal: Callable[[str, dict[str, Any]], Any],
    *,
    md: Mapping[str, Any] | None = None,
) -> str:
    """Write the fit as an analysis run, and return its uid.

    Parameters
    ----------
    fit : GratingFit
    scan : Scan that was fitted: its `uid` is the raw run's
    journal : catalog.journal.Journal, or anything that takes (name, document)
    md : further metadata for the start document
    """
    start = {
        "plan_name": "fit_grating",
        RAW_RUN_UID: scan.uid,
        "calibration": fit.calibration.source,
        "calibration_uid": scan.calibration_uid,
        "lens_uid": scan.lens_uid,
        "setup": scan.setup.model_dump(),
        "versions": {"lunchbox": _version()},
        **dict(md or {}),
    }
    run = event_model.compose_run(metadata=start)
    journal("start", run.start_doc)

    now = time.time()
    for name, columns, units in (
        ("positions", fit.positions.to_dict("list"), spacing.UNITS),
        ("parameters", parameters(fit), {}),
    ):
        keys = {key: _key(values[0], unit=units.get(key, "")) for key, values in columns.items()}
        stream = run.compose_descriptor(name=name, data_keys=keys)
        journal("descriptor", stream.descriptor_doc)
        n = len(next(iter(columns.values())))
        page = stream.compose_event_page(
            data=columns,
            timestamps={key: [now] * n for key in columns},
            seq_num=list(range(1, n + 1)),
            time=[now] * n,
        )
        journal("event_page", page)

    data = results(fit)
    keys = {name: _key(value, unit=_unit(name)) for name, value in data.items()}
    outcome = run.compose_descriptor(name="results", data_keys=keys)
    journal("descriptor", outcome.descriptor_doc)
    journal("event", outcome.compose_event(data=data, timestamps=dict.fromkeys(data, now)))
    journal("stop", run.compose_stop())
    return str(run.start_doc["uid"])


def store_lens(
    calibration: LensCalibration,
    journal: Callable[[str, dict[str, Any]], Any],
    *,
    md: Mapping[str, Any] | None = None,
) -> str:
    """Write a lens calibration as an analysis run (streams "views" and "results"), and return its uid."""
    lens = calibration.lens
    start = {
        "plan_name": "calibrate_lens",
        RAW_RUN_UID: "",
        "lens": lens_document(lens),
        "versions": {"lunchbox": _version()},
        **dict(md or {}),
    }
    run = event_model.compose_run(metadata=start)
    journal("start", run.start_doc)
    views = [{"view": i, "rms": rms, "used": int(np.isfinite(rms))} for i, rms in enumerate(calibration.view_rms)]
    (k1, k2, p1, p2), matrix = lens.distortion[:4].tolist(), lens.camera_matrix
    results = {
        "focal_length_x": float(matrix[0, 0]),
        "focal_length_y": float(matrix[1, 1]),
        "centre_x": float(matrix[0, 2]),
        "centre_y": float(matrix[1, 2]),
        **{"k1": k1, "k2": k2, "p1": p1, "p2": p2},
        "residual": float(lens.residual or 0.0),
        "rms": calibration.rms,
        "coverage": calibration.coverage,
        "flags": ", ".join(calibration.flags),
    }
    pixels = {"rms", "focal_length_x", "focal_length_y", "centre_x", "centre_y"}
    now = time.time()
    for name, rows in (("views", views), ("results", [results])):
        keys = {key: _key(value, unit="px" if key in pixels else "") for key, value in rows[0].items()}
        stream = run.compose_descriptor(name=name, data_keys=keys)
        journal("descriptor", stream.descriptor_doc)
        for row in rows:
            # A view that was left out has no residual.
            data = {key: -1.0 if value != value else value for key, value in row.items()}
            journal("event", stream.compose_event(data=data, timestamps=dict.fromkeys(data, now)))
    journal("stop", run.compose_stop())
    return str(run.start_doc["uid"])


def lens_document(lens: Lens) -> dict[str, Any]:
    """A lens as start documents have it."""
    return {
        "camera_matrix": lens.camera_matrix.tolist(),
        "distortion": lens.distortion.tolist(),
        "residual": lens.residual,
    }


def parameters(fit: GratingFit) -> dict[str, list[Any]]:
    """{column: one value per parameter}: name, value, stderr, unit, data_share, and cov_<other parameter>."""
    return {
        "name": list(fit.parameter_names),
        "value": fit.values.tolist(),
        "stderr": np.sqrt(np.diag(fit.covariance)).tolist(),
        "unit": [UNITS[name] for name in fit.parameter_names],
        "data_share": fit.data_share.tolist(),
        **{f"cov_{name}": column.tolist() for name, column in zip(fit.parameter_names, fit.covariance.T, strict=True)},
    }


def results(fit: GratingFit) -> dict[str, Any]:
    """The numbers of a fit, in SI units, under the names that `GratingFit` has for them."""
    numbers: dict[str, Any] = {
        name: float(getattr(fit, name))
        for name in (
            "lambda_over_d",
            "lambda_over_d_stderr",
            "grating_period",
            "grating_period_stderr",
            "grating_period_stderr_fit",
            "grating_period_stderr_wavelength",
            "groove_density",
            "groove_density_stderr",
            "chi_squared",
            "reduced_chi_squared",
        )
    }
    return numbers | {
        "degrees_of_freedom": int(fit.degrees_of_freedom),
        "flags": ", ".join(fit.flags),
    }


def _key(value: Any, *, unit: str) -> dict[str, Any]:
    key: dict[str, Any] = {"source": "analysis", "shape": []}
    if isinstance(value, str):
        key |= {"dtype": "string"}
    elif isinstance(value, int):
        key |= {"dtype": "integer", "dtype_numpy": "<i8"}
    else:
        key |= {"dtype": "number", "dtype_numpy": "<f8"}
    return key | ({"units": unit} if unit else {})


def _unit(name: str) -> str:
    if name.startswith("grating_period"):
        return "m"
    return "1/m" if name.startswith("groove_density") else ""


def _version() -> str:
    try:
        return version("lunchbox")
    except PackageNotFoundError:
        return "unknown"
