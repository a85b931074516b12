"""How the errors of a scan's positions hang together.

    C = noise + speckle + jitter + calibration

noise        white, of each spot alone
speckle      frozen to the screen: spots that fall on the same place repeat the same error. Order 0 does so in every
             frame, and order +1 nearly does around minimum deviation. Between two spots d apart the errors correlate
             as the gradients of one random field do, (1 - d_i d_j / 2 w^2) exp(-d^2 / 4 w^2)
jitter       of the servo: common to all orders of a frame
calibration  common to all spots of the scan
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

#: w over the spot's sigma: measured on frozen white speckle; wider than least squares alone has it (0.7), for the
#: weighted estimate listens to the whole area in which speckle outweighs the noise of the camera.
SPECKLE_REACH = 1.25
#: Share of the speckle's variance that does not repeat: the beam wanders by a part of a speckle between frames.
UNREPEATED = 0.03


@dataclass(frozen=True)
class Errors:
    """Everything about the positions' errors that does not depend on the jitter.

    fixed : ndarray, shape (2 n, 2 n), m^2, noise + speckle + calibration; rows X0, Y0, X1, Y1, ...
    frame : ndarray, shape (n,)
    """

    fixed: Array
    frame: Integers

    def turns(self, slope: Array) -> Array:
        """S: what one radian of each frame does to all positions, shape (2 n, n_frame), m / rad.

        slope : ndarray, shape (n, 2), d(X, Y)/d(alpha)
        """
        frames, which = np.unique(self.frame, return_inverse=True)
        full = np.zeros((len(which), 2, len(frames)))
        full[np.arange(len(which)), :, which] = slope
        return full.reshape(-1, len(frames))

    def total(self, slope: Array, jitter: float) -> Array:
        """C = fixed + jitter^2 S S^T, shape (2 n, 2 n), m^2."""
        total = self.fixed.copy()
        turned = (jitter * slope).ravel()
        rows = np.argsort(np.repeat(self.frame, 2), kind="stable")
        # S S^T has a block per frame: the product of a long scan's S would be mostly zeros.
        for block in np.split(rows, np.cumsum(2 * np.unique(self.frame, return_counts=True)[1])[:-1]):
            total[np.ix_(block, block)] += np.outer(turned[block], turned[block])
        return total

    def of(self, keep: NDArray[np.bool_]) -> Errors:
        """The errors of some of the positions."""
        both = np.repeat(keep, 2)
        return Errors(self.fixed[np.ix_(both, both)], self.frame[keep])


def blocks(matrices: Array) -> Array:
    """A block-diagonal (2 n, 2 n) of matrices of shape (n, 2, 2)."""
    n = len(matrices)
    full = np.zeros((n, 2, n, 2))
    index = np.arange(n)
    full[index, :, index, :] = matrices
    return full.reshape(2 * n, 2 * n)


def speckle(texture: Array, screen: Array, width: Array) -> Array:
    """The speckle's part, shape (2 n, 2 n), m^2.

    texture : ndarray, shape (n, 2, 2), m^2: of each spot alone
    screen : ndarray, shape (n, 2), m; width : ndarray, shape (n,), m, sigma of the spots
    """
    n = len(screen)
    if not n:
        return np.zeros((0, 0))
    reach = SPECKLE_REACH * float(np.median(width))
    d = [(axis[:, None] - axis) / reach for axis in screen.T]
    envelope = (1 - UNREPEATED) * np.exp(-(d[0] ** 2 + d[1] ** 2) / 4)
    deviation = np.sqrt(np.maximum(texture[:, [0, 1], [0, 1]], 0)).T
    full = np.empty((n, 2, n, 2))
    for a, b in np.ndindex(2, 2):
        full[:, a, :, b] = np.outer(deviation[a], deviation[b]) * envelope * ((a == b) - d[a] * d[b] / 2)
    index = np.arange(n)
    full[index, :, index, :] += texture * UNREPEATED
    return full.reshape(2 * n, 2 * n)
