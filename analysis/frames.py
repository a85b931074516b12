"""From a pair of camera frames to the light of the laser: the red channel, signed, and what can be trusted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from analysis.errors import BadScan
from analysis.noise import NoiseModel, estimate_noise, quantisation

Array = NDArray[np.floating]

#: A frame smaller than this, either way, holds no spot whose position means anything.
MIN_SIDE = 16


@dataclass(frozen=True, slots=True)
class Light:
    """The laser's light in one pair of frames.

    difference : ndarray f4, shape (n_y, n_x), counts; NaN nowhere (see `bad`)
    image, background : ndarray, shape (n_y, n_x), raw counts of the red channel
    rows : ndarray f4, shape (n_y,), counts: flicker of the ambient light, common to a row, to be taken off
    saturation : float, counts: a raw pixel at or above it says nothing
    """

    difference: NDArray[np.float32]
    image: NDArray[Any]
    background: NDArray[Any]
    rows: NDArray[np.float32]
    noise: NoiseModel
    saturation: float


def red(frame: NDArray[Any]) -> NDArray[Any]:
    """The channel that sees the laser: R of (n_y, n_x, R G B); a mono frame as it is."""
    if frame.ndim == 2:
        return np.ascontiguousarray(frame)
    if frame.ndim == 3 and frame.shape[2] in (1, 3, 4):
        if frame.dtype in (np.uint8, np.uint16):
            return np.asarray(cv2.extractChannel(np.ascontiguousarray(frame), 0))
        return np.ascontiguousarray(frame[..., 0])
    raise BadScan(f"a frame has shape (y, x) or (y, x, channel) with 1, 3 or 4 channels, not {frame.shape}")


def check_frame(frame: Any, what: str) -> NDArray[Any]:
    """The frame as an array of numbers, or a BadScan that says what is wrong with it."""
    array = np.asarray(frame)
    if array.dtype.kind not in "uif":
        raise BadScan(f"{what} holds {array.dtype}, not counts; pass unsigned integers of 8 to 16 bits, or floats")
    if array.ndim not in (2, 3) or min(array.shape[:2]) < MIN_SIDE:
        raise BadScan(f"{what} has shape {array.shape}; it must be (y, x[, channel]), {MIN_SIDE} pixels or more a side")
    return array


def _plain(plane: NDArray[Any]) -> NDArray[Any]:
    """A dtype that OpenCV subtracts; non-finite pixels stay."""
    return plane if plane.dtype in (np.uint8, np.uint16, np.float32) else plane.astype(np.float32)


def _saturation(image: NDArray[Any]) -> float:
    """The raw level from which a pixel is saturated.

    A sensor of fewer bits than its words shows a plateau: many pixels with exactly the greatest value.
    """
    top = float(np.nanmax(image)) if image.size else 0.0
    if image.dtype == np.uint8:
        return 255.0
    if np.count_nonzero(image == top) >= 4 and top > 0:
        full = np.log2(top + 1)
        if image.dtype.kind == "f" or abs(full - round(full)) < 1e-9:
            return top
    return float(np.iinfo(image.dtype).max) if image.dtype.kind in "ui" else np.inf


def laser_light(image: Any, background: Any) -> Light:
    """The difference of a pair, its noise, and the flicker of its rows.

    Parameters
    ----------
    image, background : array-like, shape (n_y, n_x) or (n_y, n_x, channel), counts, laser on and laser off
    """
    image, background = check_frame(image, "image"), check_frame(background, "background")
    if image.shape != background.shape:
        raise BadScan(f"image has shape {image.shape}, background {background.shape}; a pair has one shape")
    quantum = quantisation(image.dtype)
    bright, dark = _plain(red(image)), _plain(red(background))
    if bright.dtype != dark.dtype:
        bright, dark = bright.astype(np.float32), dark.astype(np.float32)
    if bright.dtype.kind == "f":
        finite = np.isfinite(bright) & np.isfinite(dark)
        if not finite.any():
            raise BadScan("image and background have no pixel that is a finite number in both")
        # A pixel that is not a number counts as saturated: it says nothing.
        saturation = _saturation(np.where(finite, bright, 0))
        bright = np.where(finite, bright, np.float32(np.inf))
        dark = np.where(finite, dark, 0).astype(np.float32)
        difference = np.where(finite, bright - dark, np.float32(0)).astype(np.float32)
    else:
        saturation = _saturation(bright)
        difference = cv2.subtract(bright, dark, dtype=cv2.CV_32F)
    noise = estimate_noise(difference, dark, quantum=quantum)
    return Light(difference, bright, dark, _row_flicker(difference, dark, noise), noise, saturation)


def _row_flicker(difference: NDArray[np.float32], background: NDArray[Any], noise: NoiseModel) -> NDArray[np.float32]:
    """Per row the mean of the pixels without laser light, counts, shape (n_y,).

    A mean without the lit tail replaces the median: rounded counts have no fine median, and it costs a fifth.
    """
    sample = np.ascontiguousarray(difference[:, ::6])
    centre = np.float32(np.median(sample[::16]))
    width = np.float32(3 * np.sqrt(noise.dark(float(np.mean(background[::8, ::8])))) + abs(centre) * 0.5 + 0.5)
    inside = np.abs(sample - centre) < width
    count = inside.sum(1)
    rows = np.einsum("ij,ij->i", sample, inside.astype(np.float32)) / np.maximum(count, 1)
    return np.where(count >= sample.shape[1] // 4, rows, centre).astype(np.float32)
