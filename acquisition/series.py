"""Plans made of plans: the same again, at intervals, or to find out where the bench stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp

from acquisition.devices import LunchBox
from acquisition.plans import Detectors, Plan, adaptive_scan, count


def time_series(detectors: Detectors, *, duration: float, period: float, md: dict[str, Any] | None = None) -> Plan:
    """Pairs of frames where the grating stands, one every `period` s for `duration` s: how the bench drifts.

    A pair that takes longer than `period` delays the next one; none is left out.

    Raises
    ------
    ValueError
        Not a positive duration and period.
    """
    if not (duration > 0 and period > 0):
        raise ValueError(f"time_series: {duration:g} s, every {period:g} s: both are times above 0.")
    num = int(duration / period + 1e-9) + 1
    md = {"plan_name": "time_series", "period": period, **(md or {})}
    return (yield from count(detectors, num=num, delay=period, md=md))


def repeat(plan: Callable[[], Plan], *, num: int, md: dict[str, Any] | None = None) -> Plan:
    """`num` times `plan()`, each with runs of its own, which name their `series_uid` and their number in it.

    The scatter of their fits tells whether the stated errors hold.

    Returns
    -------
    list
        What each of the plans returned.
    """
    if num < 1:
        raise ValueError(f"repeat: num = {num}: once at least.")
    series = str(uuid4())
    results = []
    for index in range(num):
        own = {"series_uid": series, "series_index": index, "series_length": num, **(md or {})}
        results.append((yield from bpp.inject_md_wrapper(plan(), own)))
    return results


def align(
    lunchbox: LunchBox, angles: Sequence[float], zero: Callable[[], float], *, md: dict[str, Any] | None = None
) -> Plan:
    """Take frames at `angles` (deg), then turn the grating to `zero()`, where the beam meets it at right angles.

    `zero` is called after the run is complete; what it raises leaves the servo where it is.

    Raises
    ------
    acquisition.devices.AngleLimitError
        One of `angles`: nothing has moved. `zero()`: the run is complete.
    """
    md = {"plan_name": "align", **(md or {})}
    result = yield from adaptive_scan(lunchbox, angles, lambda: None, max_points=len(angles), md=md)
    angle = zero()
    lunchbox.servo.check_value(angle)
    yield from bps.mv(lunchbox.servo, angle)
    return result
