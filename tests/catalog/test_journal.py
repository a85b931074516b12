"""What was accepted is on disk, in order, as it was; what cannot be is refused by name."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from documents import Run, documents, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.errors import DataRootError
from catalog.journal import Journal, JournalError, list_journals, read_journal
from catalog.journal_files import JournalTail, is_finished
from catalog.journal_lines import decode, encode
from catalog.layout import JOURNAL_DIR
from catalog.recovery import close_dead

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


def test_a_run_is_read_back_as_it_was_emitted(data_root: Path) -> None:
    emitted = documents(data_root)
    with Journal(data_root) as journal:
        for name, doc in emitted:
            journal(name, doc)
    (entry,) = list_journals(data_root)
    assert [list(pair) for pair in read_journal(entry.path)] == json.loads(json.dumps(emitted))
    assert entry.uid == emitted[0][1]["uid"]


def test_the_file_is_what_suitcase_jsonl_writes(data_root: Path, tmp_path: Path) -> None:
    from suitcase.jsonl import export

    emitted = documents(data_root)
    with Journal(data_root) as journal:
        for name, doc in emitted:
            journal(name, doc)
    (theirs,) = export(iter(emitted), tmp_path)["all"]
    (ours,) = list_journals(data_root)
    assert ours.path.read_text() == Path(theirs).read_text()


def test_each_document_is_readable_as_soon_as_it_was_accepted(data_root: Path) -> None:
    journal = Journal(data_root)
    seen: list[str] = []

    def emit(name: str, doc: dict[str, Any]) -> None:
        journal(name, doc)
        seen.append(name)
        (entry,) = list_journals(data_root)
        assert [line for line, _ in read_journal(entry.path)] == seen

    run = Run(emit, data_root)
    run.begin()
    run.point()
    run.end()


def test_numpy_values_become_numbers_and_lists(data_root: Path) -> None:
    journal = Journal(data_root)
    start = {**event_model.compose_run().start_doc, "scan_id": np.int64(7)}
    start |= {"span": np.array([0.0, 45.0]), "flag": np.True_, "one": np.float32(0.5)}
    journal("start", start)
    (entry,) = list_journals(data_root)
    ((_, read),) = read_journal(entry.path)
    assert (read["scan_id"], read["span"], read["flag"], read["one"]) == (7, [0.0, 45.0], True, 0.5)
    journal.close()


def test_interleaved_runs_have_a_file_each(data_root: Path) -> None:
    journal = Journal(data_root / JOURNAL_DIR)
    runs = [Run(journal, data_root / "frames", seed=seed) for seed in (0, 1)]
    for step in ("begin", "point", "point", "end"):
        for run in runs:
            getattr(run, step)()
    for entry, run in zip(list_journals(data_root / JOURNAL_DIR), runs, strict=True):
        docs = list(read_journal(entry.path))
        assert docs[0][1]["uid"] == run.uid == entry.uid
        assert docs[-1][1]["run_start"] == run.uid
        assert sum(name == "event" for name, _ in docs) == 2


def test_journals_are_listed_in_the_order_of_their_start(data_root: Path) -> None:
    times = [1.5e9 + 0.25, 1.5e9, 1.6e9, 1.4e9]
    uids = [write_run(data_root, time=time, points=0) for time in times]
    listed = [entry.uid for entry in list_journals(data_root / JOURNAL_DIR)]
    assert listed == [uid for _, uid in sorted(zip(times, uids, strict=True))]


def test_a_frame_in_an_event_is_refused(data_root: Path) -> None:
    journal = Journal(data_root)
    run = event_model.compose_run()
    journal("start", run.start_doc)
    event = {"uid": "e", "descriptor": "d", "data": {"image": np.zeros((960, 1280), "u1")}}
    with pytest.raises(JournalError, match="'image' holds 1228800 bytes; frames belong in a frame file"):
        journal("event", event)
    journal.close()


@pytest.mark.parametrize(
    ("name", "doc", "message"),
    [
        ("start", {"uid": "../../etc/passwd", "time": 1.0}, "cannot be the name of a journal"),
        ("start", {"uid": "a", "time": "yesterday"}, "seconds since the epoch"),
        ("start", {"uid": "a", "time": 1.0, "sample": {1, 2}}, "cannot be written as JSON"),
        ("event", {"uid": "a", "descriptor": "unknown", "data": {}}, "belongs to no run"),
        ("stop", {"uid": "a", "run_start": "unknown"}, "belongs to no run"),
        ("nonsense", {"uid": "a"}, "not the name of a document"),
    ],
)
def test_what_cannot_be_journalled_is_refused_by_name(
    data_root: Path, name: str, doc: dict[str, Any], message: str
) -> None:
    with Journal(data_root) as journal, pytest.raises(JournalError, match=message):
        journal(name, doc)
    assert not list(data_root.rglob("*.jsonl"))


def test_a_uid_is_journalled_once(data_root: Path) -> None:
    start = event_model.compose_run().start_doc
    with Journal(data_root) as journal:
        journal("start", start)
        with pytest.raises(JournalError, match="started twice"):
            journal("start", start)
    with Journal(data_root) as journal, pytest.raises(JournalError, match="exists already"):
        journal("start", start)


def test_a_read_only_root_is_named_with_the_free_bytes_and_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(DataRootError, match=r"MB are free there.*data_root in config/lunchbox.yml"):
        Journal(blocked)("start", event_model.compose_run().start_doc)


def test_a_full_disk_leaves_whole_lines_and_a_run_that_can_be_closed(data_root: Path) -> None:
    journal = Journal(data_root / JOURNAL_DIR)
    run = Run(journal, data_root / "frames")
    run.begin()
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses to let the file grow past the limit, as it does on a full disk: with half a line written.
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (entry.path.stat().st_size + 50, before[1]))
    try:
        with pytest.raises(DataRootError, match="cannot be written"):
            journal("stop", run._run.compose_stop())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert entry.path.read_bytes().endswith(b"}]\n")
    assert close_dead(entry.path, reason="disk full")
    assert list(read_journal(entry.path))[-1][1]["exit_status"] == "abort"
    run.file.close()


class TestScanId:
    def test_it_never_resets(self, data_root: Path) -> None:
        assert [Journal(data_root).next_scan_id({}) for _ in range(3)] == [1, 2, 3]

    def test_it_is_above_every_journal(self, data_root: Path) -> None:
        write_run(data_root, scan_id=41, points=0)
        assert Journal(data_root / JOURNAL_DIR).next_scan_id() == 42

    def test_a_lost_counter_is_found_again_in_the_journals(self, data_root: Path) -> None:
        for scan_id in (3, 17, 5):
            write_run(data_root, scan_id=scan_id, points=0)
        (data_root / JOURNAL_DIR / "scan_id").write_text("")
        assert Journal(data_root / JOURNAL_DIR).next_scan_id() == 18

    def test_two_processes_never_get_the_same(self, data_root: Path) -> None:
        context = multiprocessing.get_context("spawn")
        with context.Pool(2) as pool:
            numbers = pool.map(_ten_scan_ids, [str(data_root)] * 4)
        assert sorted(itertools.chain(*numbers)) == list(range(1, 41))


def _ten_scan_ids(directory: str) -> list[int]:
    from catalog.journal import Journal

    journal = Journal(directory)
    return [journal.next_scan_id() for _ in range(10)]


class TestLines:
    @given(st.sampled_from(list(event_model.DocumentNames.__members__)), st.dictionaries(st.text(), JSON))
    def test_a_document_survives_its_line(self, name: str, doc: dict[str, Any]) -> None:
        if name in {"event", "event_page"}:
            doc["data"] = {}
        line = encode(name, doc)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        assert decode(line, where="here") == (name, doc)

    @given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
    def test_any_other_line_is_an_error_that_says_where(self, line: bytes) -> None:
        with contextlib.suppress(JournalError):
            name, doc = decode(line, where="a.jsonl, line 3")
            assert name in event_model.DocumentNames.__members__
            assert isinstance(doc, dict)
            return
        with pytest.raises(JournalError, match=r"^a\.jsonl, line 3: "):
            decode(line, where="a.jsonl, line 3")

    @settings(max_examples=30, deadline=None)
    @given(cut=st.integers(min_value=0))
    def test_a_journal_torn_anywhere_reads_as_the_whole_documents_before(
        self, tmp_path_factory: pytest.TempPathFactory, cut: int
    ) -> None:
        whole = b"".join(encode("start", {"uid": str(n), "text": "ü" * n}) for n in range(4))
        cut %= len(whole) + 1
        path = tmp_path_factory.mktemp("torn") / "torn.jsonl"
        path.write_bytes(whole[:cut])
        count = whole[:cut].count(b"\n")
        docs = [doc["uid"] for _, doc in read_journal(path)]
        # The bytes of a line without its line feed are a whole document too.
        assert docs in ([str(n) for n in range(count)], [str(n) for n in range(count + 1)])
        assert [doc["uid"] for _, doc in JournalTail(path).poll()] == [str(n) for n in range(count)]

    def test_a_damaged_line_in_the_middle_names_file_and_line(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes(encode("start", {"uid": "a"}) + b'["event", {]\n' + encode("stop", {"uid": "b"}))
        with pytest.raises(JournalError, match=r"a\.jsonl, line 2: not JSON"):
            list(read_journal(path))


def test_a_tail_gives_each_document_once_and_knows_the_end(data_root: Path) -> None:
    journal = Journal(data_root / JOURNAL_DIR)
    run = Run(journal, data_root / "frames")
    run.begin()
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    tail = JournalTail(entry.path)
    assert [name for name, _ in tail.poll()] == ["start", "descriptor", "resource", "resource"]
    assert list(tail.poll()) == []
    run.point()
    assert [name for name, _ in tail.poll()] == ["datum", "datum", "event"]
    assert not tail.stopped
    assert not is_finished(entry.path)
    run.end()
    assert is_finished(entry.path)
    assert [name for name, _ in tail.poll()] == ["stop"]
    assert tail.stopped


def test_ten_thousand_journals_do_not_slow_the_next_scan_id(data_root: Path) -> None:
    directory = data_root / JOURNAL_DIR
    write_run(data_root, points=0)
    (entry,) = list_journals(directory)
    for number in range(10_000):
        os.link(entry.path, entry.path.with_name(f"000000.{number:06d}-{number}.jsonl"))
    began = time.perf_counter()
    assert Journal(directory).next_scan_id() == 2
    assert time.perf_counter() - began < 0.5


def test_after_a_line_that_the_disk_refused_the_next_one_follows_the_last_whole_one(data_root: Path) -> None:
    # A file system of 320 KB, filled by somebody else in the middle of a run.
    folder = data_root / "small"
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        journal = Journal(folder / "journal")
        start = {"uid": "full", "time": 1.0}
        journal("start", start)
        journal("descriptor", {"uid": "d", "run_start": "full", "time": 1.0, "name": "primary", "data_keys": {}})
        with contextlib.suppress(OSError), (folder / "junk").open("wb", buffering=0) as junk:
            while junk.write(bytes(4096)):
                pass
        event = {"uid": "e", "descriptor": "d", "seq_num": 1, "time": 2.0, "data": {"x": "y" * 9000}, "timestamps": {}}
        with pytest.raises(DataRootError, match="No space left on device"):
            journal("event", event)
        stop = {"uid": "s", "run_start": "full", "time": 3.0, "exit_status": "fail", "reason": "z" * 9000}
        journal("stop", stop)
        (entry,) = list_journals(folder / "journal")
        assert [name for name, _ in read_journal(entry.path)] == ["start", "descriptor", "stop"]
        # Nothing begins on a disk on which it could not end.
        with contextlib.suppress(OSError), (folder / "more junk").open("wb", buffering=0) as junk:
            while junk.write(bytes(4096)):
                pass
        with pytest.raises(DataRootError, match="reserve cannot be written"):
            journal("start", {"uid": "next", "time": 4.0})
        assert len(list_journals(folder / "journal")) == 1
        (folder / "junk").unlink()
        journal("start", {"uid": "next", "time": 5.0})
        journal.close()
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
