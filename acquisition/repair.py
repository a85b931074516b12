"""What is whole of a frame file whose writer was killed, as a file that any viewer opens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from acquisition.camera import Exposure
from acquisition.frame_file import Background, Compression, FrameFile
from catalog import layout
from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler
from catalog.setup import Setup

_BITSHUFFLE = 32008
_COMPRESSIONS: dict[int, Compression] = {2: "lz4", 3: "zstd"}


@dataclass(frozen=True)
class Repaired:
    """A copy of `frames` pairs out of `found`, and why there are no more.

    Attributes
    ----------
    original, copy : Path
    frames, found : int
    reason : str
        "" when all were whole.
    """

    original: Path
    copy: Path
    frames: int
    found: int
    reason: str


def repair(path: Path, copy: Path | None = None) -> Repaired:
    """Copy the frames of `path` up to the first that is not whole; the original is read only, and kept.

    Runs go on naming the original, and what reads runs does not need the copy: it is for programs that open files.

    Parameters
    ----------
    copy
        Must not exist; by itself `<name>.repaired.h5` beside the original.

    Raises
    ------
    catalog.handlers.FrameIntegrityError
        Not a frame file, or not one frame is whole.
    catalog.errors.DataRootError
        The copy cannot be written.
    """
    copy = path.with_name(f"{path.stem}.repaired.h5") if copy is None else copy
    image, background = (LunchBoxHDF5Handler(path, dataset=name) for name in (layout.IMAGE, layout.BACKGROUND))
    _, y, x, channel = image.shape
    found, rows, about = _scalars(path, image)
    taken: Background = about.pop("background")
    reason = ""
    with FrameFile(copy, shape=(y, x, channel), background=taken, points=found, **about) as file:
        for index in range(found):
            row = rows[index]
            try:
                pixels = image(frame=index)
                dark = None
                if taken == "each" or (taken == "first" and index == 0):
                    dark = Exposure(background(frame=index), row[layout.BACKGROUND_TIMESTAMP], row[layout.COUNT_TIME])
            except FrameIntegrityError as error:
                reason = str(error)
                break
            file.append(Exposure(pixels, row[layout.TIMESTAMP], row[layout.COUNT_TIME]), dark, servo=row[layout.SERVO])
    if not file.n_frames:
        raise FrameIntegrityError(f"{path}: no frame is whole, and no copy was made. {reason}".strip())
    return Repaired(path, copy, file.n_frames, found, reason)


def _scalars(path: Path, image: LunchBoxHDF5Handler) -> tuple[int, list[dict[str, float]], dict[str, Any]]:
    """(frames, {dataset: value} of each, what a `FrameFile` like this one is made with)."""
    try:
        with h5py.File(path, "r", swmr=True, libver="latest") as file:
            taken = file[layout.BACKGROUND].attrs.get("taken", "each")
            names = [layout.TIMESTAMP, layout.COUNT_TIME, layout.SERVO]
            names += [layout.BACKGROUND_TIMESTAMP] if taken == "each" else []
            found = min(image.shape[0], *(len(file[name]) for name in names))
            # HDF5 makes up zeros for what lies behind the end of a truncated file, and no exposure was in 1970.
            found = min(found, int(np.count_nonzero(file[layout.TIMESTAMP][:found])))
            columns = {name: file[name][:found] for name in {*names, layout.BACKGROUND_TIMESTAMP}}
            rows = [
                {name: float(column[index]) for name, column in columns.items() if index < len(column)}
                for index in range(found)
            ]
            instrument = f"{layout.ENTRY}/instrument"
            setup = Setup(
                wavelength=float(file[f"{instrument}/source/wavelength"][()]),
                groove_density=1 / float(file[f"{instrument}/grating/period"][()]),
                screen_distance=float(file[f"{layout.DETECTOR}/distance"][()]),
            )
            checksum = bool(file[layout.IMAGE].fletcher32)
            compression = _compression(file[layout.IMAGE])
    except (OSError, RuntimeError, KeyError) as error:
        raise FrameIntegrityError(f"{path} is not a frame file that can be read: {error}") from error
    return found, rows, {"background": taken, "setup": setup, "checksum": checksum, "compression": compression}


def _compression(dataset: h5py.Dataset) -> Compression:
    properties = dataset.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        number, _, options, _ = properties.get_filter(index)
        if number == _BITSHUFFLE:
            return _COMPRESSIONS.get(options[4], "none")
    return "none"
