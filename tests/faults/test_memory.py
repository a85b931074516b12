"""A run that is very long: neither the server that takes it in nor who reads it needs more memory for it.

LUNCHBOX_TEST_POINTS=20000 for the long form.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from command import CommandLine
from documents import Run

from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.store import CatalogStore

FIRST = 500
POINTS = int(os.environ.get("LUNCHBOX_TEST_POINTS", "2000"))
STEP = 250  # points that are waited for at once
#: MiB for each 1000 points. Of a document, its identity and a digest are kept, to know it if it comes again.
SERVER_BOUND, READER_BOUND = 4.0, 1.0
MARGIN = 4.0  # MiB, of what does not grow with the run

READER = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
from documents import make_settings
from test_memory import resident
from catalog import open_catalog
data_root, uri, key, uid = sys.argv[1:]
run = open_catalog(uri, settings=make_settings(Path(data_root)), api_key=key)[uid]
number, at = 0, []
for name, _ in run.documents():
    if name == "event":
        number += 1
        if number in ({first}, {points}):
            at.append(resident())
frames = run.primary["lunchbox_image"]
for number in range({points}):
    frames[number]
    if number + 1 in ({first}, {points}):
        at.append(resident())
print(*at)
"""


def resident(pid: int | str = "self") -> float:
    """Memory of a process that is in use, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.mark.timeout(400 + POINTS // 10)
def test_it_is_taken_in_live_and_read_in_flat_memory(tmp_path: Path) -> None:
    command = CommandLine(tmp_path, config='{"server": {"port": 0}}')
    with command.start("serve", "--json") as server:
        try:
            assert server.stdout is not None
            uri = json.loads(server.stdout.readline())["uri"]
            key = CatalogStore(command.data_root).api_key()
            with (
                Journal(command.data_root / JOURNAL_DIR, fsync=False) as journal,
                httpx.Client(
                    base_url=f"{uri}/api/v1/metadata/", headers={"Authorization": f"Apikey {key}"}, timeout=60
                ) as http,
            ):
                run = Run(journal, command.data_root / FRAMES_DIR, shape=(4, 4, 3))
                run.begin()
                for number in range(1, POINTS + 1):
                    run.point()
                    if number % STEP == 0:
                        wait_until_in(http, f"{run.uid}/primary/lunchbox_background", number)
                    if number == FIRST:
                        first = resident(server.pid)
                last = resident(server.pid)
                run.end()
            code = READER.format(path=[*sys.path, str(Path(__file__).parent)], first=FIRST, points=POINTS)
            arguments = [sys.executable, "-c", code, str(command.data_root), uri, key, run.uid]
            said = subprocess.run(arguments, capture_output=True, text=True, timeout=170 + POINTS // 20)
            assert said.returncode == 0, said.stderr
            documents, documents_last, frames, frames_last = map(float, said.stdout.split())
            served = resident(server.pid)
        finally:
            server.send_signal(signal.SIGINT)
    print(f"MiB at {FIRST} and {POINTS} points: server {first:.0f}, {last:.0f}, read from {served:.0f}; ", end="")
    print(f"reader of documents {documents:.0f}, {documents_last:.0f}, of frames {frames:.0f}, {frames_last:.0f}")
    thousands = (POINTS - FIRST) / 1000
    assert last - first < SERVER_BOUND * thousands + MARGIN, f"server, live: {first:.0f} MiB, then {last:.0f}"
    assert documents_last - documents < READER_BOUND * thousands + MARGIN, (
        f"{documents:.0f} MiB, then {documents_last:.0f}"
    )
    assert frames_last - frames < READER_BOUND * thousands + MARGIN, f"{frames:.0f} MiB, then {frames_last:.0f}"
    assert served - last < SERVER_BOUND * thousands + 40, f"server, read from: {last:.0f} MiB, then {served:.0f}"


def wait_until_in(http: httpx.Client, path: str, count: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        answer = http.get(path)
        if answer.is_success and answer.json()["data"]["attributes"]["structure"]["shape"][0] >= count:
            return
        assert time.monotonic() < deadline, f"{count} points are not in the catalogue"
        time.sleep(0.05)
