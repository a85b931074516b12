"""A run whose process died is closed; one whose process lives is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from documents import Run, write_run

from catalog.journal import Journal, list_journals, read_journal
from catalog.layout import JOURNAL_DIR
from catalog.recovery import close_dead, has_writer

SCAN = """
import sys, pathlib, time
sys.path[:0] = {path!r}
from documents import Run
from catalog.journal import Journal
root = pathlib.Path(sys.argv[1])
run = Run(Journal(root / "journal"), root / "frames")
run.begin()
run.point()
run.point()
print("two points", flush=True)
time.sleep(60)
"""


def test_a_killed_scan_is_closed_as_aborted_once(data_root: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCAN.format(path=sys.path), str(data_root)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "two points\n"
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    assert has_writer(entry.path)
    assert not close_dead(entry.path, reason="lives")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not has_writer(entry.path)
    assert close_dead(entry.path, reason="the process died")
    closed = entry.path.read_bytes()
    assert not close_dead(entry.path, reason="again")
    assert entry.path.read_bytes() == closed
    name, stop = list(read_journal(entry.path))[-1]
    assert name == "stop"
    assert stop["exit_status"] == "abort"
    assert stop["reason"] == "the process died"
    assert stop["num_events"] == {"primary": 2}
    assert stop["run_start"] == entry.uid


def test_a_torn_line_is_cut_off_before_the_stop(data_root: Path) -> None:
    with Journal(data_root / JOURNAL_DIR) as journal:
        run = Run(journal, data_root / "frames")
        run.begin()
        run.point()
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    before = list(read_journal(entry.path))
    with entry.path.open("ab") as file:
        file.write(b'["event", {"uid": "torn')
    assert close_dead(entry.path, reason="died")
    assert list(read_journal(entry.path))[:-1] == before
    run.file.close()


@pytest.mark.parametrize("keep", ["stop without a line feed", "event without a line feed"])
def test_a_whole_last_line_without_line_feed_is_kept(data_root: Path, keep: str) -> None:
    write_run(data_root, points=1)
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    docs = list(read_journal(entry.path))
    lines = entry.path.read_bytes().splitlines(keepends=True)
    if keep.startswith("event"):
        lines.pop()
        docs.pop()
    entry.path.write_bytes(b"".join(lines)[:-1])
    assert close_dead(entry.path, reason="died")
    assert list(read_journal(entry.path))[: len(docs)] == docs
    assert list(read_journal(entry.path))[-1][0] == "stop"


def test_a_journal_without_a_start_is_left_to_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.touch()
    assert not close_dead(path, reason="died")
    assert path.read_bytes() == b""


def test_pages_of_events_are_counted_and_dated(data_root: Path) -> None:
    import event_model

    run = event_model.compose_run()
    stream = run.compose_descriptor(name="positions", data_keys={"x": {"source": "", "dtype": "number", "shape": []}})
    page = stream.compose_event_page(
        data={"x": [1.0, 2.0]}, timestamps={"x": [5e9, 6e9]}, time=[5e9, 6e9], seq_num=[1, 2]
    )
    with Journal(data_root / JOURNAL_DIR) as journal:
        for name, doc in (("start", run.start_doc), ("descriptor", stream.descriptor_doc), ("event_page", page)):
            journal(name, doc)
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    assert close_dead(entry.path, reason="the process died")
    stop = list(read_journal(entry.path))[-1][1]
    assert stop["num_events"] == {"positions": 2}
    assert stop["time"] == 6e9
