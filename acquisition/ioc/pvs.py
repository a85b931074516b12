"""The process variables, and the laser's watchdog.

With the prefix `LUNCHBOX:`

==================  ====  ==================================================================================
`SERVO`             deg   setpoint; a put completes when the servo has settled; the latest setpoint wins
`SERVO:RBV`         deg   where the servo is; COMM/INVALID alarm while the link is broken
`SERVO:DMOV`              1: settled, 0: moving
`LASER`                   power, 0 to 1; TIMEOUT/MAJOR alarm after the watchdog turned it off
`LASER:RBV`               power that the laser has; COMM/INVALID alarm while the link is broken
`LASER:ARM`               1: somebody at the bench allows light; 0: LASER stays 0; a real bench starts with 0
`HEARTBEAT`               any put says that a client lives; needed while the laser is on
`WATCHDOG`          s     without a heartbeat (or a put to LASER) for so long, the laser is turned off
`STATUS`                  the last event worth telling, text
`SIM:SHAFT`         deg   where the grating really is   (simulated link only)
`SIM:TARGET`              1: the calibration target is on the screen and the room light is on (simulated link only)
==================  ====  ==================================================================================

A put outside the limits, or of light while the laser is disarmed, is refused: the client gets ECA_PUTFAIL and the PV a
WRITE/MAJOR alarm until the next good put. A put that the link could not carry out ends in the same way, DMOV returns
to 1, and STATUS says why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from caproto import AlarmSeverity, AlarmStatus, ChannelType, SkipWrite
from caproto.server import PVGroup, pvproperty

from acquisition.ioc.link import LaserDisarmed, Link, LinkError
from acquisition.ioc.settings import IOCSettings
from acquisition.ioc.simulated import SimulatedLink

log = logging.getLogger("lunchbox.ioc")

_NO_ALARM = {"status": AlarmStatus.NO_ALARM, "severity": AlarmSeverity.NO_ALARM}
_LINK_BROKEN = {"status": AlarmStatus.COMM, "severity": AlarmSeverity.INVALID_ALARM}
_NO_HEARTBEAT = {"status": AlarmStatus.TIMEOUT, "severity": AlarmSeverity.MAJOR_ALARM}
_STATUS_LENGTH = 512


def _pv(name: str, *, doc: str, record: str, **options: Any) -> Any:
    # An alarm group each: PVs of one group share their alarm.
    return pvproperty(name=name, doc=doc, record=record, alarm_group=name, **options)


async def _fill_fields(channel: Any) -> None:
    """Give a PV's record fields (.DESC, .EGU, .DRVL, .DRVH) what caproto tells only as metadata."""
    await channel.fields["DESC"].write(channel.__doc__)
    if hasattr(channel, "units"):
        await channel.fields["EGU"].write(channel.units)
    if "DRVH" in channel.fields:
        await channel.fields["DRVL"].write(channel.lower_ctrl_limit)
        await channel.fields["DRVH"].write(channel.upper_ctrl_limit)


class BenchIOC(PVGroup):
    """The PVs that every link has."""

    servo = _pv("SERVO", doc="Servo angle setpoint", record="ao", value=0.0, units="deg", precision=3)
    servo_readback = _pv(
        "SERVO:RBV", doc="Servo angle", record="ai", value=0.0, units="deg", precision=3, read_only=True
    )
    servo_done = _pv(
        "SERVO:DMOV",
        doc="Servo has settled",
        record="longin",
        value=1,
        read_only=True,
        lower_disp_limit=0,
        upper_disp_limit=1,
    )
    laser = _pv(
        "LASER",
        doc="Laser power setpoint, 1 is full power",
        record="ao",
        value=0.0,
        precision=4,
        lower_ctrl_limit=0.0,
        upper_ctrl_limit=1.0,
        lower_disp_limit=0.0,
        upper_disp_limit=1.0,
    )
    laser_readback = _pv(
        "LASER:RBV",
        doc="Laser power, 1 is full power",
        record="ai",
        value=0.0,
        precision=4,
        read_only=True,
        lower_disp_limit=0.0,
        upper_disp_limit=1.0,
    )
    arm = _pv(
        "LASER:ARM",
        doc="The laser may shine",
        record="longout",
        value=0,
        lower_ctrl_limit=0,
        upper_ctrl_limit=1,
        lower_disp_limit=0,
        upper_disp_limit=1,
    )
    heartbeat = _pv("HEARTBEAT", doc="A client lives", record="longout", value=0)
    watchdog = _pv(
        "WATCHDOG",
        doc="Heartbeat time-out of the laser",
        record="ao",
        value=2.0,
        units="s",
        precision=1,
        lower_ctrl_limit=0.1,
        upper_ctrl_limit=10.0,
        lower_disp_limit=0.1,
        upper_disp_limit=10.0,
    )
    status = _pv(
        "STATUS",
        doc="What happened last",
        record="waveform",
        value="starting",
        dtype=ChannelType.CHAR,
        max_length=_STATUS_LENGTH,
        read_only=True,
    )

    def __init__(self, prefix: str, *, settings: IOCSettings, link: Link) -> None:
        super().__init__(prefix)
        self._settings = settings
        self._link = link
        self._motion: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._last_sign_of_life = time.monotonic()
        self._link_broken = False
        self._closing = False

    async def start(self) -> None:
        """Connect the link, laser off, and fill in what the class does not know."""
        low, high = self._settings.low_limit_deg, self._settings.high_limit_deg
        for channel in (self.servo, self.servo_readback):
            await channel.write_metadata(lower_disp_limit=low, upper_disp_limit=high)
        await self.servo.write_metadata(lower_ctrl_limit=low, upper_ctrl_limit=high)
        for channel in self.attr_pvdb.values():
            await _fill_fields(channel)
        await self.watchdog.write(self._settings.watchdog)
        await self._link.open()
        await self._publish_position()
        await self.servo.write(self.servo_readback.value, verify_value=False)
        await self._tell(f"ready: {self._link.name}, laser off, {self._arming(self.arm.value)}")

    async def shut_down(self) -> None:
        """Turn the laser off for good."""
        if self._motion is not None:
            self._motion.cancel()
        # A put that still arrives must not light it again.
        self._closing = True
        try:
            await self._link.close()
        except LinkError as error:
            log.error("the laser may still be on: %s", error)
        else:
            log.info("laser off, link closed")

    async def guard(self) -> None:
        """Watch the heartbeat, and the link, until cancelled."""
        last_refresh = time.monotonic()
        while True:
            await asyncio.sleep(min(0.1, self.watchdog.value / 10))
            if self.laser.value > 0 and time.monotonic() - self._last_sign_of_life > self.watchdog.value:
                await self._laser_off_without_heartbeat()
            if time.monotonic() - last_refresh >= self._settings.refresh_period:
                await self._refresh()
                last_refresh = time.monotonic()

    # Nothing waits between an answer of the link and the PVs that tell it, so their order is the order of the answers.

    @servo.putter  # type: ignore[no-redef]
    async def servo(self, instance: Any, angle: float) -> None:
        if self._motion is not None:
            self._motion.cancel()
        motion = asyncio.create_task(self._link.move(angle + self._settings.zero_deg, self._publish_position))
        self._motion = motion
        self._settled.clear()
        # The setpoint is seen at once, not when the servo has arrived.
        await instance.write(angle, verify_value=False)
        await self.servo_done.write(0)
        failure: LinkError | None = None
        try:
            await motion
        except asyncio.CancelledError:
            if self._motion is motion:
                raise
        except LinkError as error:
            failure = error
        if self._motion is motion:
            await (self._publish_position() if failure is None else self._link_fault(failure))
            await self._motion_over()
        else:
            # A newer setpoint won; this put is over when that motion is.
            await self._settled.wait()
        if failure is not None:
            raise failure
        raise SkipWrite

    @laser.putter  # type: ignore[no-redef]
    async def laser(self, instance: Any, power: float) -> float:
        if self._closing:
            raise LinkError("the IOC is shutting down, with the laser off. Start it again with `lunchbox ioc`.")
        if power > 0 and not self.arm.value:
            raise LaserDisarmed(f"{self.prefix}LASER: the laser is {self._arming(0)}.")
        self._last_sign_of_life = time.monotonic()
        try:
            await self._link.set_laser(power)
        except LinkError as error:
            await self._link_fault(error)
            raise
        await self.laser_readback.write(self._link.laser, **_NO_ALARM)
        return power

    @arm.putter  # type: ignore[no-redef]
    async def arm(self, instance: Any, armed: int) -> int:
        # Before the laser is turned off: a put of light that waits for the link meanwhile is not to win.
        await instance.write(armed, verify_value=False)
        if not armed:
            await self._laser_off(_NO_ALARM)
        await self._tell(f"laser {self._arming(armed)}")
        raise SkipWrite

    @heartbeat.putter  # type: ignore[no-redef]
    async def heartbeat(self, instance: Any, count: int) -> int:
        self._last_sign_of_life = time.monotonic()
        return count

    async def _publish_position(self) -> None:
        await self.servo_readback.write(self._link.position - self._settings.zero_deg, **_NO_ALARM)

    async def _motion_over(self) -> None:
        self._motion = None
        self._settled.set()
        await self.servo_done.write(1)

    def _arming(self, armed: int) -> str:
        if armed:
            return "armed"
        return (
            "disarmed: see that nobody can look into the beam, then give the command `lunchbox arm`, or put 1 to "
            f"{self.prefix}LASER:ARM"
        )

    async def _laser_off(self, alarm: dict[str, Any]) -> bool:
        """Turn it off, whoever wanted it; whether the link did so."""
        try:
            await self._link.set_laser(0.0)
        except LinkError as error:
            await self._link_fault(error)
            return False
        await self.laser_readback.write(self._link.laser, **alarm)
        await self.laser.write(0.0, verify_value=False, **alarm)
        return True

    async def _laser_off_without_heartbeat(self) -> None:
        if await self._laser_off(_NO_HEARTBEAT):
            await self._tell(
                f"laser off: no heartbeat for {self.watchdog.value:g} s. The client that lit it died, hangs, or does "
                f"not write {self.prefix}HEARTBEAT."
            )

    async def _refresh(self) -> None:
        try:
            await self._link.refresh()
        except LinkError as error:
            if not self._link_broken:
                await self._link_fault(error)
            return
        if self.laser.value > 0 and self._link.laser == 0 and not self._link_broken:
            await self.laser_readback.write(0.0, **_NO_HEARTBEAT)
            await self.laser.write(0.0, verify_value=False, **_NO_HEARTBEAT)
            await self._tell(
                f"the Pico turned the laser off: it had no order for too long. Keep ioc.refresh_period "
                f"({self._settings.refresh_period:g} s) well below its time-out."
            )
        if self._link_broken:
            self._link_broken = False
            await self._publish_position()
            # A client may have lit it again since.
            await self.laser_readback.write(self._link.laser, **_NO_ALARM)
            await self._tell(f"link is back: {self._link.name}")

    async def _link_fault(self, error: LinkError) -> None:
        self._link_broken = True
        await self.servo_readback.write(self.servo_readback.value, **_LINK_BROKEN)
        await self.laser_readback.write(self.laser_readback.value, **_LINK_BROKEN)
        # The link comes back with the laser off, and so says the setpoint.
        await self.laser.write(0.0, verify_value=False, **_LINK_BROKEN)
        await self._tell(str(error))

    async def _tell(self, text: str) -> None:
        log.info("%s", text)
        await self.status.write(text[:_STATUS_LENGTH])


class SimulatedBenchIOC(BenchIOC):
    """The same, and what a simulated camera needs to know of the world that it looks at."""

    _link: SimulatedLink

    shaft = _pv(
        "SIM:SHAFT", doc="True angle of the grating's shaft", record="ai", value=0.0, units="deg", precision=4,
        read_only=True,
    )  # fmt: skip
    target = _pv(
        "SIM:TARGET",
        doc="Calibration target is on the screen",
        record="longout",
        value=0,
        lower_ctrl_limit=0,
        upper_ctrl_limit=1,
        lower_disp_limit=0,
        upper_disp_limit=1,
    )

    async def start(self) -> None:
        await self.arm.write(int(self._settings.simulated.armed), verify_value=False)
        await super().start()

    async def _publish_position(self) -> None:
        await self.shaft.write(self._link.shaft - self._settings.zero_deg)
        await super()._publish_position()
