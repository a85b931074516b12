"""Points that the adaptive scan needs for the error of a uniform scan of 46 points, on simulated benches, in process.

Medians over BENCH_SEEDS benches of each grating (3 by default; 50 for the table of the documentation).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.table import Row

POINTS = 46


@dataclass(frozen=True)
class Result:
    """Of one bench: relative errors of lambda/d, stated and true, and the points that they took."""

    points: int
    stated: float
    true: float


class Bench:
    """A simulated bench with a hobby servo's jitter and play; frames become spots at once."""

    def __init__(self, groove_density: float, seed: int) -> None:
        from acquisition.bench.scene import BenchState, Scene
        from acquisition.bench.settings import BenchSettings
        from acquisition.ioc.settings import SimulatedServo
        from analysis import Setup, calibrate

        self._state = BenchState
        self._scene = Scene(BenchSettings(seed=seed, groove_density=groove_density))
        self._servo = SimulatedServo()
        self._random = np.random.default_rng(seed)
        self._geared = self._random.uniform(-0.5, 0.5) * self._servo.backlash_deg
        self.truth = self._scene.truth()["lambda_over_d"]
        self.setup = Setup(groove_density=groove_density)
        self.calibration = calibrate(self._scene.render(BenchState(0.0, 0.0, target=True)), self.setup)

    def turn(self, angle: float) -> None:
        half = self._servo.backlash_deg / 2
        self._geared = min(max(self._geared, angle - half), angle + half)

    def take(self, angle: float) -> Any:
        """Spots of a pair of frames at a servo angle (deg)."""
        from analysis import find_spots

        self.turn(angle)
        shaft = self._geared + self._random.normal(0, self._servo.jitter_deg)
        image, background = (self._scene.render(self._state(shaft, power))[..., 0] for power in (1.0, 0.0))
        return find_spots(image, background)

    def fit(self, angles: list[float], spots: list[Any]) -> Any:
        from analysis import Scan
        from analysis.fit import fit_spots

        frames = np.empty((len(angles), 1, 1))
        scan = Scan(images=frames, backgrounds=frames, angles=angles, setup=self.setup, calibration=self.calibration)
        return fit_spots(scan, spots, self.calibration.shape)

    def result(self, fit: Any, points: int) -> Result:
        return Result(points, fit.lambda_over_d_stderr / self.truth, abs(fit.lambda_over_d / self.truth - 1))


def uniform(bench: Bench, start: float, stop: float) -> Any:
    """The fit of a scan of 46 even angles."""
    angles = [float(angle) for angle in np.linspace(start, stop, POINTS)]
    return bench.fit(angles, [bench.take(angle) for angle in angles])


def fewest(fit: Any, start: float, stop: float) -> int:
    """Of the same angles, chosen one by one by somebody who knows everything: how many tell as much as 46 even ones."""
    from analysis.design import Design
    from lunchbox.guide import candidate_angles

    angles = candidate_angles(start, stop)
    design = Design(fit, angles)
    last = len(angles) - 1
    enough = design.variance(range(0, last, last // (POINTS - 1)))[last]
    taken = [0, last]
    while np.nanmin(variance := design.variance(taken)) > enough:
        taken.append(int(np.nanargmin(variance)))
    return len(taken) + 1


def adaptive(bench: Bench, target: float, start: float = -45.0, stop: float = 45.0) -> Result:
    """As `lunchbox scan --target-error` goes about it."""
    from lunchbox.guide import APPROACH, FEWEST, candidate_angles, first_angles

    angles = first_angles(start, stop)
    spots = [bench.take(angle) for angle in angles]
    fit = bench.fit(angles, spots)
    while not (fit.lambda_over_d_stderr / fit.lambda_over_d <= target and len(angles) >= FEWEST):
        if len(angles) == POINTS:
            break
        from analysis.design import next_angle

        angles.append(next_angle(fit, candidate_angles(start, stop)))
        bench.turn(angles[-1] - APPROACH)
        spots.append(bench.take(angles[-1]))
        fit = bench.fit(angles, spots)
    return bench.result(fit, len(angles))


def rows() -> Iterator[Row]:
    """Measure; a minute a bench."""
    seeds = range(int(os.environ.get("BENCH_SEEDS", "3")))
    for density in (600e3, 300e3):
        for start in (0.0, -45.0):
            pairs: list[tuple[Result, Result]] = []
            bounds: list[int] = []
            for seed in seeds:
                bench = Bench(density, 1000 + seed)
                fit = uniform(bench, start, 45.0)
                even = bench.result(fit, POINTS)
                pairs.append((even, adaptive(Bench(density, 1000 + seed), even.stated)))
                if start < 0:  # as far as the adaptive scan goes
                    bounds.append(fewest(fit, start, 45.0))
            # "as": to the same stated error as the uniform scan from there to there, deg.
            what = f"adaptive, {density / 1e3:.0f}/mm, as {start:g}..45"
            points = float(np.median([ours.points for _, ours in pairs]))
            yield Row(f"{what}: points", "median", points, "46 even; goal 0.45", POINTS)
            if bounds:
                least = float(np.median(bounds))
                yield Row("- points, knowing everything", "median", least, "46 even", POINTS)
            rms = [float(np.sqrt(np.mean([r.true**2 for r in side]))) for side in zip(*pairs, strict=True)]
            yield Row(f"{what}: true error", "%, rms", 100 * rms[1], "46 even", 100 * rms[0])
            stated = [float(np.median([r.stated for r in side])) for side in zip(*pairs, strict=True)]
            yield Row(f"{what}: stated error", "%", 100 * stated[1], "46 even", 100 * stated[0])
