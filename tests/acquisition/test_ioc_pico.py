"""The Pico's line, with a pseudo-terminal for the cable and a thread for the firmware."""

from __future__ import annotations

import asyncio
import os
import select
import threading
import time
import tty
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ioc import Client, running_ioc

from acquisition.ioc.link import LinkError
from acquisition.ioc.pico import PicoLink
from acquisition.ioc.settings import IOCSettings, Pico


class Firmware:
    """Answers orders on the far end of a cable; can be unplugged, deaf, or talk nonsense."""

    def __init__(self) -> None:
        self.orders: list[tuple[int, int]] = []
        self.reply: bytes | None = None
        self.deaf = False
        self.plug()

    def plug(self) -> None:
        self._near, self._far = os.openpty()
        tty.setraw(self._far)
        self.device = os.ttyname(self._far)
        self._plugged = True
        self._thread = threading.Thread(target=self._serve, args=(self._near,), daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        self._plugged = False
        self._thread.join(2)
        os.close(self._far)
        os.close(self._near)

    def _serve(self, line: int) -> None:
        buffer = b""
        while self._plugged:
            if not select.select([line], [], [], 0.01)[0]:
                continue
            try:
                buffer += os.read(line, 256)
                while b"\r\n" in buffer:
                    order, buffer = buffer.split(b"\r\n", 1)
                    laser, servo = map(int, order.split())
                    self.orders.append((laser, servo))
                    if not self.deaf:
                        os.write(line, self.reply or b"OK %d %d\r\n" % (laser, servo))
            except OSError:
                return


@pytest.fixture
def firmware() -> Iterator[Firmware]:
    firmware = Firmware()
    yield firmware
    firmware.unplug()


def link_to(firmware: Firmware, **changes) -> PicoLink:
    return PicoLink(Pico(device=firmware.device, timeout=0.3, travel_time=0, settle_time=0, **changes))


async def no_progress() -> None:
    pass


def test_the_first_order_turns_the_laser_off(firmware):
    async def session():
        link = link_to(firmware)
        await link.open()
        await link.close()

    asyncio.run(session())
    assert firmware.orders == [(0, 32768), (0, 32768)]


@settings(max_examples=30, deadline=None)
@given(power=st.floats(0, 1), angle=st.floats(0, 180))
def test_orders_are_what_was_asked_for_to_half_a_count(power, angle):
    firmware = Firmware()

    async def session():
        link = link_to(firmware)
        await link.set_laser(power)
        actual = link.laser
        await link.move(angle, no_progress)
        await link.close()
        return actual, link.position

    try:
        actual, position = asyncio.run(session())
    finally:
        firmware.unplug()
    assert firmware.orders[1] == (round(power * 65535), round(angle / 180 * 65535))
    assert actual == pytest.approx(power, abs=0.5001 / 65535)
    assert position == pytest.approx(angle, abs=0.5001 * 180 / 65535)
    assert firmware.orders[-1][0] == 0, "the laser is off when the link is closed"


def test_the_readback_is_the_firmwares_answer(firmware):
    firmware.reply = b"OK 1000 16384\r\n"

    async def session():
        link = link_to(firmware)
        await link.set_laser(1.0)
        return link.laser, link.position

    power, position = asyncio.run(session())
    assert power == 1000 / 65535
    assert position == pytest.approx(45, abs=0.002)


def test_firmware_that_does_not_answer_by_design_is_believed(firmware):
    firmware.deaf = True

    async def session():
        link = link_to(firmware, acknowledged=False)
        await link.set_laser(0.5)
        return link.laser

    assert asyncio.run(session()) == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (b"ERR range\r\n", "answered b'ERR range"),
        (b"OK 1\r\n", "answered b'OK 1"),
        (b"OK x y\r\n", "OK x y"),
        (b"OK 70000 1\r\n", "OK 70000"),
    ],
)
def test_nonsense_is_a_named_error(firmware, reply, complaint):
    firmware.reply = reply

    async def session():
        await link_to(firmware).open()

    with pytest.raises(LinkError, match=complaint):
        asyncio.run(session())


def test_a_motion_that_is_cut_short_by_another_is_not_said_to_have_ended_early(firmware):
    async def session():
        link = PicoLink(Pico(device=firmware.device, timeout=0.3, travel_time=0.01, settle_time=0))
        began = time.monotonic()
        first = asyncio.create_task(link.move(150.0, no_progress))
        await asyncio.sleep(0.1)
        first.cancel()
        # One degree further on; but the servo has most of its sixty still to go.
        await link.move(151.0, no_progress)
        return time.monotonic() - began

    assert asyncio.run(session()) >= 0.6


def test_silence_is_a_named_error_in_time(firmware):
    firmware.deaf = True

    async def session():
        await link_to(firmware).open()

    began = time.monotonic()
    with pytest.raises(LinkError, match="no answer; firmware that never answers needs"):
        asyncio.run(session())
    assert time.monotonic() - began < 3


def test_the_port_is_ours_alone(firmware):
    async def session():
        first, second = link_to(firmware), link_to(firmware)
        await first.open()
        await second.open()

    with pytest.raises(LinkError, match="no other program has the port open"):
        asyncio.run(session())


def test_it_reconnects_with_the_laser_off(firmware, tmp_path):
    cable = tmp_path / "ttyACM0"
    cable.symlink_to(firmware.device)

    async def session():
        link = PicoLink(Pico(device=str(cable), timeout=0.3, travel_time=0, settle_time=0))
        await link.move(135.0, no_progress)
        await link.set_laser(1.0)
        firmware.unplug()
        with pytest.raises(LinkError):
            await link.refresh()
        with pytest.raises(LinkError):
            await link.set_laser(1.0)
        firmware.plug()
        cable.unlink()
        cable.symlink_to(firmware.device)
        firmware.orders.clear()
        await link.refresh()
        await link.close()

    asyncio.run(session())
    assert firmware.orders[0] == (0, round(135 / 180 * 65535)), "the servo stays, the laser does not come back"


def test_a_cable_that_is_pulled_is_an_alarm_and_a_status_and_heals(firmware, tmp_path):
    cable = tmp_path / "ttyACM0"
    cable.symlink_to(firmware.device)
    pico = Pico(device=str(cable), timeout=0.3, travel_time=0, settle_time=0)
    with running_ioc(IOCSettings(link="pico", pico=pico, refresh_period=0.2)) as ioc, Client() as client:
        client.put("SERVO", 30.0)
        assert client.get("SERVO:RBV") == pytest.approx(30, abs=0.003)
        assert firmware.orders[-1][1] == round(120 / 180 * 65535)
        client.put("LASER:ARM", 1)
        client.put("LASER", 1.0)
        firmware.unplug()

        client.put("SERVO", 40.0, wait=False)
        wait_for(lambda: client.alarm("SERVO:RBV") == ("COMM", "INVALID_ALARM"), ioc)
        assert client.alarm("SERVO") == ("WRITE", "MAJOR_ALARM")
        assert client.alarm("LASER:RBV") == ("COMM", "INVALID_ALARM")
        assert client.get("SERVO:DMOV") == 1
        assert client.get("SERVO:RBV") == pytest.approx(30, abs=0.003)
        assert client.get("LASER") == 0
        assert f"Pico at {cable}" in client.text("STATUS")
        assert "Check the USB cable" in client.text("STATUS")

        firmware.plug()
        cable.unlink()
        cable.symlink_to(firmware.device)
        firmware.orders.clear()
        wait_for(lambda: client.alarm("SERVO:RBV") == ("NO_ALARM", "NO_ALARM"), ioc)
        assert client.get("LASER:RBV") == 0
        assert "link is back" in client.text("STATUS")
        assert {laser for laser, _ in firmware.orders} == {0}
        client.put("LASER", 0.5)
        time.sleep(0.5)
        assert client.get("LASER:RBV") == pytest.approx(0.5, abs=1e-4)
        client.put("SERVO", 40.0)
        assert client.get("SERVO:RBV") == pytest.approx(40, abs=0.003)


def test_the_simulation_is_not_in_a_real_benchs_ioc(firmware):
    pico = Pico(device=firmware.device)
    with (
        running_ioc(IOCSettings(link="pico", pico=pico)),
        Client(timeout=0.5) as client,
        pytest.raises(TimeoutError),
    ):
        client.pv("SIM:SHAFT")


def test_the_firmware_hears_from_an_idle_ioc(firmware):
    """Its own time-out turns the laser off when it does not."""
    pico = Pico(device=firmware.device)
    with running_ioc(IOCSettings(link="pico", pico=pico, refresh_period=0.1)), Client() as client:
        client.put("LASER:ARM", 1)
        client.put("LASER", 0.5)
        firmware.orders.clear()
        time.sleep(1.0)
        assert len(firmware.orders) >= 5
        assert set(firmware.orders) == {(32768, 32768)}


def wait_for(condition, ioc, timeout=3.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, ioc.log
        time.sleep(0.02)


def test_a_laser_lit_after_a_fault_is_not_denied_by_the_readback(firmware, tmp_path):
    cable = tmp_path / "ttyACM0"
    cable.symlink_to(firmware.device)
    pico = Pico(device=str(cable), timeout=0.3, travel_time=0, settle_time=0)
    with running_ioc(IOCSettings(link="pico", pico=pico, refresh_period=1.0)) as ioc, Client() as client:
        client.put("LASER:ARM", 1)
        client.put("SERVO", 1.0)
        firmware.unplug()
        client.put("SERVO", 2.0, wait=False)
        wait_for(lambda: client.alarm("LASER:RBV") == ("COMM", "INVALID_ALARM"), ioc)
        firmware.plug()
        cable.unlink()
        cable.symlink_to(firmware.device)
        client.put("LASER", 0.5)
        wait_for(lambda: "link is back" in client.text("STATUS"), ioc)
        assert client.get("LASER:RBV") == pytest.approx(0.5, abs=1e-4)
        assert client.alarm("LASER:RBV") == ("NO_ALARM", "NO_ALARM")
