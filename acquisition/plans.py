"""What the instrument can be asked to do. Every plan turns the laser off when it ends, however it ends."""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any, get_args

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Triggerable
from bluesky.utils import IllegalMessageSequence, Msg, all_safe_rewind, separate_devices

from acquisition.devices import LaserError, LunchBox, SimulatedBench
from acquisition.frame_file import Background
from acquisition.suspenders import with_laser_armed, with_room
from catalog.errors import LunchBoxError

Plan = Generator[Msg, Any, Any]


class NobodyToAsk(LunchBoxError, RuntimeError):
    """A plan needs an operator's hands, and nobody is at a terminal."""


Detectors = LunchBox | Sequence[Any]
#: deg to either side of 0: angles on both sides know the period twice as well as those of one.
FURTHEST = 45.0


def scan_range(lunchbox: LunchBox, start: float | None = None, stop: float | None = None) -> tuple[float, float]:
    """`start` and `stop` of a scan, deg; in place of None, 45 to that side, or what the servo's limits leave of it."""
    low, high = lunchbox.servo.limits
    return max(-FURTHEST, low) if start is None else start, min(FURTHEST, high) if stop is None else stop


def count(detectors: Detectors, num: int = 1, delay: float = 0.0, *, md: dict[str, Any] | None = None) -> Plan:
    """Take `num` pairs of frames at the angle where the grating is; `delay` s between them.

    As every plan here, it takes the `LunchBox`, or a list of detectors with one in it.
    """
    lunchbox, together = _lunchbox_of(detectors)
    plan = _prepared(lunchbox, bp.count(together, num=num, delay=delay, md=md), points=num)
    return (yield from _laser_off_at_end(lunchbox, plan))


def angle_scan(
    detectors: Detectors,
    *,
    start: float | None = None,
    stop: float | None = None,
    num: int = 46,
    background: Background = "each",
    md: dict[str, Any] | None = None,
) -> Plan:
    """Turn the grating from `start` to `stop` (deg, both included) in `num` points, a pair of frames at each.

    By itself from -45 to 45, as far as the servo's limits allow it (`scan_range`); so do all scans here.

    A background is taken for "each" image, for the "first" one, which is then the background of all events, or for
    "none": such a run has no `lunchbox_background`, and cannot be fitted without one from elsewhere.

    Raises
    ------
    acquisition.devices.AngleLimitError
        An angle is outside the servo's limits; nothing has moved.
    acquisition.devices.LaserError
        The laser is disarmed; nothing has moved.
    catalog.errors.DataRootError
        The disk has no room for the frames; nothing has moved.
    ValueError
        Fewer than one point, or a background that is none of the three.
    """
    lunchbox, together = _lunchbox_of(detectors)
    if num < 1:
        raise ValueError(f"angle_scan: num = {num}: a scan has at least one point.")
    if background not in (modes := get_args(Background)):
        raise ValueError(f"angle_scan: background = {background!r}: it is one of {', '.join(modes)}.")
    start, stop = scan_range(lunchbox, start, stop)
    angles = [float(angle) for angle in np.linspace(start, stop, num)]
    for angle in angles:
        lunchbox.servo.check_value(angle)
    md = {"plan_name": "angle_scan", "background": background, **(md or {})}
    step = _turning_ahead(lunchbox, together, angles)
    scan = bp.scan(together, lunchbox.servo, start, stop, num=num, per_step=step, md=md)
    return (yield from _laser_off_at_end(lunchbox, _prepared(lunchbox, scan, points=num, background=background)))


def up_down_scan(
    detectors: Detectors,
    *,
    start: float | None = None,
    stop: float | None = None,
    num: int = 46,
    md: dict[str, Any] | None = None,
) -> Plan:
    """`angle_scan` from `start` to `stop`, then back through the same angles: what differs is the servo's backlash.

    The angle at the turn is taken once, so that there are 2 `num` - 1 pairs of frames in one run.

    Raises
    ------
    acquisition.devices.AngleLimitError
        An angle is outside the servo's limits; nothing has moved.
    ValueError
        Fewer than two angles.
    """
    lunchbox, together = _lunchbox_of(detectors)
    if num < 2:
        raise ValueError(f"up_down_scan: num = {num}: there and back needs two angles at least.")
    up = [float(angle) for angle in np.linspace(*scan_range(lunchbox, start, stop), num)]
    for angle in up:
        lunchbox.servo.check_value(angle)
    md = {"plan_name": "up_down_scan", **(md or {})}
    angles = [*up, *up[-2::-1]]
    step = _turning_ahead(lunchbox, together, angles)
    scan = bp.list_scan(together, lunchbox.servo, angles, per_step=step, md=md)
    return (yield from _laser_off_at_end(lunchbox, _prepared(lunchbox, scan, points=2 * num - 1)))


def exposure_scan(
    detectors: Detectors,
    exposures: Sequence[float],
    *,
    start: float | None = None,
    stop: float | None = None,
    num: int = 46,
    md: dict[str, Any] | None = None,
) -> Plan:
    """`angle_scan` with a pair of frames of each of `exposures` (s) at every angle.

    The short ones see what saturates, the long ones what is faint; the analysis merges them.

    Raises
    ------
    acquisition.devices.AngleLimitError
        An angle is outside the servo's limits; nothing has moved.
    ValueError
        No exposure, one twice, one that is not a time, or one that the camera's time-out does not wait for.
    """
    lunchbox, together = _lunchbox_of(detectors)
    longest = lunchbox.settings.camera.timeout
    if not exposures or len(set(exposures)) < len(exposures) or not all(0 < time < longest for time in exposures):
        raise ValueError(
            f"exposure_scan: exposures = {list(exposures)}: each once, above 0 and below acquisition.camera.timeout "
            f"({longest:g} s)."
        )
    angles = np.linspace(*scan_range(lunchbox, start, stop), num)
    for angle in angles:
        lunchbox.servo.check_value(float(angle))
    md = {"plan_name": "exposure_scan", **(md or {})}
    axes = (lunchbox.servo, [float(angle) for angle in angles], lunchbox.exposure, list(exposures))
    scan = bp.list_grid_scan(together, *axes, snake_axes=False, md=md)
    return (yield from _laser_off_at_end(lunchbox, _prepared(lunchbox, scan, points=num * len(exposures))))


def adaptive_scan(
    detectors: Detectors,
    first: Sequence[float],
    next_angle: Callable[[], float | None],
    *,
    max_points: int = 46,
    approach: float = 0.0,
    md: dict[str, Any] | None = None,
) -> Plan:
    """Turn the grating where it is told to: to the angles of `first` (deg), then wherever `next_angle()` says.

    `next_angle` is called after the events of all points so far were emitted, and ends the scan with None. Every angle
    is come to from below, from `approach` deg at least, so that the servo's play is the same at all of them.

    Raises
    ------
    acquisition.devices.AngleLimitError
        An angle is outside the servo's limits. One of `first`: nothing has moved.
    """
    lunchbox, together = _lunchbox_of(detectors)
    servo = lunchbox.servo
    for angle in first:
        servo.check_value(float(angle))
    metadata = {
        "plan_name": "adaptive_scan",
        "plan_args": {"first": list(first), "max_points": max_points, "approach": approach},
        "detectors": [detector.name for detector in together],
        "motors": [servo.name],
        "hints": {"dimensions": [(servo.hints["fields"], "primary")]},
        **(md or {}),
    }

    @bpp.stage_decorator([*together, servo])
    @bpp.run_decorator(md=metadata)
    def points() -> Plan:
        for taken in range(max_points):
            angle = first[taken] if taken < len(first) else next_angle()
            if angle is None:
                return
            low, before = servo.limits[0], (yield from bps.rd(servo.setpoint))
            if approach and angle < before + approach:
                yield from bps.mv(servo, max(float(angle) - approach, low))
            yield from bps.one_nd_step(together, {servo: float(angle)}, {servo: None})

    return (yield from _laser_off_at_end(lunchbox, _prepared(lunchbox, points(), points=max_points)))


def calibrate(detectors: Detectors, *, bench: SimulatedBench | None = None, md: dict[str, Any] | None = None) -> Plan:
    """Record the square target, laser off and room light on: it tells how large a pixel is on the screen.

    On the simulated bench the target is put on and taken off by its PV; on a real one the operator is asked.

    Raises
    ------
    NobodyToAsk
        A real bench, and no terminal at which somebody could put the target on the screen.
    """
    lunchbox, together = _lunchbox_of(detectors)
    metadata = {
        "plan_name": "calibrate",
        "detectors": [detector.name for detector in together],
        "num_points": 1,
        "hints": {},
        **(md or {}),
    }

    @bpp.stage_decorator(together)
    @bpp.run_decorator(md=metadata)
    def exposure() -> Plan:
        # Within the run: its metadata were accepted. `unstage` gives the power back, whatever ends the plan.
        if bench is not None:
            yield from bps.mv(bench.target, 1)
        else:
            yield from _ask("Put the square target on the screen, switch the room light on, then press Enter. ")
        yield from bps.mv(lunchbox.power, 0.0)
        yield from bps.trigger_and_read(together)

    def target_off() -> Plan:
        if bench is not None:
            yield from bps.mv(bench.target, 0)

    result = yield from _laser_off_at_end(lunchbox, bpp.finalize_wrapper(exposure(), target_off))
    if bench is None:
        print("Take the target off the screen before the next scan.")
    return result


def _turning_ahead(lunchbox: LunchBox, detectors: Sequence[Any], angles: Sequence[float]) -> Callable[..., Plan]:
    """The `per_step` of a scan over `angles`: `one_nd_step`, but the servo turns on while frames are written.

    Each step sets its own angle too, as ever: a plan that is resumed begins its point anew, at its angle. These are
    plain messages: each of bluesky's stubs prints the whole stack into a string, a third of the RunEngine's time.
    """
    servo = lunchbox.servo
    following = iter([*angles[1:], None])
    # The others are read before it turns; what LunchBox reads was measured.
    readable = sorted(separate_devices([*detectors, servo]), key=lambda device: device is lunchbox)
    rewindable = all_safe_rewind(readable)

    def step(detectors: Sequence[Any], step: dict[Any, float], pos_cache: dict[Any, float | None]) -> Plan:
        yield Msg("checkpoint")
        yield Msg("set", servo, step[servo], group="turn")
        yield Msg("wait", group="turn")
        yield from bpp.rewindable_wrapper(reading(next(following)), rewindable)

    def reading(angle: float | None) -> Plan:
        for device in readable:
            if isinstance(device, Triggerable):
                yield Msg("trigger", device, group="frames")
        yield Msg("wait", group="frames")
        yield Msg("create", name="primary")
        try:
            for device in readable:
                if device is lunchbox and angle is not None:
                    yield Msg("set", servo, angle, ahead=True)
                yield Msg("read", device)
        except Exception:
            # Else the baseline at the run's end could not be read. A plan that was suspended has dropped it already.
            with contextlib.suppress(IllegalMessageSequence):
                yield Msg("drop")
            raise
        yield Msg("save")

    return step


def _ask(question: str) -> Plan:
    if not (sys.stdin.isatty() or hasattr(builtins, "__IPYTHON__")):
        raise NobodyToAsk("calibrate needs somebody who puts the target on the screen: run it in a terminal.")
    yield from bps.input_plan(question)


def _lunchbox_of(detectors: Detectors) -> tuple[LunchBox, list[Any]]:
    together = [detectors] if isinstance(detectors, LunchBox) else list(detectors)
    found = [detector for detector in together if isinstance(detector, LunchBox)]
    if len(found) != 1:
        raise ValueError(f"this plan needs one LunchBox among its detectors, and got {together}.")
    return found[0], together


def _prepared(lunchbox: LunchBox, plan: Plan, *, points: int, background: Background = "each") -> Plan:
    """What can be known before anything moves, whether there may be light and how much the file will hold, is said.

    What changes on the way suspends the plan: a laser that is disarmed, a disk that others fill.
    """
    plan = with_room(lunchbox, plan)
    if lunchbox.power.get():
        lunchbox.laser.require_armed()
        plan = with_laser_armed(lunchbox, plan)
    # `unstage` gives both back, whatever ends the plan.
    yield from bps.mv(lunchbox.planned_points, points, lunchbox.background_mode, background)
    return (yield from plan)


def _laser_off_at_end(lunchbox: LunchBox, plan: Plan) -> Plan:
    def laser_off() -> Plan:
        # What ended the plan is what is to be said, not that the IOC is gone here too: its watchdog has the laser.
        with contextlib.suppress(LaserError):
            lunchbox.laser.off()
        yield from bps.null()

    return (yield from bpp.finalize_wrapper(plan, laser_off))
