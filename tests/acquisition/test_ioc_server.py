"""The IOC as a client sees it: a real process, asked over Channel Access."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ioc import IDEAL, Client, running_ioc

from acquisition.ioc.link import LinkError
from acquisition.ioc.ports import AddressError, IOCRunning, answers, free_port, require_free
from acquisition.ioc.process import COMMAND, IOCProcess
from acquisition.ioc.pvs import SimulatedBenchIOC
from acquisition.ioc.settings import IOCSettings, SimulatedServo
from acquisition.ioc.simulated import SimulatedLink

LIMITS = (-90.0, 90.0)
EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.fixture(scope="module")
def ioc():
    with running_ioc() as ioc:
        yield ioc


@pytest.fixture(scope="module")
def client(ioc):
    with Client() as client:
        yield client


@pytest.mark.parametrize(
    ("name", "units", "precision", "limits"),
    [
        ("SERVO", b"deg", 3, LIMITS),
        ("SERVO:RBV", b"deg", 3, None),
        ("LASER", b"", 4, (0.0, 1.0)),
        ("LASER:RBV", b"", 4, None),
        ("WATCHDOG", b"s", 1, (0.1, 10.0)),
        ("SIM:SHAFT", b"deg", 4, None),
    ],
)
def test_numbers_have_units_precision_and_limits(client, name, units, precision, limits):
    metadata = client.pv(name).read(data_type="control").metadata
    assert (metadata.units, metadata.precision) == (units, precision)
    if limits is not None:
        assert (metadata.lower_ctrl_limit, metadata.upper_ctrl_limit) == limits
        assert (client.get(f"{name}.DRVL"), client.get(f"{name}.DRVH")) == limits
    assert client.get(f"{name}.EGU") == units


@pytest.mark.parametrize(
    "name",
    ["SERVO", "SERVO:RBV", "SERVO:DMOV", "LASER", "LASER:RBV", "LASER:ARM", "HEARTBEAT", "WATCHDOG", "STATUS",
     "SIM:SHAFT", "SIM:TARGET"],
)  # fmt: skip
def test_every_pv_says_what_it_is(client, name):
    assert len(client.get(f"{name}.DESC")) > 5


def test_the_laser_is_off_at_start(client):
    with running_ioc(), Client() as fresh:
        assert (fresh.get("LASER"), fresh.get("LASER:RBV")) == (0, 0)
        assert fresh.text("STATUS") == "ready: simulated, laser off, armed"


@pytest.mark.parametrize("angle", [90.001, -90.001, 1e300, float("nan"), float("inf")])
def test_an_angle_outside_the_limits_moves_nothing_and_raises_an_alarm(client, angle):
    client.put("SERVO", 12.0)
    client.put("SERVO", angle, wait=False)
    assert client.get("SERVO:RBV") == pytest.approx(12, abs=0.003)
    assert client.get("SERVO") == 12
    assert client.alarm("SERVO") == ("WRITE", "MAJOR_ALARM")
    client.put("SERVO", 13.0)
    assert client.alarm("SERVO") == ("NO_ALARM", "NO_ALARM")


def test_a_refused_put_is_told_to_a_client_that_listens(ioc):
    put = subprocess.run(
        [sys.executable, "-c", "from caproto.sync.client import write; write('LUNCHBOX:SERVO', [91.0], notify=True)"],
        env=os.environ | ioc.environment,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert put.returncode != 0
    assert "CannotExceedLimits" in put.stderr


def test_a_put_returns_when_the_servo_has_settled():
    settings = IOCSettings(simulated=SimulatedServo(travel_time=0.02, settle_time=0.1, dead_band_deg=0))
    with running_ioc(settings), Client() as client:
        done = []
        angles = []
        client.watch("SERVO:DMOV", done.append)
        client.watch("SERVO:RBV", angles.append)
        began = time.monotonic()
        client.put("SERVO", 20.0)
        took = time.monotonic() - began
        assert 0.5 <= took < 3.0
        assert client.get("SERVO:DMOV") == 1
        assert client.get("SERVO:RBV") == pytest.approx(20, abs=0.003)
        time.sleep(0.1)
        assert done == [1, 0, 1]
        assert angles == sorted(angles)
        assert len(angles) > 5, "the readback follows the motion"


def test_the_latest_setpoint_wins():
    settings = IOCSettings(simulated=SimulatedServo(travel_time=0.02, settle_time=0, dead_band_deg=0))
    with running_ioc(settings), Client() as client:
        done = []
        client.watch("SERVO:DMOV", done.append)
        first = threading.Thread(target=client.put, args=("SERVO", 60.0))
        first.start()
        time.sleep(0.2)
        assert client.get("SERVO:DMOV") == 0
        assert client.get("SERVO") == 60
        client.put("SERVO", 0.0)
        first.join(2)
        assert not first.is_alive(), "the put that lost is over as well"
        assert client.get("SERVO:RBV") == pytest.approx(0, abs=0.003)
        assert client.get("SERVO") == 0
        time.sleep(0.1)
        assert done[-1] == 1


def test_many_clients_that_fight_leave_one_consistent_servo(client):
    threads = [threading.Thread(target=client.put, args=("SERVO", float(angle))) for angle in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert client.get("SERVO:DMOV") == 1
    assert client.get("SERVO:RBV") == pytest.approx(client.get("SERVO"), abs=0.003)


def test_the_laser_tells_the_power_that_it_has(client):
    client.put("LASER", 0.25)
    assert client.get("LASER:RBV") == pytest.approx(0.25, abs=1 / 65535)
    client.put("LASER", 0.0)
    assert client.get("LASER:RBV") == 0


@pytest.mark.parametrize("power", [-0.01, 1.01, float("nan")])
def test_a_power_outside_the_limits_does_not_light_the_laser(client, power):
    client.put("LASER", power, wait=False)
    assert client.get("LASER:RBV") == 0
    assert client.alarm("LASER") == ("WRITE", "MAJOR_ALARM")


@pytest.mark.parametrize("name", ["SERVO:RBV", "SERVO:DMOV", "LASER:RBV", "STATUS", "SIM:SHAFT"])
def test_readbacks_cannot_be_written(client, name):
    before = client.pv(name).read().data
    client.put(name, 1, wait=False)
    assert list(client.pv(name).read().data) == list(before)


def test_the_laser_goes_off_when_the_heartbeat_stops():
    with running_ioc(IDEAL.model_copy(update={"watchdog": 0.5})), Client() as client:
        client.put("LASER", 1.0)
        for count in range(8):
            time.sleep(0.2)
            client.put("HEARTBEAT", count)
        assert client.get("LASER:RBV") == 1, "a client that lives keeps its laser"

        time.sleep(0.8)
        assert (client.get("LASER"), client.get("LASER:RBV")) == (0, 0)
        assert client.alarm("LASER") == ("TIMEOUT", "MAJOR_ALARM")
        assert "no heartbeat for 0.5 s" in client.text("STATUS")

        client.put("HEARTBEAT", 99)
        assert client.get("LASER:RBV") == 0, "a heartbeat alone does not light it again"
        client.put("LASER", 0.5)
        assert client.get("LASER:RBV") == pytest.approx(0.5, abs=1e-4)
        assert client.alarm("LASER") == ("NO_ALARM", "NO_ALARM")


def test_the_laser_is_off_within_3_s_of_the_death_of_its_client(ioc, client):
    script = (
        "import time; from caproto.sync.client import write; write('LUNCHBOX:LASER', [1.0], notify=True); "
        "print('lit', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | ioc.environment, stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout.readline() == b"lit\n"
        victim.kill()
    died = time.monotonic()
    assert client.get("LASER:RBV") == 1
    while client.get("LASER:RBV") > 0:
        assert time.monotonic() - died < 3
        time.sleep(0.05)


def test_a_real_bench_starts_disarmed_and_gives_no_light_until_somebody_arms_it(tmp_path):
    from pico import Pico as Board

    from acquisition.ioc.settings import Pico

    with Board(tmp_path) as board:
        settings = IOCSettings(link="pico", pico=Pico(device=str(board.device), travel_time=0, settle_time=0))
        with running_ioc(settings) as ioc, Client() as client:
            assert client.get("LASER:ARM") == 0
            assert "laser off, disarmed: see that nobody can look into the beam" in client.text("STATUS")
            assert "`lunchbox arm`" in ioc.log
            client.put("LASER", 1.0, wait=False)
            assert client.get("LASER:RBV") == 0
            assert client.alarm("LASER") == ("WRITE", "MAJOR_ALARM")
            assert "put refused: LUNCHBOX:LASER: the laser is disarmed" in ioc.log
            assert {duty for _, duty in board.changes()} == {0}

            client.put("LASER:ARM", 1)
            client.put("LASER", 1.0)
            assert (client.get("LASER:RBV"), board.laser) == (1, 65535)
            client.put("LASER:ARM", 0)
            assert (client.get("LASER"), client.get("LASER:RBV"), board.laser) == (0, 0, 0)


def test_a_simulated_bench_can_start_disarmed_too():
    disarmed = IDEAL.simulated.model_copy(update={"armed": False})
    with running_ioc(IOCSettings(simulated=disarmed)), Client() as client:
        assert client.get("LASER:ARM") == 0
        client.put("LASER", 0.5, wait=False)
        assert client.get("LASER:RBV") == 0


def test_the_watchdog_can_be_set_within_its_limits(client):
    client.put("WATCHDOG", 3.0)
    assert client.get("WATCHDOG") == 3
    client.put("WATCHDOG", 0.0, wait=False)
    assert client.get("WATCHDOG") == 3
    client.put("WATCHDOG", 2.0)


def test_the_shaft_is_where_the_faults_of_the_servo_put_it():
    faults = SimulatedServo(backlash_deg=2.0, jitter_deg=0, travel_time=0, settle_time=0, dead_band_deg=0)
    with running_ioc(IOCSettings(simulated=faults)), Client() as client:
        client.put("SERVO", 10.0)
        assert client.get("SIM:SHAFT") == pytest.approx(9, abs=0.01)
        client.put("SERVO", 20.0)
        assert client.get("SIM:SHAFT") == pytest.approx(19, abs=0.01)
        client.put("SERVO", 10.0)
        assert client.get("SIM:SHAFT") == pytest.approx(11, abs=0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_on_a_signal_with_the_laser_off(number):
    with running_ioc() as ioc, Client() as client:
        client.put("LASER", 1.0)
        os.kill(ioc.pid, number)
        deadline = time.monotonic() + 3
        while "laser off, link closed" not in ioc.log:
            assert time.monotonic() < deadline, ioc.log
            time.sleep(0.05)


def test_it_ends_with_the_process_that_started_it():
    script = (
        "import os, signal; from acquisition.ioc.process import IOCProcess\n"
        "ioc = IOCProcess(); ioc.start(); ioc.wait_until_ready()\n"
        "print(ioc.port, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, timeout=30)
    assert parent.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 3
    while answers("LUNCHBOX:SERVO", port=int(parent.stdout), timeout=0.1):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_second_ioc_on_the_same_port_is_refused_by_name(ioc):
    with pytest.raises(IOCRunning, match=rf"LUNCHBOX:SERVO already runs on 127.0.0.1:{ioc.port}.*EPICS_CA_SERVER_PORT"):
        require_free(ioc.port, prefix="LUNCHBOX:", interfaces=("127.0.0.1",))
    with pytest.raises(IOCRunning, match=r"another program \(perhaps an IOC with another prefix than 'OTHER:'\)"):
        require_free(ioc.port, prefix="OTHER:", interfaces=("127.0.0.1",))

    second = subprocess.run(list(COMMAND), env=os.environ | ioc.environment, capture_output=True, text=True, timeout=20)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith("IOCRunning: an IOC that serves LUNCHBOX:SERVO already runs")


def test_an_address_of_another_machine_is_refused_by_name():
    with pytest.raises(AddressError, match=r"cannot serve on 192.0.2.1:.*Give the address of one of this machine's"):
        require_free(free_port(), prefix="LUNCHBOX:", interfaces=("192.0.2.1",))


@pytest.mark.skipif(not EPHEMERAL_PORTS.exists(), reason="this system does not say which ports it hands out")
def test_a_free_port_is_never_one_that_a_clients_own_socket_can_be_given():
    first = int(EPHEMERAL_PORTS.read_text().split()[0])
    assert max(free_port() for _ in range(100)) < first


def test_a_refused_put_is_one_line_in_the_log():
    with running_ioc() as ioc, Client() as client:
        client.put("SERVO", 123.0, wait=False)
        client.get("SERVO")
        assert "put refused: Cannot write data 123.0. Limits are set to -90.0 and 90.0." in ioc.log
        assert "Traceback" not in ioc.log


def test_without_options_the_configuration_is_served(tmp_path):
    file = tmp_path / "bench.yml"
    file.write_text("prefix: 'FROMFILE:'\nioc: {watchdog: 7}\n")
    ports = {"EPICS_CA_SERVER_PORT": str(free_port()), "EPICS_CA_REPEATER_PORT": str(free_port())}
    environment = os.environ | ports | {"LUNCHBOX_CONFIG": str(file)}
    with subprocess.Popen(list(COMMAND), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ioc:
        try:
            assert answers("FROMFILE:WATCHDOG", port=int(ports["EPICS_CA_SERVER_PORT"]), timeout=10)
        finally:
            ioc.terminate()


def test_a_wrong_configuration_is_one_line(tmp_path):
    file = tmp_path / "bench.yml"
    file.write_text("ioc: {watchdog: 700}\n")
    ioc = subprocess.run(
        list(COMMAND), env=os.environ | {"LUNCHBOX_CONFIG": str(file)}, capture_output=True, text=True, timeout=20
    )
    assert ioc.returncode == 1
    assert ioc.stderr.startswith("ConfigurationError: ")
    assert "watchdog" in ioc.stderr


def test_an_ioc_that_cannot_start_says_why():
    settings = IOCSettings.model_validate({"link": "pico", "pico": {"device": "/dev/no-such-pico"}})
    with (
        pytest.raises(LinkError, match=r"ended with status 1.*Pico at /dev/no-such-pico.*Check the USB cable"),
        IOCProcess(settings),
    ):
        pass


def test_the_options_of_every_caproto_ioc_work():
    with running_ioc(prefix="BENCH7:", command=(*COMMAND, "--list-pvs", "--interfaces", "127.0.0.1")) as ioc:
        with Client("BENCH7:") as client:
            assert client.get("SERVO:DMOV") == 1
        assert "BENCH7:SIM:TARGET" in ioc.log


def test_the_log_does_not_fill_with_beacons_that_nobody_hears():
    with running_ioc() as ioc:
        time.sleep(1.5)
        assert "beacon" not in ioc.log


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low_limit_deg": -91.0}, "ends at 0 and 180"),
        ({"low_limit_deg": 10.0, "high_limit_deg": -10.0}, "ends at 0 and 180"),
        ({"watchdog": 0.0}, "greater than or equal to 0.1"),
        ({"pasword": 1}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_no_servo_has_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IOCSettings.model_validate(settings)


def test_a_put_that_arrives_while_it_ends_lights_nothing():
    link = SimulatedLink(SimulatedServo())
    ioc = SimulatedBenchIOC("LUNCHBOX:", settings=IOCSettings(), link=link)

    async def session():
        await ioc.start()
        await ioc.laser.write(1.0)
        assert link.laser == 1
        await ioc.shut_down()
        with pytest.raises(LinkError, match="shutting down, with the laser off"):
            await ioc.laser.write(1.0)

    asyncio.run(session())
    assert link.laser == 0
