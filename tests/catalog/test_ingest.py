"""Whatever happens in between, the catalogue ends as the journals say, each run once."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import event_model
import httpx
import numpy as np
import pytest
from documents import Run, documents, frame, make_settings, write_analysis, write_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.indexes import tables_connection
from catalog.ingest import IngestBusy, Ingester, _LiveRun, ingest_lock
from catalog.journal import Journal, list_journals, read_journal
from catalog.journal_watch import JournalWatch
from catalog.layout import FIELDS, FRAMES_DIR, JOURNAL_DIR
from catalog.quarantine import Quarantine
from catalog.validation import BadDocument, RunValidator


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server whose own ingest sleeps, so that a test decides what is ingested when."""
    from tiled.client import from_uri

    from catalog.server import Server

    data_root = tmp_path_factory.mktemp("quiet")
    server = Server(make_settings(data_root))
    # Held by this test: the server's thread waits for its turn.
    data_root.joinpath("catalog").mkdir()
    lock = ingest_lock(server.store)
    lock.__enter__()
    with server:
        root = from_uri(server.uri, api_key=server.api_key)
        lock.__exit__()
        with ingest_lock(server.store):
            yield SimpleNamespace(data_root=data_root, store=server.store, root=root)
        root.context.close()


class Ingest(Ingester):
    """Ingest that the test drives; the lock is held by the fixture."""

    def __init__(self, quiet: Any) -> None:
        super().__init__(quiet.root, quiet.store)
        self.survey()


def run_of(quiet: Any, uid: str) -> Any:
    return quiet.root[uid]


def contents(quiet: Any, uid: str) -> tuple[Any, ...]:
    """All that the catalogue has of a run."""
    run = run_of(quiet, uid)
    data = run.primary.read()
    return (
        dict(run.metadata),
        {name: data[name].values.tolist() for name in sorted(data) if name not in FIELDS},
        {name: run.primary[name].read().tobytes() for name in FIELDS},
    )


def test_a_finished_run_is_there_with_every_document_and_pixel(quiet: Any) -> None:
    uid = write_run(quiet.data_root, points=4, seed=1)
    Ingest(quiet).step()
    run = run_of(quiet, uid)
    journal = next(entry.path for entry in list_journals(quiet.store.journals) if entry.uid == uid)
    docs = dict(read_journal(journal))
    assert run.metadata["start"] == docs["start"]
    assert run.metadata["stop"] == docs["stop"]
    np.testing.assert_array_equal(run.primary["lunchbox_image"].read(), [frame(1, index) for index in range(4)])
    assert run.primary.read()["lunchbox_servo"].values.tolist() == [0, 1, 2, 3]


def test_ingesting_twice_changes_nothing(quiet: Any) -> None:
    uid = write_run(quiet.data_root, points=2)
    Ingest(quiet).step()
    before, count = contents(quiet, uid), len(quiet.root)
    for _ in range(2):
        Ingest(quiet).step()
    assert contents(quiet, uid) == before
    assert len(quiet.root) == count


@pytest.mark.parametrize("lines", [1, 4, 7, 13])
def test_a_half_ingested_run_becomes_the_run(quiet: Any, lines: int) -> None:
    """Ingest ends after any line of the journal, as a killed server's does; the next one makes it whole."""
    uid = write_run(quiet.data_root, points=3, seed=lines)
    (path,) = [entry.path for entry in list_journals(quiet.store.journals) if entry.uid == uid]
    whole = path.read_bytes()
    half = path.with_name("half.jsonl")
    half.write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
    ingest = Ingest(quiet)
    run = _LiveRun(half, uid, quiet.root, ingest._processed)
    run.feed(threading.Event())
    half.unlink()
    assert "stop" not in run_of(quiet, uid).metadata
    Ingest(quiet).step()
    metadata, _, pixels = contents(quiet, uid)
    assert metadata["stop"]["exit_status"] == "success"
    expected = b"".join(frame(lines, index).tobytes() for index in range(3))
    assert pixels["lunchbox_image"] == expected


def test_a_live_run_is_followed_event_by_event(quiet: Any) -> None:
    journal = Journal(quiet.store.journals)
    run = Run(journal, quiet.data_root / FRAMES_DIR, seed=9)
    ingest = Ingest(quiet)
    run.begin()
    ingest.step()
    assert "stop" not in run_of(quiet, run.uid).metadata
    for count in (1, 2, 3):
        run.point()
        ingest.step()
        images = run_of(quiet, run.uid).primary["lunchbox_image"]
        np.testing.assert_array_equal(images.read(), [frame(9, index) for index in range(count)])
        assert len(run_of(quiet, run.uid).primary.read()["lunchbox_servo"]) == count
    run.end()
    ingest.step()
    assert run_of(quiet, run.uid).metadata["stop"]["exit_status"] == "success"


def test_ingest_that_begins_again_in_the_middle_of_a_live_run_goes_on_with_it(quiet: Any) -> None:
    journal = Journal(quiet.store.journals)
    runs = [Run(journal, quiet.data_root / FRAMES_DIR, seed=seed) for seed in (100, 110)]
    for run in runs:
        run.begin()
        run.point()
    for _ in range(2):  # each stands for a server that was killed here
        ingest = Ingest(quiet)
        ingest.step()
        for run in runs:
            run.point()
        ingest.step()
    ingest = Ingest(quiet)
    for run in reversed(runs):
        run.end()
    ingest.step()
    for run in runs:
        metadata, rows, pixels = contents(quiet, run.uid)
        assert metadata["stop"]["exit_status"] == "success"
        assert rows["lunchbox_servo"] == [0, 1, 2]
        assert pixels["lunchbox_image"] == b"".join(frame(run.seed, index).tobytes() for index in range(3))


def test_a_run_whose_writer_died_is_closed_as_aborted(quiet: Any) -> None:
    with Journal(quiet.store.journals) as journal:
        run = Run(journal, quiet.data_root / FRAMES_DIR)
        run.begin()
        run.point()
    run.file.close()
    Ingest(quiet).step()
    stop = run_of(quiet, run.uid).metadata["stop"]
    assert stop["exit_status"] == "abort"
    assert "ended without a stop document" in stop["reason"]
    assert len(run_of(quiet, run.uid).primary["lunchbox_image"]) == 1


def test_an_analysis_goes_under_processed(quiet: Any) -> None:
    raw = write_run(quiet.data_root)
    fit = write_analysis(quiet.data_root, raw)
    ingest = Ingest(quiet)
    ingest.step()
    assert fit not in quiet.root
    assert fit in ingest._processed
    np.testing.assert_array_equal(ingest._processed[fit]["fit"]["covariance"].read(), [np.eye(7)])


def test_a_device_that_was_staged_again_continues_its_array(quiet: Any) -> None:
    with Journal(quiet.store.journals) as journal:
        run = Run(journal, quiet.data_root / FRAMES_DIR, seed=20)
        run.begin()
        run.point()
        run.point()
        run.file.close()
        run.seed = 30
        run.stage()
        run.point()
        run.end()
    Ingest(quiet).step()
    images = run_of(quiet, run.uid).primary["lunchbox_image"].read()
    np.testing.assert_array_equal(images, [frame(20, 0), frame(20, 1), frame(30, 0)])


def test_a_row_is_the_frame_of_its_event(quiet: Any) -> None:
    """A frame that no event names has no row, and a frame that two events name has two."""
    with Journal(quiet.store.journals) as journal:
        emitted: list[dict[str, Any]] = []

        def emit(name: str, doc: dict[str, Any]) -> None:
            journal(name, doc)
            emitted.append(doc)

        run = Run(emit, quiet.data_root / FRAMES_DIR, seed=40)
        run.begin()
        run.file.append()  # a trigger whose event never came
        run.point()
        again = dict(emitted[-1], uid="read again", seq_num=2)
        journal("event", again)
        run.end()
    Ingest(quiet).step()
    images = run_of(quiet, run.uid).primary["lunchbox_background"].read()
    np.testing.assert_array_equal(images, [frame(41, 1), frame(41, 1)])


DAMAGE: list[tuple[Any, str | None]] = [
    (lambda docs: docs.clear(), None),
    (lambda docs: docs.pop(0), "begins with its one start"),
    (lambda docs: docs[0][1].update(uid="processed"), "another run"),
    (lambda docs: docs.insert(1, docs[0]), None),
    (lambda docs: docs.pop(1), "which was not announced"),
    (lambda docs: docs[1][1].pop("data_keys"), "'data_keys' is a required property"),
    (lambda docs: docs[2][1].update(resource_path="../../etc/passwd"), "leaves its root"),
    (lambda docs: docs[2][1].update(run_start="another"), "about run another"),
    (lambda docs: docs[6][1]["data"].pop("lunchbox_servo"), "differ in lunchbox_servo"),
    (lambda docs: docs[6][1]["data"].update(lunchbox_servo="north"), "'lunchbox_servo' is 'north'"),
    (lambda docs: docs[6][1]["data"].update(lunchbox_image="unknown/3"), "names datum 'unknown/3'"),
    (lambda docs: docs[6][1].update(seq_num=-1), "seq_num"),
    (lambda docs: docs[6][1].update(seq_num=9), "seq_num is 9"),
    (lambda docs: docs[-1][1].update(run_start="another"), "about run another"),
    (lambda docs: docs.append(docs[6]), None),
    (lambda docs: docs.append(["event", {**docs[6][1], "uid": "late"}]), "after the run's stop"),
]


def test_bad_runs_are_quarantined_with_the_reason_and_others_go_on(quiet: Any) -> None:
    bad: list[tuple[str, Path, str | None]] = []
    for damage, reason in DAMAGE:
        docs = json.loads(json.dumps(documents(quiet.data_root, points=1)))
        uid = docs[0][1]["uid"]
        damage(docs)
        path = quiet.store.journals / "2026" / "01" / "01" / f"000000.000000-{uid}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{json.dumps(pair)}\n" for pair in docs))
        bad.append((uid, path, reason))
    earlier = list(quiet.root)
    good = write_run(quiet.data_root)
    ingest = Ingest(quiet)
    ingest.step()
    assert set(earlier) <= set(quiet.root)
    assert "processed" in earlier
    assert run_of(quiet, good).metadata["stop"]["exit_status"] == "success"
    reasons = {note["journal"]: note["reason"] for note in Quarantine(quiet.store.quarantine).notes()}
    for uid, path, reason in bad:
        if not path.stat().st_size:
            assert str(path) not in reasons
        elif reason is None:
            assert str(path) not in reasons
            assert run_of(quiet, uid).metadata["stop"]["exit_status"] == "success"
        else:
            assert reason in reasons[str(path)]
            assert uid not in quiet.root


def journal_of_column(quiet: Any, data_key: dict[str, Any], values: list[Any]) -> str:
    """The uid of a finished run with one column `x`."""
    run = event_model.compose_run()
    stream = run.compose_descriptor(name="primary", data_keys={"x": {"source": "test", **data_key}})
    with Journal(quiet.store.journals) as journal:
        journal("start", run.start_doc)
        journal("descriptor", stream.descriptor_doc)
        for value in values:
            journal("event", stream.compose_event(data={"x": value}, timestamps={"x": 0.0}))
        journal("stop", run.compose_stop())
    return str(run.start_doc["uid"])


def test_small_arrays_in_events_are_read_back(quiet: Any) -> None:
    spectrum = {"dtype": "array", "shape": [3], "dtype_numpy": "<f8"}
    uid = journal_of_column(quiet, spectrum, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    Ingest(quiet).step()
    np.testing.assert_array_equal(run_of(quiet, uid).primary["x"].read(), [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    ("data_key", "value", "reason"),
    [
        ({"dtype": "integer", "shape": []}, 10**30, "OverflowError"),
        ({"dtype": "string", "shape": []}, {"a": "mapping"}, "500 Internal Server Error"),
    ],
)
def test_a_run_that_nothing_can_store_keeps_no_other_out(
    quiet: Any, monkeypatch: pytest.MonkeyPatch, data_key: dict[str, Any], value: Any, reason: str
) -> None:
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)
    uid = journal_of_column(quiet, data_key, [value])
    good = write_run(quiet.data_root)
    ingest = Ingest(quiet)
    with contextlib.suppress(httpx.HTTPStatusError):  # an error of the server is met with patience, once
        ingest.step()
    ingest.begin_again()
    ingest.survey()
    ingest.step()
    assert run_of(quiet, good).metadata["stop"]["exit_status"] == "success"
    assert uid not in quiet.root
    (note,) = (note for note in Quarantine(quiet.store.quarantine).notes() if uid in note["journal"])
    assert reason in note["reason"]
    # This program or another version of the server may know better: the next start tries again.
    path = Path(note["journal"])
    assert ingest._quarantine.holds(path)
    assert not Quarantine(quiet.store.quarantine).holds(path)
    path.unlink()  # the other tests begin again, too


def test_what_an_editor_or_a_loss_of_power_leaves_keeps_no_run_out(quiet: Any) -> None:
    uid = write_run(quiet.data_root)
    path = next(entry.path for entry in list_journals(quiet.store.journals) if entry.uid == uid)
    path.with_name(f".#{path.name}").symlink_to("nobody@nowhere")
    quiet.store.quarantine.mkdir(exist_ok=True)
    (quiet.store.quarantine / f"{path.stem}.json").write_text("")
    Ingest(quiet).step()
    assert run_of(quiet, uid).metadata["stop"]["exit_status"] == "success"


def test_a_file_outside_the_roots_is_indexed_and_never_read(quiet: Any, tmp_path: Path) -> None:
    docs = json.loads(json.dumps(documents(tmp_path, points=1)))
    with Journal(quiet.store.journals) as journal:
        for name, doc in docs:
            journal(name, doc)
    Ingest(quiet).step()
    images = run_of(quiet, docs[0][1]["uid"]).primary["lunchbox_image"]
    answer = quiet.root.context.http_client.get(images.item["links"]["full"])
    assert answer.status_code == 422
    assert "DataNotAccessible" in answer.text


def test_a_journal_that_was_repaired_is_taken_in(quiet: Any) -> None:
    uid = write_run(quiet.data_root)
    (path,) = [entry.path for entry in list_journals(quiet.store.journals) if entry.uid == uid]
    good = path.read_bytes()
    path.write_bytes(good.replace(b'["descriptor"', b'["descriptor'))
    Ingest(quiet).step()
    assert uid not in quiet.root
    path.write_bytes(good)
    assert Quarantine(quiet.store.quarantine).notes()
    Ingest(quiet).step()
    assert uid not in str(Quarantine(quiet.store.quarantine).notes())
    assert run_of(quiet, uid).metadata["stop"]["exit_status"] == "success"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_documents_repeated_reordered_or_lost_are_accepted_or_refused_with_a_reason(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    docs = documents_of_a_run(tmp_path_factory)
    indices = st.integers(0, len(docs) - 1)
    order = data.draw(st.lists(indices, max_size=2 * len(docs)) | st.permutations(range(len(docs))))
    accepted: list[str] = []
    validator = RunValidator()
    with contextlib.suppress(BadDocument):
        for name, doc in (docs[index] for index in order):
            if validator.accepts(name, doc):
                accepted.append(doc.get("uid") or doc["datum_id"])
    assert len(accepted) == len(set(accepted))


_RUN: list[Any] = []


def documents_of_a_run(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    if not _RUN:
        _RUN.extend(documents(tmp_path_factory.mktemp("documents"), points=2))
    return _RUN


def test_one_ingester_at_a_time(quiet: Any) -> None:
    with pytest.raises(IngestBusy, match="another process ingests"), ingest_lock(quiet.store):
        pass


def test_a_run_that_is_recorded_is_readable_soon(served: Any) -> None:
    """Within some twenty small requests of an event; `benchmarks/ingest.py` has the figure."""
    from tiled.client import from_uri

    client = from_uri(served.server.uri, api_key=served.server.api_key)
    journal = Journal(served.data_root / JOURNAL_DIR)
    run = Run(journal, served.data_root / FRAMES_DIR, seed=60)
    run.begin()
    run.point()
    served_images = None
    while served_images is None:
        try:
            served_images = client[run.uid].primary["lunchbox_image"]
        except (KeyError, AttributeError):
            time.sleep(0.05)
    delays, requests = [], []
    for count in range(2, 10):
        began = time.perf_counter()
        served_images.refresh()
        requests.append(time.perf_counter() - began)
        run.point()
        began = time.perf_counter()
        while len(served_images.refresh()) < count:
            time.sleep(0.03)
        delays.append(time.perf_counter() - began)
    run.end()
    client.context.close()
    assert statistics.median(delays) < 0.2 + 20 * statistics.median(requests)


def test_tables_and_nodes_use_the_write_ahead_log(served: Any) -> None:
    with contextlib.closing(sqlite3.connect(served.server.store.database)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with tables_connection(served.server.store.tables_uri) as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)


def test_the_watch_finds_late_and_early_journals(data_root: Path) -> None:
    watch = JournalWatch(data_root / JOURNAL_DIR)
    assert list(watch.changed()) == []
    today = write_run(data_root, points=0)
    assert [uid for _, uid in watch.changed()] == [today]
    assert list(watch.changed()) == []
    long_ago = write_run(data_root, points=0, time=1.0e9)
    watch._next_full_look = 0.0
    assert [uid for _, uid in watch.changed()] == [long_ago]
