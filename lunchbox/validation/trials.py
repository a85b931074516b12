"""Scans of the simulated bench, photographed in memory, with their truth beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from acquisition.bench.classes import SCENE_CLASSES, scene_class
from acquisition.bench.scene import BenchState, Scene
from acquisition.bench.settings import BenchSettings
from analysis import Lens, Scan
from catalog.setup import Setup

#: deg, what a hobby servo's shaft stands off its readback, one standard deviation.
JITTER = 0.2
#: deg and how many: what a scan takes by itself (`acquisition.plans`).
STOP, POINTS = 45.0, 46


@dataclass(frozen=True)
class Kind:
    """A class of scenes, and what is known of the camera that sees them.

    scene : of `acquisition.bench.classes`
    lens : its lens has been calibrated; target : there is a frame that shows the square target
    start : deg, the servo's first angle
    """

    name: str
    scene: str
    lens: bool = False
    target: bool = True
    start: float = -STOP


#: All of `acquisition.bench.classes`; a lens that distorts much has been calibrated, as it must be.
KINDS = (
    *(Kind(name, name, lens=name == "distorted") for name in SCENE_CLASSES),
    Kind("two orders, lens calibrated", "two orders", lens=True),
    Kind("easy, without target", "easy", target=False),
    Kind("two orders, without target", "two orders", target=False),
    Kind("easy, one side", "easy", start=0.0),
    Kind("two orders, one side", "two orders", start=0.0),
)


@dataclass(frozen=True)
class Trial:
    """A scan and the truth about it.

    lambda_over_d : g of the bench
    orders : of each frame {order: (x, y), px} of the orders whose centre is in it
    """

    scan: Scan
    lambda_over_d: float
    orders: Sequence[Mapping[int, tuple[float, float]]]


def photograph(kind: Kind, seed: int, angles: Any = None) -> Trial:
    """A trial, at the kind's angles or others (deg); only red is kept, which is all that the analysis looks at."""
    settings = scene_class(kind.scene, seed=seed)
    bench = Scene(settings)
    angles = np.linspace(kind.start, STOP, POINTS) if angles is None else np.asarray(angles, float)
    shaft = angles + np.random.default_rng([seed, 1]).normal(0, JITTER, len(angles))
    states = [(BenchState(s, 1.0), BenchState(s, 0.0)) for s in shaft]
    pairs = [(bench.render(lit)[..., 0], bench.render(dark)[..., 0]) for lit, dark in states]
    truth = bench.truth()
    scan = Scan(
        images=np.stack([image for image, _ in pairs]),
        backgrounds=np.stack([background for _, background in pairs]),
        angles=angles,
        setup=Setup(groove_density=settings.groove_density),
        calibration=bench.render(BenchState(0.0, 0.0, target=True)) if kind.target else None,
        lens=_lens(settings, truth) if kind.lens else None,
    )
    orders = [{s.order: (s.x, s.y) for s in bench.spots(lit) if s.order is not None} for lit, _ in states]
    return Trial(scan, truth["lambda_over_d"], orders)


def _lens(settings: BenchSettings, truth: Mapping[str, float]) -> Lens:
    focal_length = settings.camera_distance / truth["pixel_size"]
    matrix = [[focal_length, 0, (settings.width - 1) / 2], [0, focal_length, (settings.height - 1) / 2], [0, 0, 1]]
    return Lens(matrix, [truth["k1"], 0.0, 0.0, 0.0])
