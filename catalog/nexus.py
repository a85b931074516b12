"""A run as NeXus: what h5web, silx and any other viewer of NeXus open, frames first and the fit beside.

::

    /entry                      NXentry      @default = "data"
        data                    NXdata       image against the servo's angle
        instrument              NXinstrument detector (image, background), servo, source, grating
        primary, baseline       NXcollection all values of the streams
        fit_1 ...               NXprocess    one per fit, oldest first; its values, and
            positions           NXdata       position of each order on the screen against the angle
    /entry/@uid, documents: start and stop as JSON
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from catalog.export import iso, write_columns, write_frames
from catalog.layout import FIELDS
from catalog.recorded import RecordedRun, Stream
from catalog.setup import Setup

_SERVO = "lunchbox_servo"


def to_nexus(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """One NeXus file of the run and the fits about it."""
    path = folder / f"{run.uid}.nxs"
    with h5py.File(path, "x") as file:
        file.attrs.update(
            {"NX_class": "NXroot", "default": "entry", "creator": "LunchBox", "file_time": iso(_end(run))}
        )
        entry = _group(file, "entry", "NXentry")
        entry["entry_identifier"] = run.uid
        entry["title"] = str(run.start.get("purpose") or run.start.get("plan_name") or run.uid)
        entry["start_time"] = iso(run.start["time"])
        entry["end_time"] = iso(_end(run))
        entry["program_name"] = "LunchBox"
        if operator := run.start.get("operator"):
            _group(entry, "user", "NXuser")["name"] = str(operator)
        documents = _group(entry, "documents", "NXcollection")
        documents["start"], documents["stop"] = json.dumps(run.start), json.dumps(run.stop)
        for stream in run.streams.values():
            write_columns(_group(entry, stream.name, "NXcollection"), stream)
        _instrument(entry, run)
        for number, fit in enumerate(fits, start=1):
            _fit(entry, f"fit_{number}", fit)
    return [path]


def _end(run: RecordedRun) -> float:
    return float((run.stop or run.start)["time"])


def _instrument(entry: h5py.Group, run: RecordedRun) -> None:
    setup = Setup(**run.start.get("setup", {}))
    instrument = _group(entry, "instrument", "NXinstrument")
    instrument["name"] = str(run.start.get("instrument", "LunchBox"))
    source = _group(instrument, "source", "NXsource")
    source["type"] = "Optical Laser"
    _number(source, "wavelength", setup.wavelength, "m")
    _number(_group(instrument, "grating", "NXgrating"), "period", setup.grating_period, "m")
    primary = run.streams.get("primary")
    if primary is None or not primary.events:
        return
    detector = _group(instrument, "detector", "NXdetector")
    _number(detector, "distance", setup.screen_distance, "m")
    for key in primary.external:
        name = {"lunchbox_image": "data", "lunchbox_background": "background"}[key] if key in FIELDS else key
        write_frames(detector, name, run, primary, key)
        detector[name].attrs["interpretation"] = "rgb-image" if detector[name].ndim == 4 else "image"
    first = "data" if "data" in detector else next(iter(detector[key].name for key in primary.external), None)
    if first is None:
        return
    data = _group(entry, "data", "NXdata", signal="image")
    data["image"] = h5py.SoftLink(detector[first].name)
    if "background" in detector:
        data["background"] = h5py.SoftLink(detector["background"].name)
    axes = ["."] * detector[first].ndim
    if _SERVO in primary.internal:
        servo = _group(instrument, "servo", "NXpositioner")
        _number(servo, "value", [event["data"][_SERVO] for event in primary.events], "degree")
        data["servo"] = h5py.SoftLink(servo["value"].name)
        axes[0] = "servo"
    data.attrs["axes"] = axes
    entry.attrs["default"] = "data"


def _fit(entry: h5py.Group, name: str, fit: RecordedRun) -> None:
    process = _group(entry, name, "NXprocess")
    process["program"] = str(fit.start.get("plan_name", "fit"))
    process["version"] = str(fit.start.get("versions", {}).get("lunchbox", "unknown"))
    process["date"] = iso(fit.start["time"])
    process["documents"] = json.dumps(fit.start)
    for stream in fit.streams.values():
        group = _group(process, stream.name, "NXcollection")
        write_columns(group, stream)
        for key in stream.internal:
            # NeXus looks for the error of `x` under this name.
            if key.endswith("_stderr") and key.removesuffix("_stderr") in group:
                group[f"{key.removesuffix('_stderr')}_errors"] = group[key]
        if {"angle", "x"} <= set(stream.internal) and stream.events:
            _as_scatter(group, stream)
            process.attrs["default"] = stream.name


def _as_scatter(group: h5py.Group, stream: Stream) -> None:
    """Positions against angle, for a viewer to draw."""
    group.attrs.update(
        {"NX_class": "NXdata", "signal": "x", "axes": ["angle"], "title": f"{stream.name} on the screen"}
    )
    if "spacing" in stream.internal:
        group.attrs["auxiliary_signals"] = ["spacing"]


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs.update({"NX_class": nx_class, **attributes})
    return group


def _number(group: h5py.Group, name: str, value: Any, units: str) -> None:
    group[name] = np.asarray(value, "f8")
    group[name].attrs["units"] = units
