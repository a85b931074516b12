"""A session: metadata that are checked before anything moves, numbers that never reset, the calibration in force."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import SMALL_BENCH

from acquisition.ioc.process import IOCProcess
from acquisition.plans import NobodyToAsk
from acquisition.scan_table import ScanTable
from acquisition.session import Interrupted, MetadataError, Session, angle_scan, calibrate, count, open_session
from catalog import layout
from catalog.errors import DataRootError
from config import load_settings


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    path = tmp_path / "lunchbox.yml"
    path.write_text(SMALL_BENCH)
    return path


@pytest.fixture
def session(ioc: IOCProcess, configuration: Path, tmp_path: Path) -> Iterator[Session]:
    with open_session(load_settings(configuration, data_root=tmp_path / "data")) as session:
        yield session
        session.RE.loop.call_soon_threadsafe(session.RE.loop.stop)
        session.RE._th.join()
        session.RE.loop.close()


def journal(session: Session, uid: str) -> list[tuple[str, dict[str, Any]]]:
    (path,) = (session.settings.data_root / layout.JOURNAL_DIR).rglob(f"*{uid}*")
    return [(name, document) for name, document in map(json.loads, path.read_text().splitlines())]


def test_every_document_is_in_the_journal_in_order(session: Session) -> None:
    emitted: list[str] = []
    uid = session.run(count(session.lunchbox, num=2), lambda name, document: emitted.append(name))
    assert [name for name, _ in journal(session, uid)] == emitted
    assert emitted[0] == "start"
    assert emitted[-1] == "stop"


def test_start_says_who_with_what_on_which_bench(session: Session) -> None:
    start = journal(session, session.run(count(session.lunchbox), operator="Ada", sample={"name": "DVD"}))[0][1]
    assert start["operator"] == "Ada"
    assert start["sample"] == {"name": "DVD"}
    assert start["plan_name"] == "count"
    assert start["detectors"] == ["lunchbox"]
    assert start["instrument"] == "LUNCHBOX"
    assert start["simulated"] is True
    assert start["setup"]["wavelength"] == 650e-9
    assert start["config_hash"] == session.settings.config_hash()
    assert {"bluesky", "h5py", "lunchbox"} <= set(start["versions"])


@pytest.mark.parametrize(("key", "value"), [("operator", ""), ("operator", 7), ("sample", "DVD"), ("purpose", None)])
def test_wrong_metadata_are_refused_before_anything_moves(session: Session, key: str, value: object) -> None:
    before = session.lunchbox.servo.setpoint.get(use_monitor=False)
    with pytest.raises(MetadataError, match=key):
        session.run(angle_scan(session.lunchbox, start=before + 5, stop=before + 9, num=2), **{key: value})
    assert session.lunchbox.servo.setpoint.get(use_monitor=False) == before
    assert not list((session.settings.data_root / layout.JOURNAL_DIR).rglob("*.jsonl"))


def test_numbers_go_on_in_the_next_session(session: Session, ioc: IOCProcess) -> None:
    first = session.run(count(session.lunchbox))
    with open_session(session.settings) as other:
        second = other.run(count(other.lunchbox))
        other.RE.loop.call_soon_threadsafe(other.RE.loop.stop)
        other.RE._th.join()
        other.RE.loop.close()
    third = session.run(count(session.lunchbox))
    assert [journal(session, uid)[0][1]["scan_id"] for uid in (first, second, third)] == [1, 2, 3]


def test_later_runs_name_the_calibration_in_force(session: Session) -> None:
    before = journal(session, session.run(count(session.lunchbox)))[0][1]
    uid = session.run(calibrate(session.lunchbox, bench=session.bench))
    after = journal(session, session.run(count(session.lunchbox)))[0][1]
    with open_session(session.settings) as other:
        assert other.RE.md["calibration_uid"] == uid
    session.use_calibration(None)
    without = journal(session, session.run(count(session.lunchbox)))[0][1]
    assert "calibration_uid" not in before
    assert after["calibration_uid"] == uid
    assert "calibration_uid" not in without


def test_calibration_shows_the_target_in_room_light_without_the_laser(session: Session) -> None:
    documents = journal(session, session.run(calibrate(session.lunchbox, bench=session.bench)))
    (event,) = (d for name, d in documents if name == "event" and "lunchbox_image" in d["data"])
    assert event["data"]["lunchbox_laser"] == 0.0
    assert session.lunchbox.power.get() == 1.0
    assert session.bench is not None
    assert session.bench.target.get(use_monitor=False) == 0
    (resource, *_) = (d for name, d in documents if name == "resource")
    import h5py

    with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
        image = file[layout.IMAGE][0, :, :, 0]
    assert image.mean() > 50  # the room light


def test_the_baseline_is_read_before_and_after(session: Session) -> None:
    documents = journal(session, session.run(count(session.lunchbox)))
    (stop,) = (document for name, document in documents if name == "stop")
    assert stop["num_events"] == {"baseline": 2, "primary": 1}


def test_a_live_table_that_fails_does_not_end_the_scan(
    session: Session, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ScanTable()
    monkeypatch.setattr(table, "_event", lambda document: 1 / 0)
    documents = journal(session, session.run(count(session.lunchbox), table))
    assert documents[-1][1]["exit_status"] == "success"
    assert "is left out: ZeroDivisionError" in capsys.readouterr().err


def test_a_data_root_that_cannot_be_written_is_said_at_once(ioc: IOCProcess, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataRootError, match=r"file/data: cannot be written.*LUNCHBOX_DATA_ROOT"):
        open_session(load_settings(data_root=tmp_path / "file" / "data"))


def test_a_calibration_of_another_bench_is_not_linked(session: Session) -> None:
    session.run(calibrate(session.lunchbox, bench=session.bench))
    other = session.settings.model_copy(update={"bench": session.settings.bench.model_copy(update={"seed": 99})})
    with open_session(other) as elsewhere:
        assert "calibration_uid" not in elsewhere.RE.md
    with open_session(session.settings) as again:
        assert "calibration_uid" in again.RE.md


def test_a_calibration_pointer_that_was_cut_short_is_said_and_left(
    session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    (session.settings.data_root / "calibration.json").write_text("")
    with open_session(session.settings) as again:
        assert "calibration_uid" not in again.RE.md
    assert "calibrate again" in capsys.readouterr().err


def test_a_real_bench_without_anybody_at_a_terminal_is_not_calibrated(session: Session) -> None:
    with pytest.raises(NobodyToAsk, match="run it in a terminal"):
        session.run(calibrate(session.lunchbox, bench=None))
    assert session.lunchbox.power.get() == 1.0


def test_a_plan_without_a_run_has_no_uid(session: Session) -> None:
    from bluesky.plan_stubs import null

    assert session.run(null()) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_reaches_another_thread_ends_the_scan_too(session: Session, number: signal.Signals) -> None:
    emitted: list[str] = []

    def kill_this_thread() -> None:
        signal.pthread_kill(threading.get_ident(), number)

    def watch(name: str, document: dict[str, Any]) -> None:
        emitted.append(name)
        if name == "event":
            threading.Thread(target=kill_this_thread).start()

    with pytest.raises(Interrupted):
        session.run(count(session.lunchbox, num=20, delay=0.5), watch)
    assert emitted.count("event") < 4
    assert emitted[-1] == "stop"
