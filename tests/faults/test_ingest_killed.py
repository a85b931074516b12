"""kill -9 of the server at any moment of an ingest, and at each of its steps: the catalogue ends as the journals say.

`LUNCHBOX_TEST_KILLS=100` gives the full count; some of the steps and one random moment otherwise.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from documents import frame, make_settings, write_analysis, write_run

from catalog.journal import list_journals, read_journal
from catalog.layout import JOURNAL_DIR
from catalog.quarantine import Quarantine
from catalog.server import Server
from catalog.store import CatalogStore

KILLS = int(os.environ.get("LUNCHBOX_TEST_KILLS", "1"))

#: Serves, and kills itself before or after what `step` names; "any" lives until it is killed.
SERVE = """
import os, re, signal, sys, threading
sys.path[:0] = {path!r}
from pathlib import Path
from documents import make_settings
from catalog import server
from tiled.adapters.sql import SQLAdapter
from tiled.adapters.zarr import ZarrArrayAdapter

when, step = sys.argv[2].split(" ", 1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def wrap(owner, name):
    original = getattr(owner, name)
    def wrapped(*args, **kwargs):
        if when == "before":
            die()
        result = original(*args, **kwargs)
        die()
    setattr(owner, name, wrapped if isinstance(owner.__dict__[name], type(wrapped)) else staticmethod(wrapped))

if step.startswith("server "):
    wrap(dict(SQLAdapter=SQLAdapter, ZarrArrayAdapter=ZarrArrayAdapter)[step.split()[1]], step.split()[2])

original = server.from_uri
def from_uri(*args, **kwargs):
    client = original(*args, **kwargs)
    def hook(event):
        request = getattr(event, "request", event)
        if re.search(step, f"{{request.method}} {{request.url.path}}"):
            die()
    client.context.http_client.event_hooks["response" if when == "after" else "request"].append(hook)
    return client
server.from_uri = from_uri

with server.Server(make_settings(Path(sys.argv[1]))) as running:
    print("up", flush=True)
    running.ingester.caught_up.wait()
    print("done", flush=True)
    threading.Event().wait()
"""

_UID = "[0-9a-f-]{36}"
#: The steps of an ingest of a scan and a fit: requests to the server, and what the server does in the middle of them.
STEPS = {
    "run": "POST /api/v1/metadata/$",
    "stream": f"POST /api/v1/metadata//{_UID}$",
    "table": f"POST /api/v1/metadata//{_UID}/primary$",
    "rows": "PATCH /api/v1/table/partition//",
    "frames": "POST /api/v1/register//",
    "extent of the frames": "PUT /api/v1/data_source//",
    "stop": f"PATCH /api/v1/metadata//{_UID}$",
    "fit": "POST /api/v1/metadata/processed$",
    "array": "PUT /api/v1/array/full/processed/",
    "stop of the fit": f"PATCH /api/v1/metadata/processed/{_UID}$",
    "table in the server": "server SQLAdapter init_storage",
    "rows in the server": "server SQLAdapter append_partition",
    "array in the server": "server ZarrArrayAdapter init_storage",
    "values of the array in the server": "server ZarrArrayAdapter write",
}


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return tmp_path / "data"


def trials(dice: random.Random) -> list[str]:
    steps = [f"{when} {step}" for step in STEPS.values() for when in ("before", "after")]
    if only := os.environ.get("LUNCHBOX_TEST_STEP"):
        return [s for s in steps if only in s]
    return [*(steps if KILLS >= 100 else dice.sample(steps, 3)), *["any any"] * KILLS]


def run_and_kill(data_root: Path, step: str, dice: random.Random) -> bool:
    """Whether it died before it had taken in everything."""
    log = data_root / "server.log"
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE.format(path=sys.path), str(data_root), step],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout:
        line = process.stdout.readline()
        if step == "any any":
            time.sleep(dice.random() * 1.5)
        else:
            line = process.stdout.readline() if line == "up\n" else line
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert line in {"up\n", "done\n", ""}, log.read_text()
    return line != "done\n"


def assert_catalogue_is_the_journals(data_root: Path, seeds: dict[str, int]) -> None:
    from catalog import open_catalog

    settings = make_settings(data_root)
    with Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(120 + 10 * len(seeds))
        catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
        entries = list_journals(data_root / JOURNAL_DIR)
        assert Quarantine(CatalogStore(data_root).quarantine).notes() == []
        assert sorted([*catalog, *catalog.processed]) == sorted(entry.uid for entry in entries)
        for entry in entries:
            docs = list(read_journal(entry.path))
            run = (catalog if entry.uid in seeds else catalog.processed)[entry.uid]
            assert run.start == docs[0][1]
            assert run.stop == docs[-1][1]
            events = [doc for name, doc in docs if name == "event"]
            stream = run.primary if entry.uid in seeds else run["fit"]
            assert stream.base["internal"].read()["seq_num"].tolist() == [event["seq_num"] for event in events]
            if entry.uid in seeds:
                expected = [frame(seeds[entry.uid], index) for index in range(len(events))]
                np.testing.assert_array_equal(stream["lunchbox_image"].read(), expected)
            else:
                np.testing.assert_array_equal(stream["covariance"].read(), [np.eye(7)])
        catalog.close()


def test_the_catalogue_ends_as_the_journals_say(data_root: Path) -> None:
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print("seed", seed)
    seeds: dict[str, int] = {}
    killed = []
    for number, step in enumerate(trials(dice)):
        uid = write_run(data_root, points=2, seed=number)
        seeds[uid] = number
        write_analysis(data_root, uid)
        if run_and_kill(data_root, step, dice):
            killed.append(step)
    print("killed", killed)
    assert_catalogue_is_the_journals(data_root, seeds)
    named = [step for step in killed if step != "any any"]
    assert len(named) >= 2, f"steps that never came: of {trials(random.Random(seed))}, only {killed} were killed"
