"""The Pico's firmware: its logic with a fake `machine`, and the whole of it on a cable, spoken to by the real link."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ioc import Client, running_ioc
from pico import LASER_PIN, SERVO_PIN, Pico
from pico_board import load

from acquisition.ioc.link import LinkError
from acquisition.ioc.pico import PicoLink
from acquisition.ioc.settings import IOCSettings
from acquisition.ioc.settings import Pico as PicoSettings


class Board:
    """The firmware's logic, its pins as they were set, and a clock that is turned by hand."""

    def __init__(self, **constants: int) -> None:
        self.history: list[tuple[int, int]] = []
        self.now = 1000
        module = load(lambda pin, duty: self.history.append((pin, duty)), **constants)
        self.firmware = module.Firmware(self.now)

    def pin(self, number: int) -> int:
        return next(duty for pin, duty in reversed(self.history) if pin == number)

    def order(self, line: str) -> Any:
        return self.firmware.order(line, self.now)

    def later(self, milliseconds: int) -> Any:
        self.now += milliseconds
        return self.firmware.tick(self.now)


def test_at_boot_the_laser_is_dark_before_anything_else_and_the_servo_gets_no_pulse() -> None:
    board = Board()
    assert board.history[0] == (LASER_PIN, 0)
    assert board.pin(SERVO_PIN) == 0


@given(laser=st.integers(0, 65535), servo=st.integers(0, 65535))
def test_an_order_is_carried_out_and_answered(laser: int, servo: int) -> None:
    board = Board()
    assert board.order(f"{laser} {servo}") == f"OK {laser} {servo}\r\n"
    assert board.pin(LASER_PIN) == laser
    assert board.pin(SERVO_PIN) / 65535 == pytest.approx(0.025 + 0.09 * servo / 65535, abs=1 / 65535)


@given(line=st.text(st.characters(max_codepoint=255), max_size=40).filter(lambda text: not text[:1].isdigit()))
def test_what_is_no_order_turns_the_laser_off_and_says_so(line: str) -> None:
    board = Board()
    board.order("65535 100")
    servo = board.pin(SERVO_PIN)
    assert board.order(line).startswith("ERR ")
    assert board.pin(LASER_PIN) == 0
    assert board.pin(SERVO_PIN) == servo


@pytest.mark.parametrize("line", ["65536 0", "0 65536", "-1 0", "0 -1", "5", "1 2 3", "1.0 2", "0x1 2"])
def test_an_order_out_of_range_is_refused(line: str) -> None:
    board = Board()
    board.order("65535 100")
    assert board.order(line).startswith("ERR ")
    assert board.pin(LASER_PIN) == 0


def test_without_an_order_the_laser_goes_off_in_time_and_not_before() -> None:
    board = Board()
    board.order("65535 100")
    board.later(1999)
    assert board.pin(LASER_PIN) == 65535
    board.order("65535 100")
    board.later(1999)
    assert board.pin(LASER_PIN) == 65535, "an order that is repeated keeps it"
    board.later(1)
    assert board.pin(LASER_PIN) == 0


def test_after_a_time_out_the_laser_stays_dark_until_an_order_has_said_so() -> None:
    board = Board()
    board.order("65535 100")
    board.later(2500)
    assert board.order("65535 100") == "OK 0 100\r\n", "light that was interrupted is not given again in silence"
    assert board.pin(LASER_PIN) == 0
    board.order("0 100")
    assert board.order("65535 100") == "OK 65535 100\r\n"
    assert board.pin(LASER_PIN) == 65535


def test_nonsense_is_no_sign_of_life() -> None:
    board = Board()
    board.order("100 100")
    for _ in range(10):
        board.later(300)
        board.order("x")
    assert board.firmware._last_order == 1000


def test_the_answer_waits_for_the_servo_where_that_is_wanted_and_the_laser_does_not() -> None:
    board = Board(SETTLE_MS=200)
    assert board.order("0 30000") is None
    assert board.later(199) is None
    assert board.order("0 30000") is None
    assert board.later(1) == "OK 0 30000\r\n"
    board.order("65535 40000")
    board.order("0 40000")
    assert board.pin(LASER_PIN) == 0, "at once"
    assert board.order("65535 40000") is None


def test_a_client_that_does_not_listen_is_not_talked_to() -> None:
    board = Board(ACKNOWLEDGE=0)
    assert board.order("0 5") is None
    assert board.order("nonsense") is None
    assert board.pin(LASER_PIN) == 0


# On a cable


@pytest.fixture
def pico(tmp_path: Path) -> Iterator[Pico]:
    with Pico(tmp_path, TIMEOUT_MS=600) as pico:
        yield pico


def link_to(pico: Pico) -> PicoLink:
    return PicoLink(PicoSettings(device=str(pico.device), travel_time=0, settle_time=0))


async def no_progress() -> None:
    pass


def test_link_and_firmware_understand_each_other(pico: Pico) -> None:
    async def session() -> None:
        link = link_to(pico)
        await link.open()
        for power, angle in ((1.0, 0.0), (0.25, 90.0), (0.5, 180.0)):
            await link.set_laser(power)
            await link.move(angle, no_progress)
            assert link.laser == pytest.approx(power, abs=1 / 65535)
            assert link.position == pytest.approx(angle, abs=180 / 65535)
            assert pico.laser == round(power * 65535)
            duty = pico.changes(SERVO_PIN)[-1][1] / 65535
            assert duty == pytest.approx(0.025 + 0.09 * angle / 180, abs=2 / 65535)
        await link.close()
        assert pico.laser == 0

    asyncio.run(session())


def test_a_link_that_falls_silent_loses_the_laser_and_is_told_so(pico: Pico) -> None:
    async def session() -> None:
        link = link_to(pico)
        await link.open()
        await link.set_laser(1.0)
        silent = time.monotonic()
        pico.wait_for_laser(False, 3)
        assert 0.5 < pico.changes()[-1][0] - silent < 2.0
        await link.refresh()
        assert link.laser == 0, "the light is not taken for one that was never interrupted"
        await link.set_laser(0.0)
        await link.set_laser(1.0)
        assert (link.laser, pico.laser) == (1.0, 65535)
        await link.close()

    asyncio.run(session())


def test_the_ioc_says_that_the_firmware_turned_the_laser_off(pico: Pico) -> None:
    settings = IOCSettings(
        link="pico",
        pico=PicoSettings(device=str(pico.device), travel_time=0, settle_time=0),
        refresh_period=1.5,  # slower than the firmware is patient
    )
    with running_ioc(settings) as ioc, Client() as client:
        client.put("LASER:ARM", 1)
        client.put("LASER", 1.0)
        deadline = time.monotonic() + 4
        while client.get("LASER:RBV"):
            assert time.monotonic() < deadline, ioc.log
            time.sleep(0.05)
        assert client.get("LASER") == 0
        assert client.alarm("LASER:RBV") == ("TIMEOUT", "MAJOR_ALARM")
        assert "the Pico turned the laser off" in client.text("STATUS")
        client.put("LASER", 0.0)
        client.put("LASER", 1.0)
        assert client.get("LASER:RBV") == 1


def test_ctrl_c_on_the_line_turns_the_laser_off_and_ends_the_program(pico: Pico) -> None:
    async def session() -> None:
        link = link_to(pico)
        await link.open()
        await link.set_laser(1.0)
        port = os.open(pico.device, os.O_RDWR | os.O_NOCTTY)
        os.write(port, b"\x03")
        assert pico.wait_for_laser(False, 0.4) < 0.4
        os.close(port)
        with pytest.raises(LinkError, match="no answer"):
            await link.set_laser(1.0)
        assert pico.laser == 0

    asyncio.run(session())


def test_half_a_line_and_a_line_without_end_do_not_harm_the_next(pico: Pico) -> None:
    async def session() -> None:
        link = link_to(pico)
        await link.open()
        await link.set_laser(1.0)
        port = os.open(pico.device, os.O_RDWR | os.O_NOCTTY)
        os.write(port, b"9" * 5000 + b"\r\n")
        pico.wait_for_laser(False, 2)
        os.close(port)
        await link.set_laser(0.0)
        await link.set_laser(0.5)
        assert pico.laser == 32768
        await link.close()

    asyncio.run(session())
