"""`lunchbox calibrate --lens`: from pictures and live; the scans that follow carry the lens, and their fits name it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from boards import BoardCamera
from command import CommandLine

from catalog import layout, open_catalog
from config import load_settings

CAMERA = BoardCamera(focal_length=650.0, k1=-0.2, shape=(480, 640), centre=(322.0, 237.0))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards")
    rng = np.random.default_rng(4)
    for number in range(12):
        cv2.imwrite(str(folder / f"{number:03d}.png"), CAMERA.photograph(rng))
    return folder


def test_scan_after_it_carries_the_lens(command: CommandLine, pictures: Path) -> None:
    lens = command.json("calibrate", "--lens", *map(str, sorted(pictures.glob("*.png"))))
    assert lens["distortion"][0] == pytest.approx(-0.2, abs=0.01)
    assert lens["rms"] < 0.1
    assert len(lens["view_rms"]) == 12

    uid = command.json("count")["uid"]
    (path,) = (command.data_root / layout.JOURNAL_DIR).rglob(f"*{uid}*")
    start = json.loads(path.read_text().splitlines()[0])[1]
    assert start["lens_uid"] == lens["uid"]
    assert start["lens"]["distortion"] == lens["distortion"]

    catalog = open_catalog(settings=load_settings(data_root=command.data_root))
    run = catalog.wait_for(lens["uid"])
    assert run.start["plan_name"] == "calibrate_lens"
    assert run["views"].read()["rms"].max() < 0.2
    assert float(run["results"].read()["k1"][0]) == lens["distortion"][0]
    # It is an analysis: the last run is still the count.
    assert catalog[-1].start["uid"] == uid
    catalog.close()


def test_live_view_takes_each_new_place_of_the_board_once(command: CommandLine, pictures: Path) -> None:
    camera = f"acquisition: {{camera: {{kind: opencv, source: '{pictures}/%03d.png'}}}}"
    live = CommandLine(command.home, command.environment, config=camera)
    done = live.run("calibrate", "--lens", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["distortion"][0] == pytest.approx(-0.2, abs=0.01)
    assert "view 1 (frame 0)" in done.stderr
    assert "of the frame covered" in done.stderr
    assert "#" in done.stderr


def test_what_is_no_calibration_is_refused_with_the_remedy(command: CommandLine, pictures: Path) -> None:
    first = [str(path) for path in sorted(pictures.glob("*.png"))[:3]]
    few = command.run("calibrate", "--lens", *first)
    assert few.returncode == 1
    assert "NoLens: 3 views" in few.stderr
    other = command.run("calibrate", "--lens", "--board", "7x5", *first)
    assert "no board of 7 x 5 inner corners" in other.stderr
    for arguments, said in (
        (("--lens",), "give pictures"),
        (("--lens", "nowhere.png"), "no picture"),
        (("--lens", "--board", "nine", first[0]), "9x6"),
        ((first[0],), "--lens"),
    ):
        done = command.run("calibrate", *arguments)
        assert done.returncode == 2
        assert said in done.stderr
