"""Chunks as HDF5's filter `fletcher32` leaves them, in less than half of its time.

HDF5 adds a frame's words up one by one, and copies the frame twice. Here OpenCV adds up whole rows, and the frame is
copied once; HDF5 takes the chunk as it is, and checks it when it is read, as ever.

The checksum is two sums modulo 65535 over the big-endian 16-bit words w_i, i = 0 .. n - 1: of w_i, and of (n - i) w_i
(J. G. Fletcher, IEEE Transactions on Communications 30 (1982) 247).
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

_BLOCKS, _ROWS = 16, 64  # word i = (block * _ROWS + row) * width + column
_BYTES = 4  # of the checksum
_MODULUS = 65535


class ChecksummedChunk:
    """A frame of `size` bytes and its checksum, in memory that each frame uses anew.

    Parameters
    ----------
    size : bytes of each frame.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        unit = 2 * _BLOCKS * _ROWS
        padded = -(-size // unit) * unit
        self._memory = np.zeros(padded + _BYTES, "u1")
        # Zeros behind the frame change neither sum: the words count from its end.
        self._blocks = self._memory[:padded].reshape(_BLOCKS, _ROWS, -1)

    def of(self, frame: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """`frame` and its checksum, (`size` + 4,) u1; good until the next call."""
        chunk = self._memory[: self._size + _BYTES]
        chunk[: self._size] = frame.reshape(-1)
        chunk[self._size :] = 0
        checksum = self._checksum()
        chunk[self._size :] = np.frombuffer(checksum.to_bytes(_BYTES, "little"), "u1")
        return chunk

    def _checksum(self) -> int:
        blocks = np.concatenate([_word_sums(block) for block in self._blocks]).sum(axis=1)
        within_block = _word_sums(self._blocks.reshape(_BLOCKS, -1))[0]
        words, length = -(-self._size // 2), within_block.size
        first = int(blocks.sum())
        # Of i w_i; i = block * length + place within the block.
        places = length * int(blocks @ np.arange(_BLOCKS)) + int(within_block @ np.arange(length))
        return _modulo(words * first - places) << 16 | _modulo(first)


def _word_sums(rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Sums over the rows of (row, byte) of their words, (1, word)."""
    sums = cv2.reduce(rows, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S).astype(np.int64)
    return sums[:, ::2] * 256 + sums[:, 1::2]


def _modulo(total: int) -> int:
    # HDF5 folds the upper half into the lower one, which leaves 0 of nothing but zeros.
    return total % _MODULUS or (_MODULUS if total else 0)
