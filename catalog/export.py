"""A run as files of other programs: JSON lines, CSV, TIFF, HDF5, NeXus.

Each writer takes the run, the fits about it, and the folder that its files go to, and gives back their paths.

suitcase-csv 0.3 and suitcase-tiff 0.4 exist and do not serve here: the first fails with event-model 1.24, the second
takes a colour frame for a stack of grey ones and makes it 16 bits wide. What suitcase-jsonl writes is the journal.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from catalog.disk import cannot_write
from catalog.errors import LunchBoxError
from catalog.journal_lines import encode
from catalog.recorded import RecordedRun, Stream


class ExportExists(LunchBoxError, FileExistsError):
    """A file would be overwritten."""


_TEXT = h5py.string_dtype()


def to_jsonl(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """Every document, as it was emitted, one a line."""
    path = folder / f"{run.uid}.jsonl"
    with path.open("xb") as file:
        file.writelines(encode(name, doc) for name, doc in run.documents())
    return [path]


def to_csv(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """A table per stream, of the run and of its fits: one row per event, one column per value, without frames."""
    paths = []
    for source, prefix in ((run, run.uid[:8]), *((fit, f"{run.uid[:8]}-fit-{fit.uid[:8]}") for fit in fits)):
        for stream in source.streams.values():
            path = folder / f"{prefix}-{stream.name}.csv"
            with path.open("x", newline="", encoding="utf-8") as file:
                table = csv.writer(file)
                units = [stream.data_keys[key].get("units") for key in stream.internal]
                named = [f"{key} ({unit})" if unit else key for key, unit in zip(stream.internal, units, strict=True)]
                table.writerow(["seq_num", "time (s)", *named])
                for event in stream.events:
                    values = [event["data"][key] for key in stream.internal]
                    table.writerow([event["seq_num"], repr(float(event["time"])), *map(_cell, values)])
            paths.append(path)
    return paths


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def to_tiff(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """A file per external key of each stream, with one page per event, as the frames are: colour, 8 bits."""
    import tifffile

    paths = []
    for stream in run.streams.values():
        for key in stream.external if stream.events else ():
            path = folder / f"{run.uid[:8]}-{stream.name}-{key}.tif"
            size = sum(frame.nbytes for frame in run.frames(stream, key))
            with tifffile.TiffWriter(path, bigtiff=size > 3_900_000_000) as file:
                for event, frame in zip(stream.events, run.frames(stream, key), strict=True):
                    is_colour = frame.ndim == 3 and frame.shape[-1] == 3
                    values = {name: event["data"][name] for name in stream.internal}
                    file.write(
                        frame,
                        photometric="rgb" if is_colour else "minisblack",
                        description=json.dumps({"uid": run.uid, "seq_num": event["seq_num"], **values}),
                        contiguous=False,
                        metadata=None,
                    )
            paths.append(path)
    return paths


def to_hdf5(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """One file: a group per stream with a dataset per key; fits below `fits`; documents as JSON in attributes."""
    path = folder / f"{run.uid}.h5"
    with h5py.File(path, "x") as file:
        _write_run(file, run)
        for fit in fits:
            _write_run(file.require_group("fits").create_group(fit.uid), fit)
    return [path]


def _write_run(group: h5py.Group, run: RecordedRun) -> None:
    group.attrs["start"] = json.dumps(run.start)
    group.attrs["stop"] = json.dumps(run.stop)
    for stream in run.streams.values():
        write_columns(group.create_group(stream.name), stream)
        for key in stream.external if stream.events else ():
            write_frames(group[stream.name], key, run, stream, key)


def write_columns(group: h5py.Group, stream: Stream) -> None:
    """Values of a stream: numbers as numbers, texts as texts, all else as JSON; units where they are known."""
    group["time"] = np.array([event["time"] for event in stream.events], "f8")
    group["time"].attrs["units"] = "s"
    group["seq_num"] = np.array([event["seq_num"] for event in stream.events], "i8")
    for key in stream.internal:
        values = [event["data"][key] for event in stream.events]
        array = np.asarray(values) if not any(isinstance(value, str | dict) for value in values) else np.empty(0, "O")
        if array.dtype.kind in "biuf" and len(array) == len(values):
            group[key] = array
        else:
            texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
            group.create_dataset(key, data=texts, dtype=_TEXT)
        if unit := stream.data_keys[key].get("units"):
            group[key].attrs["units"] = unit


def write_frames(group: h5py.Group, name: str, run: RecordedRun, stream: Stream, key: str) -> None:
    """An external key as one dataset, a chunk and a checksum per frame."""
    dataset: Any = None
    for index, frame in enumerate(run.frames(stream, key)):
        if dataset is None:
            shape = (len(stream.events), *frame.shape)
            dataset = group.create_dataset(name, shape, frame.dtype, chunks=(1, *frame.shape), fletcher32=True)
        dataset[index] = frame
    dataset.attrs["units"] = stream.data_keys[key].get("units", "counts")


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def export(run: RecordedRun, fits: Sequence[RecordedRun], form: str, folder: Path) -> list[Path]:
    """Write `run` in the form of this name (a key of `FORMS`) into `folder`; DataRootError if it cannot be written."""
    from catalog.nexus import to_nexus
    from catalog.pack import to_pack

    writer = {**FORMS, "nexus": to_nexus, "pack": to_pack}[form]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # What could not be written to its end is not left behind.
        with tempfile.TemporaryDirectory(prefix=".lunchbox-", dir=folder) as unfinished:
            written = writer(run, fits, Path(unfinished))
            paths = [folder / path.name for path in written]
            for path in paths:
                if path.exists():
                    raise ExportExists(f"{path} exists; move it, or choose another folder with --output.")
            for source, path in zip(written, paths, strict=True):
                source.rename(path)
    except LunchBoxError:
        raise
    except OSError as error:
        raise cannot_write(folder, error) from error
    return paths


FORMS: dict[str, Callable[[RecordedRun, Sequence[RecordedRun], Path], list[Path]]] = {
    "jsonl": to_jsonl,
    "csv": to_csv,
    "tiff": to_tiff,
    "hdf5": to_hdf5,
}
