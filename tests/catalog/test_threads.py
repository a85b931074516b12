"""Eight threads read a file that grows, by every route, and not one pixel is wrong.

A reader that keeps the file open and refreshes its dataset gives other frames than were asked for, silently.
"""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from documents import FrameFile, Run, frame

from catalog.handlers import LunchBoxHDF5Handler, handler_registry
from catalog.journal import Journal, list_journals, read_journal
from catalog.layout import BACKGROUND, FRAMES_DIR, IMAGE, JOURNAL_DIR

THREADS = 8
COUNT = 60
SHAPE = (96, 128, 3)
SEED = 500
EXPECTED = {
    key: [frame(seed, i, shape=SHAPE) for i in range(COUNT)] for key, seed in ((IMAGE, SEED), (BACKGROUND, SEED + 1))
}

SCAN = """
import sys, pathlib, time
sys.path[:0] = {path!r}
from documents import Run
from catalog.journal import Journal
root = pathlib.Path(sys.argv[1])
run = Run(Journal(root / "journal", fsync=False), root / "frames", shape={shape!r}, seed={seed}, scan_id=900)
run.begin()
print(run.uid, run.file.path, flush=True)
for _ in range({count}):
    run.point()
    time.sleep(0.05)
sys.stdin.readline()
run.end()
"""


class Growing:
    """A scan in another process."""

    def __init__(self, data_root: Path) -> None:
        program = SCAN.format(path=sys.path, shape=SHAPE, seed=SEED, count=COUNT)
        self._process = subprocess.Popen(
            [sys.executable, "-c", program, str(data_root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.uid, path = self._process.stdout.readline().split()
        self.path = Path(path)
        self.journal = next(e.path for e in list_journals(data_root / JOURNAL_DIR) if e.uid == self.uid)

    def announced(self) -> int:
        """Frames that the journal names: each must be readable."""
        return sum(name == "event" for name, _ in read_journal(self.journal))

    def grows(self) -> bool:
        return self.announced() < COUNT

    def finish(self) -> None:
        """Let the run end; it waits for that."""
        if self._process.poll() is None:
            self._process.communicate("\n", timeout=30)
        assert self._process.returncode == 0


@pytest.fixture
def growing(served: Any) -> Iterator[Growing]:
    scan = Growing(served.data_root)
    yield scan
    scan.finish()


def in_threads(read: Callable[[random.Random], int], *, while_: Callable[[], bool]) -> int:
    """Frames that were compared by all threads; the first failure of any is raised."""
    compared: list[int] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        dice = random.Random(number)
        try:
            while while_() and not failures:
                compared.append(read(dice))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(compared)


def compare(key: str, first: int, frames: Any) -> int:
    for index, pixels in enumerate(frames, start=first):
        np.testing.assert_array_equal(pixels, EXPECTED[key][index], err_msg=f"{key}, frame {index}")
    return len(frames)


def read_by_handler(path: Path, announced: Callable[[], int]) -> Callable[[random.Random], int]:
    """Half of the threads' reads are of one frame, half of a slice; each opens its handler or shares one."""
    shared = {key: LunchBoxHDF5Handler(path, dataset=key) for key in EXPECTED}

    def read(dice: random.Random) -> int:
        key = dice.choice([IMAGE, BACKGROUND])
        handler = dice.choice([shared[key], LunchBoxHDF5Handler(path, dataset=key)])
        count = announced()
        if not count:
            return 0
        first = dice.randrange(count)
        if dice.random() < 0.5:
            return compare(key, first, [handler(frame=first)])
        return compare(key, first, handler.read(slice(first, min(first + 5, count))))

    return read


def test_by_the_handler_while_another_process_writes(growing: Growing) -> None:
    assert in_threads(read_by_handler(growing.path, growing.announced), while_=growing.grows) > COUNT


def test_by_the_handler_while_this_process_writes(data_root: Path) -> None:
    file = FrameFile(data_root, shape=SHAPE, seed=SEED)
    writing = threading.Event()

    def write() -> None:
        for _ in range(COUNT):
            file.append()
            time.sleep(0.01)
        writing.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert in_threads(read_by_handler(file.path, lambda: file.count), while_=lambda: not writing.is_set()) > COUNT
    writer.join()
    file.close()


def test_by_the_filler_while_the_journal_grows(data_root: Path) -> None:
    journal = Journal(data_root / JOURNAL_DIR, fsync=False)
    run = Run(journal, data_root / FRAMES_DIR, shape=SHAPE, seed=SEED)
    run.begin()
    run.point()
    (entry,) = list_journals(data_root / JOURNAL_DIR)
    done = threading.Event()

    def write() -> None:
        for _ in range(COUNT - 1):
            run.point()
            time.sleep(0.02)
        done.set()

    def read(dice: random.Random) -> int:
        compared = 0
        with event_model.Filler(handler_registry(), inplace=False) as filler:
            for name, doc in read_journal(entry.path):
                name, doc = filler(name, doc)
                if name == "event":
                    first = doc["seq_num"] - 1
                    compared += compare(IMAGE, first, [doc["data"]["lunchbox_image"]])
                    compared += compare(BACKGROUND, first, [doc["data"]["lunchbox_background"]])
        return compared

    writer = threading.Thread(target=write)
    writer.start()
    assert in_threads(read, while_=lambda: not done.is_set()) > COUNT
    writer.join()
    run.end()


def test_by_the_catalogue_and_over_http_while_the_run_is_ingested(served: Any, catalog: Any, growing: Growing) -> None:
    from tiled.client import from_uri

    clients = [catalog, from_uri(served.server.uri, api_key=served.server.api_key)]

    def arrays() -> list[Any]:
        return [client[growing.uid].primary["lunchbox_background"] for client in clients]

    def read(dice: random.Random) -> int:
        # Eight readers that never rest would leave two cores no time to ingest anything.
        time.sleep(0.2)
        # Of its own: a client that is refreshed by one thread must not change under another.
        array = dice.choice(live).new_variation().refresh()
        first = dice.randrange(len(array))
        frames = array[first : first + 4]
        assert len(frames) == min(4, len(array) - first)
        return compare(BACKGROUND, first, frames)

    try:
        live = wait_for(arrays)
        deadline = time.monotonic() + 5
        assert in_threads(read, while_=lambda: time.monotonic() < deadline) > THREADS
        growing.finish()
        finished = catalog.wait_for(growing.uid, timeout=60)
        assert in_threads(read_once(finished, clients[1][growing.uid]), while_=limited(16)) > COUNT
    finally:
        clients[1].context.close()


def wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while True:
        try:
            return look()
        except (KeyError, AttributeError):
            assert time.monotonic() < deadline, "the run did not appear in the catalogue"
            time.sleep(0.2)


def read_once(*runs: Any) -> Callable[[random.Random], int]:
    def read(dice: random.Random) -> int:
        key = dice.choice([IMAGE, BACKGROUND])
        array = dice.choice(runs).primary["lunchbox_image" if key == IMAGE else "lunchbox_background"]
        return compare(key, 0, array[:])

    return read


def limited(count: int) -> Callable[[], bool]:
    left = iter(range(count))
    return lambda: next(left, None) is not None
