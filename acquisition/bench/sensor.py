"""What an 8-bit camera makes of light: shot noise, read noise, hot and blinking pixels, saturation.

Noise is Gaussian with the Poisson variance: a camera that gathers 17 electrons per count leaves no other difference.
It comes from a bank of normal deviates, each row of each frame from a random place in it: as good as fresh ones for
anything that looks at less than the bank's four million, and five times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Image = NDArray[np.float32]

_BANK = 1 << 22
# Rows worked on at a time, so that the intermediate results stay in the processor's cache.
_BLOCK = 32
_HOT = (40.0, 200.0)


@dataclass(frozen=True, kw_only=True)
class Sensor:
    """A colour camera.

    Attributes
    ----------
    shape : (height, width), px
    gain : float, electrons per DN
    read_noise : float, electrons
    hot : ndarray, shape (n, 3)
        y, x (px) and brightness (DN) of the pixels that are bright in every frame.
    blinking : int
        How many pixels are bright in this frame only.
    """

    shape: tuple[int, int]
    gain: float
    read_noise: float
    hot: NDArray[np.float64]
    blinking: int
    bank: Image

    @classmethod
    def build(
        cls,
        *,
        shape: tuple[int, int],
        gain: float,
        read_noise: float,
        hot_pixels: int,
        blinking_pixels: int,
        random: np.random.Generator,
    ) -> Sensor:
        """Draw the hot pixels and the bank of noise."""
        return cls(
            shape=shape,
            gain=gain,
            read_noise=read_noise,
            hot=_bright_pixels(hot_pixels, shape, random),
            blinking=blinking_pixels,
            bank=random.standard_normal(_BANK + 3 * shape[1], dtype=np.float32),
        )

    def noise(self, light: Image) -> Image:
        """Standard deviation, DN, of the counts where the mean is `light`, DN."""
        return np.sqrt(light * np.float32(1 / self.gain) + np.float32((self.read_noise / self.gain) ** 2))

    def expose(self, bands: Sequence[tuple[Image, Image]], row_factor: Image, random: np.random.Generator) -> Frame:
        """A frame.

        Parameters
        ----------
        bands : sequence of (light, noise), each of shape (n, 3 * width), DN
            Mean and standard deviation of the counts in n rows; the bands lie one below the other.
        row_factor : ndarray, shape (height,)
            Both light and variance of a row are multiplied by it: flicker under a rolling shutter.

        Returns
        -------
        ndarray, shape (height, width, 3), uint8
        """
        height, width = self.shape
        frame = np.empty((height, 3 * width), np.uint8)
        starts = random.integers(0, _BANK, height)
        deviation = np.empty((_BLOCK, 3 * width), np.float32)
        mean = np.empty_like(deviation)
        root = np.sqrt(row_factor)
        top = 0
        for light, noise in bands:
            for first in range(0, len(light), _BLOCK):
                n = min(_BLOCK, len(light) - first)
                rows = slice(top + first, top + first + n)
                for i, start in enumerate(starts[rows]):
                    np.multiply(self.bank[start : start + 3 * width], noise[first + i], out=deviation[i])
                deviation[:n] *= root[rows, None]
                np.multiply(light[first : first + n], row_factor[rows, None], out=mean[:n])
                # Rounds to the nearest count and saturates at 0 and 255.
                cv2.add(mean[:n], deviation[:n], dst=frame[rows], dtype=cv2.CV_8U)
            top += len(light)
        coloured = frame.reshape(height, width, 3)
        for bright in (self.hot, _bright_pixels(self.blinking, self.shape, random)):
            y, x = bright[:, 0].astype(int), bright[:, 1].astype(int)
            counts = coloured[y, x] + bright[:, 2:] + random.normal(0, np.sqrt(bright[:, 2:] / self.gain))
            coloured[y, x] = np.clip(np.rint(counts), 0, 255)
        return coloured


def _bright_pixels(n: int, shape: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    return np.column_stack(
        [random.integers(0, shape[0], n), random.integers(0, shape[1], n), random.uniform(*_HOT, size=n)]
    )
