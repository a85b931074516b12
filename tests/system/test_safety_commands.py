"""`arm`, `repair` and `--background` as their users have them."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from channel_access import put, value, wait_for
from command import SMALL_BENCH, CommandLine

from acquisition.ioc.process import IOCProcess
from analysis import load_scan
from analysis.errors import BadScan
from catalog import layout, open_catalog
from catalog.journal_files import list_journals, read_journal
from config import load_settings


def test_a_disarmed_laser_stops_a_scan_before_it_begins_until_it_is_armed(
    command: CommandLine, ioc: IOCProcess
) -> None:
    assert command.json("arm", "--off") == {"armed": False, "prefix": "LUNCHBOX:"}
    try:
        refused = command.run("scan", "--points", "2")
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("LaserError: LUNCHBOX:LASER:ARM is 0: the laser is disarmed.")
        assert "`lunchbox arm`" in refused.stderr
        assert not list(command.data_root.rglob("*.jsonl"))
        assert value(ioc, "LASER:RBV") == 0.0
    finally:
        armed = command.run("arm")
    assert (armed.returncode, armed.stdout) == (0, "LUNCHBOX:LASER is armed\n")
    command.json("count")


@pytest.mark.parametrize("then", ["armed", "interrupted"])
def test_a_scan_waits_while_the_laser_is_disarmed(command: CommandLine, ioc: IOCProcess, then: str) -> None:
    scan = command.start("scan", "--points", "30", "--start", "0", "--stop", "3", "--json")
    try:
        wait_for(ioc, "LASER:RBV", 1.0, timeout=60)
        put(ioc, "LASER:ARM", 0)
        assert scan.stderr is not None
        while not (line := scan.stderr.readline()).startswith("LUNCHBOX:LASER:ARM is 0: the laser is off, and the"):
            assert line
        for _ in range(20):
            assert value(ioc, "LASER:RBV") == 0.0
        if then == "interrupted":
            scan.send_signal(signal.SIGINT)
            scan.wait(timeout=60)
    finally:
        put(ioc, "LASER:ARM", 1)
    out, err = scan.communicate(timeout=60)
    (journal,) = list_journals(command.data_root / layout.JOURNAL_DIR)
    _, stop = list(read_journal(journal.path))[-1]
    if then == "armed":
        assert "LUNCHBOX:LASER:ARM is 1: the scan goes on\n" in err
        assert json.loads(out)["uid"] == journal.uid
        assert (stop["exit_status"], stop["num_events"]["primary"]) == ("success", 30)
    else:
        assert (scan.returncode, stop["exit_status"]) == (1, "abort")
        assert out == ""  # what bluesky says goes elsewhere
        assert err.splitlines()[-1].startswith("Interrupted: ")


def test_a_killed_scan_is_repaired_into_a_file_that_opens(command: CommandLine) -> None:
    scan = command.start("scan", "--points", "60", "--start", "0", "--stop", "5")
    deadline = time.monotonic() + 60
    while not (paths := list(command.data_root.rglob("*.h5"))) or paths[0].stat().st_size < 8e6:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(scan.pid, signal.SIGKILL)
    scan.communicate()
    done = command.json("repair", str(paths[0]))
    assert done["frames"] >= 2
    assert Path(done["original"]) == paths[0]
    with h5py.File(done["copy"], "r") as file:
        assert file[layout.IMAGE][()].max(axis=(1, 2, 3)).min() > 100
        assert len(file[layout.BACKGROUND]) == done["frames"]
    again = command.run("repair", str(paths[0]))
    assert again.returncode == 1
    assert again.stderr.startswith("DataRootError: ")


def test_a_scan_has_the_backgrounds_that_were_asked_for_and_they_are_the_right_ones(
    ioc: IOCProcess, tmp_path: Path
) -> None:
    from acquisition.session import angle_scan, open_session

    (tmp_path / "lunchbox.yml").write_text(SMALL_BENCH)
    settings = load_settings(tmp_path / "lunchbox.yml", data_root=tmp_path / "data")
    with open_session(settings) as session:
        uids = {
            mode: session.run(angle_scan(session.lunchbox, start=0, stop=30, num=3, background=mode))
            for mode in ("each", "first", "none")
        }
        session.RE.loop.call_soon_threadsafe(session.RE.loop.stop)
        session.RE._th.join()
        session.RE.loop.close()
    catalog = open_catalog(settings=settings)
    try:
        for mode in ("each", "first"):
            scan = load_scan(catalog.wait_for(uids[mode]), catalog)
            pairs = [scan.pair(i) for i in range(3)]
            for image, background in pairs:
                # A few pixels are hot; spots are more.
                bright_image, bright_background = ((frame[..., 0] > 100).sum() for frame in (image, background))
                assert bright_image > bright_background + 20
            same = [np.array_equal(pairs[0][1], background) for _, background in pairs]
            assert same == ([True, False, False] if mode == "each" else [True, True, True])
            assert not np.array_equal(pairs[0][0], pairs[1][0])
            read = catalog[uids[mode]].primary.read()["lunchbox_background"]
            np.testing.assert_array_equal(read, np.stack([background for _, background in pairs]))
        run = catalog.wait_for(uids["none"])
        assert "lunchbox_background" not in run.primary.read()
        with pytest.raises(BadScan, match=r"has no backgrounds \(background = 'none'\).*frames of your own"):
            load_scan(run, catalog)
    finally:
        catalog.close()
        from catalog.embedded import close_embedded

        close_embedded()
