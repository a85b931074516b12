"""What bluesky-queueserver's worker starts with: our RunEngine, devices, and plans that say what they take.

`lunchbox queue` starts the manager with this module. The bench is implied in every plan, so that a queue holds only
what differs: `{"name": "angle_scan", "kwargs": {"num": 46}}`. The ranges that the annotations give are the servo's own:
the manager refuses an item outside of them when it is submitted, not when its turn comes.
"""

# Not from __future__: the manager publishes annotations as they stand, and a string of a type is no type.
from typing import Any, get_args

from bluesky_queueserver import parameter_annotation_decorator

from acquisition import plans, series
from acquisition.frame_file import Background
from acquisition.plans import Plan
from acquisition.session import open_session

_session = open_session()
_low, _high = _session.lunchbox.servo.limits
_START, _STOP = plans.scan_range(_session.lunchbox)

RE = _session.RE
lunchbox = _session.lunchbox
servo = lunchbox.servo

_ANGLE = {"min": float(_low), "max": float(_high)}
_NUMBER = {"min": 1, "max": 100_000}
_SECONDS = {"min": 0.0, "max": 86_400.0}
_BACKGROUND = {"annotation": "Background", "enums": {"Background": get_args(Background)}}


def _takes(**parameters: dict[str, Any]) -> Any:
    return parameter_annotation_decorator({"parameters": parameters})


@_takes(num=_NUMBER, delay=_SECONDS)
def count(num: int = 1, delay: float = 0.0) -> Plan:
    """
    Take pairs of frames at the angle where the grating is.

    Parameters
    ----------
    num : int
        Pairs of frames.
    delay : float
        Seconds from one pair to the next.
    """
    return (yield from plans.count(lunchbox, num=num, delay=delay))


@_takes(start=_ANGLE, stop=_ANGLE, num=_NUMBER, background=_BACKGROUND)
def angle_scan(start: float = _START, stop: float = _STOP, num: int = 46, background: Background = "each") -> Plan:
    """
    Turn the grating from start to stop, a pair of frames at each angle.

    Parameters
    ----------
    start : float
        Degrees.
    stop : float
        Degrees.
    num : int
        Angles, both ends included.
    background : str
        A frame with the laser off is taken at each angle, at the first, or at none.
    """
    return (yield from plans.angle_scan(lunchbox, start=start, stop=stop, num=num, background=background))


@_takes(start=_ANGLE, stop=_ANGLE, num={"min": 2, "max": 100_000})
def up_down_scan(start: float = _START, stop: float = _STOP, num: int = 46) -> Plan:
    """
    Turn the grating from start to stop and back through the same angles, which tells the servo's backlash.

    Parameters
    ----------
    start : float
        Degrees.
    stop : float
        Degrees.
    num : int
        Angles one way, both ends included.
    """
    return (yield from plans.up_down_scan(lunchbox, start=start, stop=stop, num=num))


@_takes(exposures={"min": 1e-5, "max": 60.0}, start=_ANGLE, stop=_ANGLE, num=_NUMBER)
def exposure_scan(exposures: list[float], start: float = _START, stop: float = _STOP, num: int = 46) -> Plan:
    """
    Turn the grating from start to stop, and take a pair of frames of each exposure at each angle.

    Parameters
    ----------
    exposures : list of float
        Seconds.
    start : float
        Degrees.
    stop : float
        Degrees.
    num : int
        Angles, both ends included.
    """
    return (yield from plans.exposure_scan(lunchbox, exposures, start=start, stop=stop, num=num))


@_takes(duration={"min": 0.001, "max": 1e7}, period={"min": 0.001, "max": 86_400.0})
def time_series(duration: float, period: float) -> Plan:
    """
    Take a pair of frames every period for a while, where the grating is: how the bench drifts.

    Parameters
    ----------
    duration : float
        Seconds.
    period : float
        Seconds from one pair to the next.
    """
    return (yield from series.time_series(lunchbox, duration=duration, period=period))


def calibrate() -> Plan:
    """Record the square target; on the simulated bench only, for a queue cannot ask anybody to put it up."""
    return (yield from plans.calibrate(lunchbox, bench=_session.bench))
