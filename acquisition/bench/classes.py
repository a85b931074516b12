"""Named kinds of bench that the analysis must cope with, as changes to the default settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from acquisition.bench.settings import BenchSettings

# About two axes: 10 to 18 deg in all.
_BAD_TILT = (math.radians(10) / math.sqrt(2), math.radians(18) / math.sqrt(2))

#: Each entry is merged into the keywords of `BenchSettings`.
SCENE_CLASSES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "easy": {},
        "saturated": {"truth": {"zero_order_ratio": (6.0, 12.0)}},
        "ghost": {"ghosts": 3},
        "dim": {"truth": {"peak": (10.0, 20.0)}},
        "distorted": {"truth": {"k1": (-0.25, -0.12), "camera_tilt_x": _BAD_TILT, "camera_tilt_y": _BAD_TILT}},
        "flicker": {"flicker": 0.08, "flicker_bands": 0.04},
        "two orders": {"groove_density": 300e3},
        "off-centre": {
            "truth": {
                "zero_order_x": (-0.04, 0.04),
                "zero_order_y": (-0.06, 0.06),
                "target_x": (-0.09, 0.09),
                "target_y": (-0.06, 0.06),
            }
        },
        "missing order": {"groove_density": 300e3, "missing_orders": {2}},
    }
)


def scene_class(name: str, **changes: Any) -> BenchSettings:
    """Settings of a class with changes of your own: `scene_class("ghost", seed=7)`.

    `truth`, when given, is merged into the class's.
    """
    settings = dict(SCENE_CLASSES[name])
    truth = {**settings.get("truth", {}), **changes.pop("truth", {})}
    return BenchSettings.model_validate({**settings, **changes, "truth": truth})
