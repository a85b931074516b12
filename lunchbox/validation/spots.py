"""Positions of single spots against the light that was put in, and against the Cramer-Rao bound.

Of frames with many Gaussian spots of one amplitude. The least variance that an unbiased estimate of x can have is the
element of the inverse of Fisher's information of (x, y, widths, tilt, amplitude, level); x and y have nothing in common
with the others, so for an upright Gaussian

    var(x) >= 1 / sum (f (x - x0) / sigma_x^2)^2 / variance,    variance = v0 + f / K + C^2 f^2

over the pixels that are not saturated: read noise and ambient light, shot noise, speckle.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from acquisition.bench import light
from acquisition.bench.light import TrueSpot
from analysis import find_spots
from lunchbox.validation.peers import finders

Array = NDArray[np.float64]

GAIN, READ_NOISE, AMBIENT = 17.0, 5.0, 18.0
SIGMA = (4.2, 3.6)  # px, along x and y
SHAPE = (960, 1280)
#: px: a spot further than this from the light is another one.
FOUND_WITHIN = 8.0
#: Frames that the others see.
MOST_OF_PEERS = 10
#: (amplitude, counts; contrast of the speckle; height of a side lobe over the spot's)
CASES = ((8, 0.3, 0.0), (40, 0.3, 0.0), (120, 0.0, 0.0), (120, 0.3, 0.0), (800, 0.3, 0.0), (120, 0.3, 0.05))


@dataclass(frozen=True)
class Accuracy:
    """One estimator in one case.

    bound : px, the least standard deviation that the noise allows (of the case without a side lobe)
    ratio : root mean square error over it; bias : px, mean error towards the side lobe (along +x)
    pull : root mean square of error / stated; NaN where nothing is stated
    missed : share of the spots; extra : spots that are not there, per frame; rate : pairs of frames per second
    """

    amplitude: float
    contrast: float
    lobe: float
    estimator: str
    spots: int
    bound: float
    ratio: float
    bias: float
    pull: float
    missed: float
    extra: float
    rate: float


def bound(amplitude: float, contrast: float, *, bits: int = 8) -> float:
    """Root mean square of the bounds of x and of y, px."""
    y, x = np.mgrid[-40:41, -40:41].astype(float)
    f = amplitude * np.exp(-0.5 * ((x / SIGMA[0]) ** 2 + (y / SIGMA[1]) ** 2))
    rounding = 1 / 12
    dark = 2 * (AMBIENT / GAIN + (READ_NOISE / GAIN) ** 2 + rounding)
    usable = f + AMBIENT < 2**bits - 1
    information = usable * f**2 / (dark + f / GAIN + (contrast * f) ** 2)
    return float(
        np.sqrt(np.mean([1 / (information * (q / s**2) ** 2).sum() for q, s in zip((x, y), SIGMA, strict=True)]))
    )


def photograph(
    amplitude: float, contrast: float, lobe: float, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], Array]:
    """(image, background, true places, shape (n, 2), px): 5 x 4 spots, anywhere within 10 px of a grid."""
    places = np.stack(np.meshgrid(np.linspace(140, 1140, 5), np.linspace(130, 830, 4)), -1).reshape(-1, 2)
    places = places + rng.uniform(-10, 10, places.shape)
    laser = np.zeros(SHAPE, np.float32)
    covariance = np.diag(np.square(SIGMA))
    for x, y in places:
        for shift, height in ((0.0, 1.0), (2 * SIGMA[0], lobe)):
            if height:
                spot = TrueSpot(None, x + shift, y, amplitude * height, covariance)
                light.add_gaussian(laser, spot, amplitude=spot.amplitude)
    laser *= light.speckle(SHAPE, contrast=contrast, size=0.0, random=rng)
    ambient = light.daylight(SHAPE, level=AMBIENT, gradient=0.3, direction=float(rng.uniform(0, 2 * np.pi)))

    def expose(mean: NDArray[np.float32]) -> NDArray[np.uint8]:
        noise = np.sqrt(mean / GAIN + (READ_NOISE / GAIN) ** 2) * rng.standard_normal(SHAPE, dtype=np.float32)
        return np.clip(np.rint(mean + noise), 0, 255).astype(np.uint8)

    return expose(ambient + laser), expose(ambient), places


def measure(case: tuple[float, float, float], *, frames: int, seed: int) -> Iterator[Accuracy]:
    """Ours first, then those of `peers.finders`, on the same frames."""
    rng = np.random.default_rng([seed, *(round(1000 * value) for value in case)])
    ours = _Tally("LunchBox")
    peers = [(_Tally(name), finder) for name, finder in finders().items()]
    for number in range(frames):
        image, background, places = photograph(*case, rng)
        began = time.perf_counter()
        spots = find_spots(image, background)
        ours.took += time.perf_counter() - began
        found = np.array([(s.x, s.y) for s in spots]).reshape(-1, 2)
        ours.add(found, places, stated=np.array([(s.x_stderr, s.y_stderr) for s in spots]).reshape(-1, 2))
        # They take up to a hundred times as long, and a ratio needs no more.
        if number < MOST_OF_PEERS:
            for tally, finder in peers:
                began = time.perf_counter()
                found = finder(image, background, np.rint(places))
                tally.took += time.perf_counter() - began
                tally.add(found, places)
    for tally in (ours, *(tally for tally, _ in peers)):
        yield tally.result(case)


class _Tally:
    def __init__(self, name: str) -> None:
        self.name = name
        self.errors: list[Array] = []
        self.pulls: list[Array] = []
        self.missed = self.extra = self.frames = 0
        self.took = 0.0

    def add(self, found: Array, places: Array, stated: Array | None = None) -> None:
        self.frames += 1
        self.extra += len(found)
        for place in places:
            away = np.hypot(*(found - place).T)
            if not len(away) or not away.min() < FOUND_WITHIN:
                self.missed += 1
                continue
            self.extra -= 1
            nearest = int(away.argmin())
            self.errors.append(found[nearest] - place)
            if stated is not None:
                self.pulls.append(self.errors[-1] / stated[nearest])

    def result(self, case: tuple[float, float, float]) -> Accuracy:
        errors = np.array(self.errors).reshape(-1, 2)
        pulls = np.array(self.pulls).reshape(-1, 2)
        least = bound(*case[:2])

        def rms(values: Array) -> float:
            return float(np.sqrt(np.mean(values**2))) if values.size else float("nan")

        return Accuracy(
            amplitude=case[0],
            contrast=case[1],
            lobe=case[2],
            estimator=self.name,
            spots=len(errors) + self.missed,
            bound=least,
            ratio=rms(errors) / least,
            bias=float(errors[:, 0].mean()) if len(errors) else float("nan"),
            pull=rms(pulls),
            missed=self.missed / max(len(errors) + self.missed, 1),
            extra=self.extra / self.frames,
            rate=self.frames / self.took,
        )
