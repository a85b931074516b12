"""A queue of plans, with the real manager, the real Redis and the real IOC."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from channel_access import value, wait_for
from command import SMALL_BENCH, CommandLine
from redis_server import ADDRESS, key_prefix

from acquisition.ioc.ports import free_port
from acquisition.ioc.process import IOCProcess
from catalog import layout, open_catalog
from catalog.journal_files import list_journals, read_journal
from config import load_settings

Status = dict[str, Any]
#: The laser is on for most of a scan.
SLOW = SMALL_BENCH + "acquisition: {camera: {count_time: 0.1}}\n"


class Queue:
    """A client of the manager, as any other."""

    def __init__(self, address: str) -> None:
        from bluesky_queueserver import ZMQCommSendThreads

        self._client = ZMQCommSendThreads(zmq_server_address=address)

    def ask(self, method: str, **parameters: Any) -> Status:
        return dict(self._client.send_message(method=method, params=parameters, timeout=5000, raise_exceptions=True))

    def wait(self, wanted: Callable[[Status], bool], timeout: float = 40) -> Status:
        deadline = time.monotonic() + timeout
        while not wanted(status := self.ask("status")):
            assert time.monotonic() < deadline, status
            time.sleep(0.02)
        return status

    def submit(self, name: str, *, group: str = "primary", meta: Status | None = None, **kwargs: Any) -> Status:
        item = {"item_type": "plan", "name": name, "kwargs": kwargs, "meta": meta or {}}
        return self.ask("queue_item_add", item=item, user="Ada", user_group=group)

    def started(self, name: str, **kwargs: Any) -> int:
        """How many plans had ended when this one began."""
        before = int(self.ask("status")["items_in_history"])
        assert self.submit(name, **kwargs)["success"]
        assert self.ask("queue_start")["success"]
        return before

    def result(self, before: int) -> Status:
        """Of the plan that began when `before` had ended."""
        self.wait(lambda status: status["items_in_history"] > before and status["manager_state"] == "idle")
        return dict(self.ask("history_get")["items"][-1]["result"])

    def close(self) -> None:
        self._client.close()
        self._client._ctx.term()  # which it leaves to whoever collects it


@pytest.fixture(scope="module")
def command(ioc: IOCProcess, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    return CommandLine(tmp_path_factory.mktemp("queue"), ioc.environment, config=SLOW)


@pytest.fixture(scope="module")
def queue(command: CommandLine) -> Iterator[Queue]:
    """The manager that `lunchbox queue` starts, its environment open."""
    address = f"tcp://127.0.0.1:{free_port()}"
    with key_prefix() as name:
        manager = command.start("queue", "--address", address, "--name", name, "--redis", ADDRESS, "--json")
        assert manager.stdout is not None
        line = manager.stdout.readline()
        assert line, manager.communicate()[1]
        assert json.loads(line)["name"] == name
        client = Queue(address)
        try:
            _open(client)
            yield client
            client.ask("environment_close")
            client.wait(lambda status: not status["worker_environment_exists"])
            client.ask("manager_stop")
        finally:
            client.close()
            try:
                manager.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                manager.kill()
                manager.communicate()
    assert manager.returncode == 0


def _open(client: Queue) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            client.ask("status")
            break
        except Exception:
            assert time.monotonic() < deadline
    assert client.ask("environment_open")["success"]
    client.wait(lambda status: status["worker_environment_exists"] and status["manager_state"] == "idle")


def journal(command: CommandLine, uid: str) -> list[tuple[str, dict[str, Any]]]:
    (path,) = (entry.path for entry in list_journals(command.data_root / layout.JOURNAL_DIR) if entry.uid == uid)
    return list(read_journal(path))


def frames_of(command: CommandLine, uid: str) -> np.ndarray:
    """Straight from the file that the run's documents name."""
    (resource, *_) = (document for name, document in journal(command, uid) if name == "resource")
    with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
        images: np.ndarray = file[layout.IMAGE][()]
    return images


def test_a_submitted_scan_runs_and_its_uid_leads_to_its_frames(queue: Queue, command: CommandLine) -> None:
    meta = {"operator": "Ada", "purpose": "from the queue"}
    before = queue.started("angle_scan", start=0.0, stop=20.0, num=3, meta=meta)
    result = queue.result(before)
    assert result["exit_status"] == "completed", result
    (uid,) = result["run_uids"]
    catalog = open_catalog(settings=load_settings(data_root=command.data_root))
    try:
        run = catalog.wait_for(uid)
        assert (run.start["plan_name"], run.start["operator"]) == ("angle_scan", "Ada")
        assert run.start["scan_id"] == result["scan_ids"][0]
        dataset = run.primary.read()
        np.testing.assert_allclose(dataset["lunchbox_servo"], [0, 10, 20], atol=0.01)
        images = dataset["lunchbox_image"].values
    finally:
        catalog.close()
    np.testing.assert_array_equal(images, frames_of(command, uid))
    assert images.max() > 100  # the laser was on


def test_a_pause_turns_the_laser_off_and_resume_completes_the_scan(
    queue: Queue, command: CommandLine, ioc: IOCProcess
) -> None:
    before = queue.started("angle_scan", start=0.0, stop=10.0, num=11)
    wait_for(ioc, "LASER:RBV", 1.0, timeout=20)
    assert queue.ask("re_pause", option="immediate")["success"]
    queue.wait(lambda status: status["manager_state"] == "paused")
    assert value(ioc, "LASER:RBV") == 0.0
    assert queue.ask("re_resume")["success"]
    result = queue.result(before)
    assert result["exit_status"] == "completed", result
    events = [
        d for name, d in journal(command, result["run_uids"][0]) if name == "event" and "lunchbox_image" in d["data"]
    ]
    assert [event["data"]["lunchbox_servo"] for event in events] == pytest.approx(list(range(11)), abs=0.01)
    assert {event["data"]["lunchbox_laser"] for event in events} == {1.0}


def test_a_paused_scan_that_is_aborted_is_closed_and_keeps_its_frames(
    queue: Queue, command: CommandLine, ioc: IOCProcess
) -> None:
    before = queue.started("angle_scan", start=0.0, stop=10.0, num=40)
    for _ in range(3):
        wait_for(ioc, "LASER:RBV", 1.0, timeout=20)
        wait_for(ioc, "LASER:RBV", 0.0, timeout=20)
    assert queue.ask("re_pause", option="immediate")["success"]
    queue.wait(lambda status: status["manager_state"] == "paused")
    assert queue.ask("re_abort")["success"]
    result = queue.result(before)
    assert result["exit_status"] == "aborted"
    documents = journal(command, result["run_uids"][0])
    name, stop = documents[-1]
    assert (name, stop["exit_status"]) == ("stop", "abort")
    assert 2 <= stop["num_events"]["primary"] < 40
    assert len(frames_of(command, result["run_uids"][0])) >= stop["num_events"]["primary"]
    assert value(ioc, "LASER:RBV") == 0.0
    # What was aborted is back at the front of the queue, as the manager has it.
    queue.ask("queue_clear")


def test_plans_say_what_they_take_and_what_is_out_of_range_is_refused_when_it_is_submitted(queue: Queue) -> None:
    plans = queue.ask("plans_allowed", user_group="primary")["plans_allowed"]
    taken = {p["name"]: p for p in plans["angle_scan"]["parameters"]}
    assert {name: p["annotation"]["type"] for name, p in taken.items()} == {
        "start": "float",
        "stop": "float",
        "num": "int",
        "background": "Background",
    }
    assert taken["background"]["annotation"]["enums"] == {"Background": ["each", "first", "none"]}
    assert (taken["stop"]["min"], taken["stop"]["max"]) == ("-90", "90")
    assert (taken["start"]["default"], taken["stop"]["default"]) == ("-45.0", "45.0")
    assert all(p["description"] for plan in plans.values() for p in plan["parameters"])
    devices = queue.ask("devices_allowed", user_group="primary")["devices_allowed"]
    assert {"lunchbox", "servo"} <= devices.keys()
    assert devices["servo"]["is_movable"]
    for kwargs, complaint in (
        ({"stop": 120.0}, "out of range"),
        ({"num": "many"}, "num"),
        ({"angle": 3.0}, "angle"),
        ({"background": "last"}, "background"),
    ):
        refused = queue.submit("angle_scan", **kwargs)
        assert not refused["success"]
        assert complaint in refused["msg"]
    assert queue.ask("status")["items_in_queue"] == 0


def test_a_scan_takes_the_backgrounds_that_were_asked_for(queue: Queue, command: CommandLine) -> None:
    for background, files in (("first", [2, 1]), ("none", [2, 0])):
        result = queue.result(queue.started("angle_scan", start=0.0, stop=2.0, num=2, background=background))
        assert result["exit_status"] == "completed", result
        (uid,) = result["run_uids"]
        documents = journal(command, uid)
        assert documents[0][1]["background"] == background
        (resource, *_) = (document for name, document in documents if name == "resource")
        with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
            assert [len(file[layout.IMAGE]), len(file[layout.BACKGROUND])] == files


def test_the_other_scans_come_out_of_the_queue_too(queue: Queue, command: CommandLine) -> None:
    for name, kwargs, points in (
        ("up_down_scan", {"start": 0.0, "stop": 2.0, "num": 2}, 3),
        ("exposure_scan", {"exposures": [0.02, 0.01], "start": 0.0, "stop": 2.0, "num": 2}, 4),
        ("time_series", {"duration": 0.1, "period": 0.1}, 2),
    ):
        result = queue.result(queue.started(name, **kwargs))
        assert result["exit_status"] == "completed", result
        _, stop = journal(command, result["run_uids"][0])[-1]
        assert stop["num_events"]["primary"] == points
    assert "out of range" in queue.submit("exposure_scan", exposures=[0.02, 0.0])["msg"]


def test_a_student_records_and_does_not_calibrate_and_nobody_runs_functions(queue: Queue) -> None:
    refused = queue.submit("calibrate", group="student")
    assert not refused["success"]
    assert "calibrate" in refused["msg"]
    assert not queue.submit("count", group="nobody")["success"]
    for group in ("primary", "student"):
        item = {"item_type": "function", "name": "open_session"}
        assert not queue.ask("function_execute", item=item, user="Ada", user_group=group)["success"]


def test_calibration_comes_out_of_the_queue_too_and_later_runs_name_it(queue: Queue, command: CommandLine) -> None:
    (calibration,) = queue.result(queue.started("calibrate"))["run_uids"]
    (uid,) = queue.result(queue.started("count"))["run_uids"]
    assert journal(command, uid)[0][1]["calibration_uid"] == calibration


def test_no_redis_or_wrong_permissions_are_said_before_anything_starts(command: CommandLine) -> None:
    away = command.run("queue", "--redis", f"127.0.0.1:{free_port()}")
    assert away.returncode == 2
    assert "start redis-server" in " ".join(away.stderr.split())
    with key_prefix() as name:
        groups = command.home / "groups.yaml"
        groups.write_text(yaml.safe_dump({"user_groups": {"student": {"allowed_plans": [None]}}}))
        wrong = command.run("queue", "--name", name, "--permissions", str(groups))
    assert wrong.returncode == 2
    assert "root" in wrong.stderr
