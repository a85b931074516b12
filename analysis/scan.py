"""Frames, angles and set-up of one angle scan: from arrays, or from a run of the catalogue by its uid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Lens
from analysis.errors import BadScan
from analysis.exposures import Brackets, brackets_of
from catalog.setup import Setup


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """An angle scan: one pair of frames per angle.

    images, backgrounds : array-like, shape (n, n_y, n_x) or (n, n_y, n_x, channel), counts
        Laser on and laser off. Anything with a length whose [i] is a frame; frames are read one at a time.
    angles : array-like, shape (n,), deg
        The servo's readback.
    setup : Setup
        Nominal geometry and its uncertainties.
    calibration : array-like, shape (n_y, n_x[, channel]), counts, or Calibration, optional
        A frame that shows the square target. Without it the scan calibrates itself, at a price that is in the errors.
    lens : Lens, optional
    uid, calibration_uid, lens_uid : str, of the runs that it, its target and its lens come from; "" for arrays
    """

    images: Any
    backgrounds: Any
    angles: Any
    setup: Setup = field(default_factory=Setup)
    calibration: Any = None
    lens: Lens | None = None
    uid: str = ""
    calibration_uid: str = ""
    lens_uid: str = ""

    def __post_init__(self) -> None:
        try:
            angles = np.array(self.angles)
        except (TypeError, ValueError) as error:
            raise BadScan(f"angles must be numbers (deg): {error}") from None
        if angles.size and angles.dtype.kind not in "iuf":
            raise BadScan(f"angles must be numbers (deg), not {angles.dtype}")
        angles = angles.astype(float)
        if angles.ndim != 1 or angles.size == 0:
            raise BadScan(f"angles must have shape (n,) with n > 0, not {angles.shape}")
        if not np.isfinite(angles).all():
            raise BadScan(f"angles must be finite; number {int(np.flatnonzero(~np.isfinite(angles))[0])} is not")
        if np.abs(angles).max() > 360:
            raise BadScan(f"angles are in degrees, within 360 of 0; found {float(np.abs(angles).max()):g}")
        angles.setflags(write=False)
        object.__setattr__(self, "angles", angles)
        if not isinstance(self.setup, Setup):
            raise BadScan(f"setup must be a Setup, not {type(self.setup).__name__}")
        if self.lens is not None and not isinstance(self.lens, Lens):
            raise BadScan(f"lens must be a Lens, not {type(self.lens).__name__}")
        for what in ("images", "backgrounds"):
            frames = getattr(self, what)
            shape = getattr(frames, "shape", None)
            if shape is not None and len(shape) not in (3, 4):
                raise BadScan(f"{what} has shape {tuple(shape)}; it must be (n, y, x) or (n, y, x, channel)")
            count = _count(frames, what)
            if count != len(angles):
                raise BadScan(f"{what} holds {count} frames for {len(angles)} angles; there must be one per angle")
        mine, theirs = (getattr(f, "shape", None) for f in (self.images, self.backgrounds))
        if mine is not None and theirs is not None and tuple(mine) != tuple(theirs):
            raise BadScan(f"images has shape {tuple(mine)}, backgrounds {tuple(theirs)}; they must be the same")

    def __len__(self) -> int:
        return len(self.angles)

    def pair(self, i: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Image and background of frame i, read now."""
        return np.asarray(self.images[i]), np.asarray(self.backgrounds[i])

    def __repr__(self) -> str:
        low, high = float(self.angles.min()), float(self.angles.max())
        name = f"{self.uid[:8]}: " if self.uid else ""
        how = "with target" if self.calibration is not None else "without target"
        return f"<Scan {name}{len(self)} frames, {low:g} to {high:g} deg, {self.setup.mount} mount, {how}>"


def _count(frames: Any, what: str) -> int:
    shape = getattr(frames, "shape", None)
    if shape is not None:
        return int(shape[0])
    try:
        return len(frames)
    except TypeError:
        raise BadScan(f"{what} must be an array or a sequence of frames, not {type(frames).__name__}") from None


def load_scan(uid: Any = -1, catalog: Any = None) -> Scan:
    """The scan of a run, its frames unread; those of one angle and different exposures are merged when they are read.

    Parameters
    ----------
    uid : str or int, uid or its first characters, scan_id, -1 for the last run; or a run itself
    catalog : what `catalog.open_catalog()` gives, which is the default
    """
    if catalog is None:
        from catalog import open_catalog

        catalog = open_catalog()
    run = catalog[uid] if isinstance(uid, str | int) else uid
    start = run.metadata["start"]
    if start.get("plan_name") == "calibrate":
        raise BadScan(
            f"run {start['uid'][:8]} is a calibration: one frame of the target. `lunchbox show` lists the scans"
        )
    primary = run["primary"]
    if "lunchbox_background" not in primary:
        raise BadScan(
            f"run {start['uid'][:8]} has no backgrounds (background = {start.get('background')!r}), and what the laser "
            "adds to the room light cannot be told without. Scan again with them, or give Scan(images=run['primary']"
            "['lunchbox_image'], backgrounds=...) frames of your own"
        )
    angles = np.asarray(primary.read(["lunchbox_servo"])["lunchbox_servo"], float)
    images, backgrounds = primary["lunchbox_image"], primary["lunchbox_background"]
    # While a run is in progress its frames and its events need not be equally far.
    count = min(len(angles), images.shape[0], backgrounds.shape[0])
    calibration_uid = start.get("calibration_uid") or ""
    lens = start.get("lens")
    frames, angles = _merged(primary, (_Frames(images, count), _Frames(backgrounds, count)), angles[:count])
    return Scan(
        images=frames[0],
        backgrounds=frames[1],
        angles=angles,
        setup=Setup(**start.get("setup", {})),
        calibration=np.asarray(catalog[calibration_uid]["primary"]["lunchbox_image"][0]) if calibration_uid else None,
        lens=Lens(**lens) if lens else None,
        uid=start["uid"],
        calibration_uid=calibration_uid,
        lens_uid=start.get("lens_uid") or "",
    )


def _merged(primary: Any, frames: tuple[Any, Any], angles: NDArray[np.float64]) -> tuple[Any, Any]:
    """The same frames and angles; where exposures differ, those of one angle are one."""
    if "lunchbox_exposure" not in primary:
        return frames, angles
    data = primary.read(["lunchbox_exposure", "lunchbox_servo_setpoint"])
    exposures = np.asarray(data["lunchbox_exposure"], float)[: len(angles)]
    if len(set(exposures)) <= 1:
        return frames, angles
    groups = brackets_of(np.asarray(data["lunchbox_servo_setpoint"], float)[: len(angles)], exposures)
    brackets = Brackets(*frames, exposures, groups)
    return (brackets.images, brackets.backgrounds), np.array([angles[group].mean() for group in groups])


class _Frames:
    """The first `count` frames of an array, each read when it is asked for."""

    def __init__(self, array: Any, count: int) -> None:
        self._array = array
        self.shape = (count, *array.shape[1:])
        self.dtype = array.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> NDArray[Any]:
        if isinstance(index, int | np.integer) and not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        if isinstance(index, slice):
            return np.asarray(self._array[slice(*index.indices(len(self)))])
        return np.asarray(self._array[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)
