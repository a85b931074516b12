"""Spots and fits in memory, one core, against the tutorial's way, trackpy and photutils on the same frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from benchmarks.table import Row, seconds

PAIRS = 60


def rows() -> Iterator[Row]:
    """A minute at most."""
    import cv2

    from analysis import find_spots, fit_grating
    from analysis.fit import fit_spots
    from lunchbox.validation.peers import finders, tutorial_period
    from lunchbox.validation.trials import KINDS, photograph

    cv2.setNumThreads(1)
    trial = photograph(next(kind for kind in KINDS if kind.name == "two orders"), 1)
    scan = trial.scan
    image, background = scan.pair(10)
    places = np.rint(list(trial.orders[10].values()))
    ours = 1 / seconds(lambda: find_spots(image, background), repeat=10)
    for name, finder in finders().items():
        theirs = 1 / seconds(lambda finder=finder: finder(image, background, places))
        yield Row(f"find_spots, {len(places)} spots", "pairs/s", ours, name, theirs)
    one, two = (_rate(find_many, processes) for processes in (1, 2))
    yield Row("find_spots, two processes", "pairs/s", two, "one process", one)
    alone, both = (_rate(spin_many, processes) for processes in (1, 2))
    yield Row("find_spots, gain of two processes", "x", two / one, "an empty loop's", both / alone)

    spots = [find_spots(*scan.pair(i)) for i in range(len(scan))]
    fit = seconds(lambda: fit_spots(scan, spots, image.shape))
    yield Row("fit of 46 frames' spots", "fits/s", 1 / fit)
    yield Row(
        "fit_grating, 46 frames",
        "fits/s",
        1 / seconds(lambda: fit_grating(scan)),
        "the tutorial's, 17 % off",
        1 / seconds(lambda: tutorial_period(scan)),
    )


def _rate(work: Callable[[int], None], processes: int) -> float:
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # Each has rendered its frames before the clock starts.
        list(pool.map(work, [1] * processes * 2, chunksize=1))
        began = time.perf_counter()
        list(pool.map(work, [PAIRS] * processes))
        return processes * PAIRS / (time.perf_counter() - began)


def spin_many(count: int) -> None:
    """Count, and touch no memory: what two processes can gain on this machine."""
    for _ in range(count * 200_000):
        pass


_pair: list[np.ndarray] = []


def find_many(count: int) -> None:
    """Find the spots of one pair of frames, `count` times."""
    import cv2

    from analysis import find_spots
    from lunchbox.validation.trials import KINDS, photograph

    if not _pair:
        cv2.setNumThreads(1)
        _pair.extend(photograph(KINDS[0], 1, np.array([10.0])).scan.pair(0))
    for _ in range(count):
        find_spots(*_pair)
