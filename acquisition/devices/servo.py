"""The servo that turns the grating."""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from ophyd import Component as Cpt
from ophyd import EpicsSignal, EpicsSignalRO, PVPositionerPC
from ophyd.status import DeviceStatus, StatusBase, StatusTimeoutError
from ophyd.utils import InvalidState, LimitError

from acquisition.devices.connection import ANSWER_TIMEOUT
from acquisition.settings import ServoSettings
from catalog.errors import LunchBoxError

_MONITORS_FOLLOW = 0.005  # s; later than that, the IOC is asked


class ServoError(LunchBoxError, RuntimeError):
    """The servo is not where it was sent; the message gives setpoint, readback and tolerance."""


class AngleLimitError(LunchBoxError, LimitError):
    """An angle outside the IOC's soft limits; nothing has moved."""


class Servo(PVPositionerPC):
    """Turns the grating; degrees. A move is done when the put completes *and* the readback agrees."""

    setpoint = Cpt(EpicsSignal, "", limits=True, auto_monitor=True)
    readback = Cpt(EpicsSignalRO, ":RBV", kind="hinted", auto_monitor=True)
    done = Cpt(EpicsSignalRO, ":DMOV", kind="omitted", auto_monitor=True)

    def __init__(self, *args: Any, settings: ServoSettings | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.settings = settings or ServoSettings()
        self.readback.name = self.name
        self._travelling: DeviceStatus | None = None
        self._target: float | None = None  # of the last move that was asked for here
        self._begun: tuple[float, DeviceStatus] | None = None  # ahead of whoever will wait for it
        self._sent = DeviceStatus(self)
        self._sent.set_finished()
        self.setpoint.subscribe(self._connection_changed, event_type=self.setpoint.SUB_META, run=False)

    def _repr_info(self) -> Iterator[tuple[str, Any]]:
        # Runs record this as their motor; and the RunEngine asks with each message.
        yield "prefix", self.prefix
        yield "name", self.name

    def describe(self) -> OrderedDict[str, Any]:
        """As of any positioner, with the setpoint's limits on the readback, whose own read 0 and 0."""
        described = super().describe()
        limits = dict(zip(("lower_ctrl_limit", "upper_ctrl_limit"), map(float, self.limits), strict=True))
        described[self.name] = {**described[self.name], **limits}
        return described

    def check_value(self, pos: float) -> None:
        """Refuse an angle that the IOC would refuse.

        Raises
        ------
        AngleLimitError
            Outside the soft limits of the setpoint's PV.
        """
        low, high = self.limits
        if not low <= pos <= high:
            raise AngleLimitError(
                f"{self.setpoint.pvname}: {pos:g} deg is outside {low:g} .. {high:g} deg. "
                "Stay inside, or widen ioc.low_limit_deg and ioc.high_limit_deg where the mechanics allow it."
            )

    def stage(self) -> list[object]:
        """Forget a move that was begun ahead in a plan that is over."""
        self._begun = None
        return list(super().stage())

    def set(self, new_position: float, *, timeout: float | None = None, ahead: bool = False, **_: Any) -> DeviceStatus:
        """Move; the returned status fails with `ServoError` unless the servo arrives.

        With `ahead` it is done at once, and the next `set` of this angle tells what became of the move.
        """
        self.check_value(new_position)
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == new_position and not self._left(*begun):
            move = begun[1]
        else:
            move = self._start(new_position, timeout or self.settings.timeout)
        if not ahead:
            return move
        self._begun = new_position, move
        return self._sent

    def _start(self, angle: float, timeout: float) -> DeviceStatus:
        motion, arrived = DeviceStatus(self, timeout=timeout), DeviceStatus(self)
        self._travelling = arrived
        self._target = angle

        def verify(motion: StatusBase) -> None:
            failure = motion.exception(timeout=0)
            # It may be over already: the IOC was lost.
            with contextlib.suppress(InvalidState):
                try:
                    if failure is not None or not self._monitors_tell(angle):
                        self.verify(angle, because=failure)
                except Exception as error:
                    arrived.set_exception(error)
                else:
                    arrived.set_finished()

        motion.add_callback(verify)
        self.setpoint.put(angle, wait=False, callback=lambda **_: motion.set_finished())
        return arrived

    def _left(self, angle: float, move: DeviceStatus) -> bool:
        """Whether it came to `angle` and is, perhaps, there no more."""
        return move.done and move.success and not (self.setpoint.get() == angle and self.seems_at(angle))

    def stop(self, *, success: bool = False) -> None:
        """Nothing stops it on its way. With `success`, as when a plan pauses, nobody waits for it any more."""
        if success and self._travelling is not None:
            with contextlib.suppress(InvalidState):
                self._travelling.set_finished()
        super().stop(success=success)

    def _connection_changed(self, *, connected: bool = True, **_: Any) -> None:
        # An IOC that starts again knows nothing of the move, and its servo may stand anywhere.
        if not connected and self._travelling is not None and not self._travelling.done:
            with contextlib.suppress(InvalidState):
                self._travelling.set_exception(
                    ServoError(
                        f"{self.setpoint.pvname}: the IOC was lost with the servo on its way. What was recorded is "
                        "kept. Start it again with `lunchbox ioc`."
                    )
                )

    def commanded(self) -> float:
        """The setpoint, deg; where its monitor does not yet say what was put here last, the IOC is asked."""
        setpoint = float(self.setpoint.get())
        if setpoint != self._target:
            setpoint = float(self.setpoint.get(use_monitor=False, timeout=ANSWER_TIMEOUT))
        return setpoint

    def seems_at(self, angle: float) -> bool:
        """Whether it rests at `angle` by what the monitors told last, which may be a moment old."""
        resting = self.done.get() == self.done_value
        return resting and abs(float(self.readback.get()) - angle) <= self.settings.tolerance

    def _monitors_tell(self, angle: float) -> bool:
        """Whether it `seems_at` angle in the moment by which monitors may follow the end of a put."""
        deadline = time.monotonic() + _MONITORS_FOLLOW
        while not (told := self.seems_at(angle)) and time.monotonic() < deadline:
            time.sleep(_MONITORS_FOLLOW / 10)
        return told

    def verify(self, angle: float, *, because: Exception | None = None) -> float:
        """The readback, deg, fresh from the IOC, if it agrees with `angle`.

        Raises
        ------
        ServoError
            It does not, or the servo says that it still moves, or the move failed.
        """
        try:
            readback = float(self.readback.get(use_monitor=False, timeout=ANSWER_TIMEOUT))
            moving = (
                self.done.get() != self.done_value
                and self.done.get(use_monitor=False, timeout=ANSWER_TIMEOUT) != self.done_value
            )
        except TimeoutError:
            raise ServoError(
                f"{self.readback.pvname}: the IOC stopped answering with the servo on its way to {angle:g} deg. "
                "Start it again with `lunchbox ioc`."
            ) from because
        if because is None and not moving and abs(readback - angle) <= self.settings.tolerance:
            return readback
        reason = "is still moving" if moving else "did not arrive"
        if isinstance(because, StatusTimeoutError):
            reason += f" in {self.settings.timeout:g} s"
        elif because is not None:
            reason += f" ({because})"
        raise ServoError(
            f"{self.setpoint.pvname} {reason}: setpoint {angle:g} deg, readback {readback:g} deg, tolerance "
            f"{self.settings.tolerance:g} deg. Look for a blocked grating, or raise acquisition.servo.timeout."
        )
