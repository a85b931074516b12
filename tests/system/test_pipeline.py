"""One scan, from the servo to every way of reading it: each gives the pixels that are in the file."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np
import pytest
from command import CommandLine
from event_model import Filler
from tiled.client import from_uri

from acquisition.ioc.ports import answers, free_port
from analysis import Setup, load_scan
from analysis.errors import BadScan
from catalog import layout, open_catalog
from catalog.handlers import LunchBoxHDF5Handler
from config import load_settings

POINTS = 4


@pytest.fixture(scope="module")
def uid(served: tuple[CommandLine, str]) -> str:
    command, _ = served
    command.json("calibrate")
    return str(command.json("scan", "--points", str(POINTS), "--start", "0", "--stop", "30")["uid"])


@pytest.fixture(scope="module")
def frames(served: tuple[CommandLine, str], uid: str) -> np.ndarray:
    """The scan's images, straight from its file."""
    command, _ = served
    path = max((command.data_root / layout.FRAMES_DIR).rglob("*.h5"), key=lambda path: path.stat().st_mtime)
    with h5py.File(path, "r") as file:
        images: np.ndarray = file["entry/data/image"][()]
    assert images.shape == (POINTS, 480, 640, 3)
    assert images.max() > 100  # the laser was on
    return images


def opened(command: CommandLine) -> Any:
    return open_catalog(settings=load_settings(data_root=command.data_root))


def key(command: CommandLine) -> str:
    return (command.data_root / "catalog" / "api_key").read_text().strip()


def test_catalogue_gives_images_angles_units_and_times(
    served: tuple[CommandLine, str], uid: str, frames: np.ndarray
) -> None:
    catalog = opened(served[0])
    run = catalog.wait_for(uid)
    dataset = catalog[-1].primary.read()
    np.testing.assert_array_equal(dataset["lunchbox_image"], frames)
    np.testing.assert_allclose(dataset["lunchbox_servo"], [0, 10, 20, 30], atol=0.01)
    assert dataset["lunchbox_servo"].attrs["units"] == "deg"
    assert run.start["calibration_uid"] == catalog[-2].start["uid"]
    assert catalog[run.start["scan_id"]].start["uid"] == uid
    assert catalog[uid[:8]].start["uid"] == uid
    catalog.close()


def test_http_needs_the_key_and_gives_the_same_pixels(
    served: tuple[CommandLine, str], uid: str, frames: np.ndarray
) -> None:
    command, uri = served
    opened(command).wait_for(uid)
    assert httpx.get(f"{uri}/api/v1/metadata/{uid}").status_code == 401
    client = from_uri(uri, api_key=key(command))
    np.testing.assert_array_equal(client[uid]["primary"]["lunchbox_image"][:], frames)
    client.context.close()


def test_databroker_gives_the_same_pixels(served: tuple[CommandLine, str], uid: str, frames: np.ndarray) -> None:
    command, _ = served
    opened(command).wait_for(uid)
    out = command.home / "databroker.npy"
    program = (
        "import sys, numpy\n"
        "from databroker import catalog\n"
        "numpy.save(sys.argv[1], catalog['lunchbox'][-1].primary.read()['lunchbox_image'].values)"
    )
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(out)], check=True, env={"HOME": str(command.home)}
    )
    np.testing.assert_array_equal(np.load(out), frames)


def test_filler_gives_the_same_pixels_from_the_journal_alone(
    served: tuple[CommandLine, str], uid: str, frames: np.ndarray
) -> None:
    (path,) = (served[0].data_root / layout.JOURNAL_DIR).rglob(f"*{uid}*")
    documents = [json.loads(line) for line in path.read_text().splitlines()]
    with Filler({layout.SPEC: LunchBoxHDF5Handler}, inplace=True) as filler:
        filled = [document for pair in documents for name, document in [filler(*pair)] if name == "event"]
    images = [event["data"]["lunchbox_image"] for event in filled if "lunchbox_image" in event["data"]]
    np.testing.assert_array_equal(images, frames)


def test_a_run_is_read_while_it_is_recorded(served: tuple[CommandLine, str]) -> None:
    command, _ = served
    catalog = opened(command)
    before = len(catalog)
    scan = command.start("scan", "--points", "30", "--start", "0", "--stop", "30", "--json")
    try:
        deadline = time.monotonic() + 60
        seen = 0
        while not seen and time.monotonic() < deadline:
            if len(fresh := opened(command)) > before:
                run = fresh[-1]
                if run.in_progress and "primary" in run:
                    seen = run.primary.read().sizes.get("time", 0)  # none yet before the first frame
            fresh.close()
        assert 0 < seen < 30
    finally:
        out, err = scan.communicate(timeout=60)
    assert scan.returncode == 0, err
    run = catalog.wait_for(json.loads(out)["uid"])
    assert run.primary.read()["lunchbox_image"].shape[0] == 30
    catalog.close()


def test_a_scan_without_any_catalogue_is_complete_when_one_is_opened_later(command: CommandLine) -> None:
    uid = command.json("count", "--num", "2")["uid"]
    assert not (command.data_root / "catalog").exists()
    assert "tiled" not in command.run("count").stderr
    shown = command.json("show", uid)
    assert (shown["status"], shown["events"]) == ("success", 2)
    assert command.json("show")["runs"][0]["uid"] == uid


def test_acquisition_imports_nothing_of_tiled() -> None:
    program = "import sys, acquisition.session; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "acquisition" in loaded
    assert not loaded & {"tiled", "databroker", "bluesky_tiled_plugins", "analysis", "matplotlib"}


def test_documents_are_printed_as_they_are_emitted(command: CommandLine) -> None:
    printed = command.run("count", "--documents").stdout
    # The baseline is read before the first frame, so the first event is its.
    positions = [printed.index(f"\n{name}\n") for name in ("descriptor", "event", "resource", "datum", "stop")]
    assert positions == sorted(positions)
    assert printed.startswith("start\n{")


def test_a_scan_is_loaded_lazily_with_its_setup_and_its_calibration(
    served: tuple[CommandLine, str], uid: str, frames: np.ndarray
) -> None:
    catalog = opened(served[0])
    scan = load_scan(catalog.wait_for(uid).start["scan_id"], catalog)
    np.testing.assert_array_equal(scan.images[2], frames[2])
    np.testing.assert_allclose(scan.angles, [0, 10, 20, 30], atol=0.01)
    assert scan.setup == Setup(**catalog[uid].start["setup"])
    assert scan.calibration.mean() > 50  # the target, in room light
    with pytest.raises(BadScan, match=f"run {scan.calibration_uid[:8]} is a calibration"):
        load_scan(scan.calibration_uid, catalog)
    catalog.close()


def test_a_fit_is_stored_beside_its_scan(served: tuple[CommandLine, str], tmp_path: Path) -> None:
    command, _ = served
    uid = command.json("scan", "--points", "24")["uid"]
    result = command.json("fit", uid, "--table", str(tmp_path / "made" / "spacing.csv"))
    table = np.genfromtxt(tmp_path / "made" / "spacing.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    assert set(table["order"]) == {-1, 1}
    assert (np.sign(table["spacing_mm"]) == table["order"]).all()
    catalog = opened(command)
    (fit,) = catalog.fits(uid).values()
    stored = fit["results"].read()
    assert float(stored["lambda_over_d"][0]) == result["lambda_over_d"]
    assert fit.start["raw_run_uid"] == uid
    assert catalog[-1].start["uid"] == uid  # the last *scan* is still the last run
    catalog.close()


def test_an_ioc_says_as_json_when_it_serves(tmp_path: Path) -> None:
    port = free_port()
    own = CommandLine(tmp_path, {"EPICS_CA_SERVER_PORT": str(port), "EPICS_CA_REPEATER_PORT": str(free_port())})
    ioc = own.start("ioc", "--simulated", "--prefix", "JSON:", "--json")
    assert ioc.stdout is not None
    ready = json.loads(ioc.stdout.readline())
    assert (ready["prefix"], ready["link"], ready["port"]) == ("JSON:", "simulated", port)
    assert ready["armed"] is True
    assert answers("JSON:SERVO", port=port, timeout=2)
    ioc.send_signal(signal.SIGINT)
    out, _ = ioc.communicate(timeout=20)
    assert (ioc.returncode, out) == (0, "")
