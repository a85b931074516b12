"""`lunchbox rebuild`: the same catalogue again, whatever happens on the way, and the old one until then."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import CommandLine
from documents import Run, frame, make_settings, write_analysis, write_run

from catalog import open_catalog
from catalog.embedded import close_embedded
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.quarantine import Quarantine
from catalog.rebuild import RebuildBusy, _rebuild_lock, rebuild
from catalog.server import Server
from catalog.store import CatalogStore


def contents(data_root: Path, uids: list[str]) -> dict[str, Any]:
    """Metadata, rows and pixels of `uids`, as a user reads them."""
    catalog = open_catalog(settings=make_settings(data_root))
    try:
        assert list(catalog) == uids
        return {
            uid: (dict(catalog[uid].metadata), catalog[uid].primary.read().to_dict(), catalog[uid].stop) for uid in uids
        }
    finally:
        catalog.close()
        close_embedded()


def same(one: Any, other: Any) -> bool:
    return bool(repr(one) == repr(other))


def test_the_catalogue_is_the_same_again_after_it_was_deleted(data_root: Path) -> None:
    uids = [write_run(data_root, points=3, seed=number) for number in range(4)]
    before = contents(data_root, uids)
    assert np.array(before[uids[2]][1]["data_vars"]["lunchbox_image"]["data"]).tobytes() != b""
    store = CatalogStore(data_root)
    for path in store.directory.glob("*.db*"):
        path.unlink()
    seen: list[tuple[int, int]] = []
    done = rebuild(make_settings(data_root), progress=lambda done, total: seen.append((done, total)))
    assert (done.runs, done.by_server, done.quarantined) == (4, 0, 0)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    after = contents(data_root, uids)
    assert np.array_equal(after[uids[2]][1]["data_vars"]["lunchbox_image"]["data"], [frame(2, i) for i in range(3)])
    assert same(before, after)


def test_what_was_bad_is_quarantined_and_what_is_in_progress_is_left_to_ingest(data_root: Path) -> None:
    good = write_run(data_root)
    bad = write_run(data_root)
    (path,) = (path for path in (data_root / JOURNAL_DIR).rglob("*.jsonl") if bad in path.name)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))
    with Journal(data_root / JOURNAL_DIR, fsync=False) as journal:
        live, dead = (Run(journal, data_root / FRAMES_DIR, seed=seed) for seed in (1, 2))
        live.begin()
        live.point()
        with Journal(data_root / JOURNAL_DIR, fsync=False) as other:
            dead._emit = other
            dead.begin()
            dead.point()
        done = rebuild(make_settings(data_root))
        assert (done.runs, done.in_progress, done.quarantined) == (2, 1, 1), done
        (note,) = Quarantine(CatalogStore(data_root).quarantine).notes()
        assert "which was not announced" in note["reason"]
        assert bad in note["journal"]
        catalog = open_catalog(settings=make_settings(data_root))
        live.end()
        assert catalog.wait_for(live.uid).stop["exit_status"] == "success"
        assert catalog[dead.uid].stop["exit_status"] == "abort"
        assert list(catalog) == [good, dead.uid, live.uid]
        catalog.close()
        close_embedded()


def test_a_server_goes_on_with_the_catalogue_that_it_began_with(data_root: Path) -> None:
    uids = [write_run(data_root, points=2)]
    settings = make_settings(data_root)
    with Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
        done = rebuild(settings)
        assert done.still_read == ("the first one",)
        uids.append(write_run(data_root, points=2, seed=5))
        # What it takes in from now on is taken in again by the next one.
        np.testing.assert_array_equal(catalog.wait_for(uids[1]).primary["lunchbox_image"][1], frame(5, 1))
        catalog.close()
        old = server.store.database
        assert old.exists()
    contents(data_root, uids)
    done = rebuild(settings)
    assert done.still_read == ()
    assert not old.exists()
    assert [path.name for path in (data_root / "catalog").glob("index-*")] == ["index-2"]
    contents(data_root, uids)


def test_one_at_a_time(data_root: Path) -> None:
    store = CatalogStore(data_root)
    store.directory.mkdir(parents=True)
    with _rebuild_lock(store), pytest.raises(RebuildBusy, match="wait for it"):
        rebuild(make_settings(data_root))


REBUILD = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from documents import make_settings
from catalog import rebuild as module
module._CHUNK = 1
print("begun", flush=True)
module.rebuild(make_settings(Path(sys.argv[1])), progress=lambda done, total: print(done, flush=True))
"""

#: kill -9 of the rebuild: the full count is for a machine of its own.
KILLS = int(os.environ.get("LUNCHBOX_TEST_KILLS", "2"))


def test_killed_at_any_moment_the_old_catalogue_stays_and_the_new_one_is_completed(data_root: Path) -> None:
    uids = [write_run(data_root, points=2, seed=number) for number in range(8)]
    fit = write_analysis(data_root, uids[3])
    before = contents(data_root, uids)
    store = CatalogStore(data_root)
    seed = random.randrange(10**6)
    dice = random.Random(seed)
    print("seed", seed)
    interrupted = 0
    for _ in range(KILLS):
        generation = store.pinned().generation
        process = subprocess.Popen(
            [sys.executable, "-c", REBUILD.format(path=sys.path), str(data_root)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            line = ""
            while line := process.stdout.readline():
                if dice.random() < 0.2:
                    time.sleep(dice.random() * 0.02)
                    break
            process.send_signal(signal.SIGKILL)
            process.wait()
        interrupted += line != "9\n"
        if store.pinned().generation == generation:
            assert store.database.exists()
    done = rebuild(make_settings(data_root))
    assert done.runs == len(uids) + 1
    assert same(contents(data_root, uids), before)
    catalog = open_catalog(settings=make_settings(data_root))
    assert list(catalog.processed) == [fit]
    np.testing.assert_array_equal(catalog.processed[fit]["fit"]["covariance"].read(), [np.eye(7)])
    catalog.close()
    close_embedded()
    assert interrupted or KILLS < 10


def test_the_command_tells_what_it_did(tmp_path: Path) -> None:
    lunchbox = CommandLine(tmp_path)
    uid = write_run(lunchbox.data_root, points=2)
    said = lunchbox.run("rebuild")
    assert f"catalogue   {lunchbox.data_root}/catalog/index-1/catalog.db" in said.stdout
    assert "1 run," in said.stdout
    result = lunchbox.json("rebuild")
    assert (result["runs"], result["quarantined"], result["still_read"]) == (1, 0, [])
    catalog = open_catalog(settings=make_settings(lunchbox.data_root))
    assert list(catalog) == [uid]
    catalog.close()
    close_embedded()
