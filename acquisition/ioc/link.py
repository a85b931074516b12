"""What the IOC needs of whatever turns the servo and lights the laser."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from catalog.errors import LunchBoxError

#: The servo's own scale, deg, and the 16-bit words that servo and laser are sent as.
SERVO_SPAN = 180.0
FULL_SCALE = 65535

Progress = Callable[[], Awaitable[None]]


class LinkError(LunchBoxError, ConnectionError):
    """The link to servo and laser is broken."""


class LaserDisarmed(LunchBoxError, PermissionError):
    """Light was asked for, and nobody at the bench has armed the laser."""


class Link(Protocol):
    """A servo on its own scale (0 to 180 deg) and a laser (power 0 to 1).

    Every method may raise `LinkError`; after one that did, the laser stays off until it is asked for again, also when
    the link comes back.
    """

    name: str

    @property
    def position(self) -> float:
        """deg, where the servo is known to be."""

    @property
    def laser(self) -> float:
        """Power, 0 to 1, that the laser is known to have."""

    async def open(self) -> None:
        """Connect. The laser is off when this returns."""

    async def close(self) -> None:
        """Turn the laser off, then disconnect."""

    async def set_laser(self, power: float) -> None:
        """`laser` is then what the hardware made of it."""

    async def move(self, position: float, progress: Progress) -> None:
        """Turn the servo; return when it has settled. `progress` is awaited whenever `position` has changed.

        Cancelling leaves the servo somewhere on its way.
        """

    async def refresh(self) -> None:
        """Repeat the last order: tells the other side that this one lives, and finds out whether the other does.

        `laser` is 0 afterwards if the other side has turned it off meanwhile.
        """


def word(fraction: float) -> int:
    """0 to 1 as an unsigned 16-bit word."""
    return round(fraction * FULL_SCALE)
