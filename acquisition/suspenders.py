"""What a scan waits for in the middle of its way, by itself: an armed laser, and room on the disk.

    plan = with_laser_armed(lunchbox, with_room(lunchbox, plan))

Each says on standard error, in one line, what it waits for, and how to go on and to stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg

from acquisition.devices import LunchBox

_POLL = 0.2  # s


def with_laser_armed(lunchbox: LunchBox, plan: Any) -> Any:
    """The plan, suspended while the laser is disarmed; the point that this cut short is taken again."""
    # From here on it can be suspended: there is nothing yet that would have to be done again.
    yield from bps.checkpoint()
    return (yield from bpp.suspend_wrapper(plan, LaserArmed(lunchbox)))


def with_room(lunchbox: LunchBox, plan: Any) -> Any:
    """The plan, which waits before each point whose frames the disk has no room for."""

    def poll() -> Any:
        while lunchbox.shortage():
            yield from bps.sleep(_POLL)

    def wait() -> Any:
        if shortage := lunchbox.shortage():
            _say(f"{shortage}: the scan waits. Free some space, and it goes on by itself; Ctrl-C ends it.")
            # Not to be done again after a pause: it may have been long.
            yield from bpp.rewindable_wrapper(poll(), False)
            _say("there is room again: the scan goes on")

    def before_the_point(msg: Msg) -> tuple[Any, Any]:
        return None, wait() if msg.command == "checkpoint" else None

    return (yield from bpp.plan_mutator(plan, before_the_point))


class LaserArmed:
    """A suspender, as `bluesky.suspenders` has them, that trips when the laser is disarmed, and releases when armed.

    bluesky's own gives up where the RunEngine is busy for 0.1 s, and speaks of a prompt where there may be none. The
    light does not wait for it: the IOC puts it out before anybody is told.
    """

    tripped = False

    def __init__(self, lunchbox: LunchBox) -> None:
        self._armed = lunchbox.laser.armed
        self._engine: RunEngine | None = None
        self._released: asyncio.Event | None = None

    def install(self, engine: RunEngine, **_: Any) -> None:
        for other in engine.suspenders:
            # Of a plan that was halted, which could not take it away.
            if isinstance(other, LaserArmed) and other is not self and other._armed is self._armed:
                engine.remove_suspender(other)
        self._engine = engine
        self._armed.subscribe(self._changed, run=True)

    def remove(self) -> None:
        self._armed.clear_sub(self._changed)
        self._engine = None
        self._release()

    def get_futures(self) -> tuple[list[Any], str]:
        """None: a plan that begins is refused while the laser is disarmed."""
        return [], ""

    def _changed(self, *, value: int, **_: Any) -> None:
        if (engine := self._engine) is not None:
            # In its own thread, whenever it comes to it.
            engine.loop.call_soon_threadsafe(self._follow, bool(value))

    def _follow(self, armed: bool) -> None:
        if armed:
            if self._released is not None:
                _say(f"{self._armed.pvname} is 1: the scan goes on")
            self._release()
        elif self._released is None and self._engine is not None and self._engine.state != "idle":
            self._released = asyncio.Event()
            _say(
                f"{self._armed.pvname} is 0: the laser is off, and the scan waits. See that nobody can look into the "
                "beam, then give the command `lunchbox arm`, and it goes on by itself; Ctrl-C ends it."
            )
            with contextlib.redirect_stdout(io.StringIO()):
                self._engine.request_suspend(self._released.wait)

    def _release(self) -> None:
        # Of a plan that was aborted too: bluesky leaves the task that waits to whoever can end it.
        if self._released is not None:
            self._released.set()
            self._released = None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
