"""One frame out of several of different exposure: what saturates comes from the short ones, what is faint from all.

Per pixel, with t_k the exposures (s), f_k the counts, and noise variance a + f / K of each,

    f = t_ref sum(w_k f_k / t_k) / sum(w_k),    w_k = t_k^2 / (a + r t_k / K) * s_k

w_k is the inverse variance of the rate f_k / t_k. The rate r that it needs is that of all usable exposures together,
sum(f_k) / sum(t_k), for a weight from each pixel's own counts would favour those that scattered low. s_k falls from 1
to 0 between SAFE and FULL of the range: a pixel that is left out only when it *is* saturated leaves a mean of those
that scattered low. Image and background get the same weights: their difference is the laser alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.errors import BadScan
from analysis.frames import check_frame, red
from analysis.noise import estimate_noise, quantisation

Array = NDArray[np.float32]

#: Shares of the greatest count between which a pixel loses its weight.
SAFE, FULL = 0.80, 0.97


def merge_exposures(images: Sequence[Any], backgrounds: Sequence[Any], exposures: ArrayLike) -> tuple[Array, Array]:
    """Image and background in counts of the longest exposure, far beyond its range; shape (n_y, n_x).

    Parameters
    ----------
    images, backgrounds : sequence of n array-likes, shape (n_y, n_x) or (n_y, n_x, channel), counts, unsigned integers
        Laser on and laser off; the red channel of a colour frame is used.
    exposures : array-like, shape (n,), s

    A pixel that is saturated in every image is NaN.

    Raises
    ------
    BadScan
        No frames, frames of different shapes, or exposures that are not times.
    """
    times = np.asarray(exposures, float)
    n = len(images)
    if not n or len(backgrounds) != n or times.shape != (n,) or not (np.isfinite(times) & (times > 0)).all():
        raise BadScan(f"{n} images, {len(backgrounds)} backgrounds, exposures {times}: one time above 0 for each pair")
    lit = [red(check_frame(image, f"image of {time:g} s")) for image, time in zip(images, times, strict=True)]
    dark = [
        red(check_frame(frame, f"background of {time:g} s")) for frame, time in zip(backgrounds, times, strict=True)
    ]
    if any(frame.shape != lit[0].shape or frame.dtype != lit[0].dtype for frame in (*lit, *dark)):
        raise BadScan("frames of one angle differ in shape or type")
    if lit[0].dtype.kind != "u":
        raise BadScan(f"frames of {lit[0].dtype} cannot be merged: only unsigned integers say where they are full")
    top = float(np.iinfo(lit[0].dtype).max)
    quantum = quantisation(lit[0].dtype)
    longest = int(times.argmax())
    difference = lit[longest].astype(np.float32) - dark[longest]
    noise = estimate_noise(difference, dark[longest], quantum=quantum)
    # Of one frame, where the noise model is that of a difference.
    floor, per_count = np.float32(noise.floor / 2), np.float32(noise.per_count)

    safe = [np.clip((FULL * top - frame) / ((FULL - SAFE) * top), 0, 1).astype(np.float32) for frame in lit]
    seconds = times.astype(np.float32)
    counts = sum(frame * share for frame, share in zip(lit, safe, strict=True))
    known = sum(time * share for time, share in zip(seconds, safe, strict=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.maximum(counts / known, 0)
        weights = [
            share * time**2 / (floor + per_count * rate * time) for share, time in zip(safe, seconds, strict=True)
        ]
        total = sum(weights)
        merged = [
            seconds[longest] * sum(w * f / t for w, f, t in zip(weights, frames, seconds, strict=True)) / total
            for frames in (lit, dark)
        ]
    return _masked(merged[0], known > 0, np.nan), _masked(merged[1], known > 0, 0)


def _masked(frame: Any, good: NDArray[np.bool_], otherwise: float) -> Array:
    return np.where(good, frame, np.float32(otherwise)).astype(np.float32)


class Brackets:
    """Frames of an `exposure_scan`, merged when they are asked for.

    images, backgrounds : sequences of frames
    exposures : ndarray, shape (n,), s
    groups : for each merged frame, which of them it is made of
    """

    def __init__(
        self, images: Any, backgrounds: Any, exposures: NDArray[np.float64], groups: list[NDArray[np.intp]]
    ) -> None:
        self._images, self._backgrounds, self._exposures, self._groups = images, backgrounds, exposures, groups
        self._last: tuple[int, tuple[Array, Array]] | None = None

    def __len__(self) -> int:
        return len(self._groups)

    def pair(self, i: int) -> tuple[Array, Array]:
        """Merged image and background number i; the last is kept, for both are asked for one after the other."""
        if not 0 <= i < len(self):
            raise IndexError(f"frame {i} of {len(self)}")
        last = self._last
        if last is None or last[0] != i:
            which = [int(k) for k in self._groups[i]]
            images, backgrounds = (
                [np.asarray(frames[k]) for k in which] for frames in (self._images, self._backgrounds)
            )
            last = self._last = (i, merge_exposures(images, backgrounds, self._exposures[which]))
        return last[1]

    @property
    def images(self) -> Merged:
        return Merged(self, 0)

    @property
    def backgrounds(self) -> Merged:
        return Merged(self, 1)


class Merged(Sequence[Any]):
    """Images, or backgrounds, of `Brackets`."""

    def __init__(self, brackets: Brackets, which: int) -> None:
        self._brackets, self._which = brackets, which

    def __len__(self) -> int:
        return len(self._brackets)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._brackets.pair(int(index) + (len(self) if index < 0 else 0))[self._which]


def brackets_of(setpoints: ArrayLike, exposures: ArrayLike) -> list[NDArray[np.intp]]:
    """Which frames, one after the other, are of one angle: their setpoint is the same and no exposure comes twice."""
    setpoints, exposures = np.asarray(setpoints, float), np.asarray(exposures, float)
    groups: list[list[int]] = []
    for i, (setpoint, exposure) in enumerate(zip(setpoints, exposures, strict=True)):
        last = groups[-1] if groups else []
        if last and setpoints[last[0]] == setpoint and exposure not in exposures[last]:
            last.append(i)
        else:
            groups.append([i])
    return [np.array(group, dtype=np.intp) for group in groups]
