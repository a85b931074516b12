"""Plans from the command line, on a simulated bench whose servo has play, with a fit that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from command import SMALL_BENCH, CommandLine

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings, SimulatedServo
from analysis import load_scan
from catalog import layout, open_catalog
from config import load_settings

PLAY = 1.5  # deg
#: The zero order is far brighter than 8 bits hold.
BRIGHT = SMALL_BENCH.replace("truth: {", "truth: {zero_order_ratio: 8, ")


@pytest.fixture(scope="module")
def bench() -> Iterator[IOCProcess]:
    servo = SimulatedServo(dead_band_deg=0.05, backlash_deg=PLAY, jitter_deg=0.1, travel_time=0.0002, settle_time=0)
    with IOCProcess(IOCSettings(simulated=servo)) as ioc:
        yield ioc


@pytest.fixture(scope="module")
def command(bench: IOCProcess, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    command = CommandLine(tmp_path_factory.mktemp("plans"), bench.environment, config=BRIGHT)
    command.json("calibrate")
    return command


def start(command: CommandLine, uid: str) -> dict[str, Any]:
    """The start document, from the journal."""
    (path,) = (command.data_root / layout.JOURNAL_DIR).rglob(f"*{uid}*")
    name, document = json.loads(path.read_text().splitlines()[0])
    assert name == "start"
    return dict(document)


def test_there_and_back_tells_the_backlash(command: CommandLine) -> None:
    command.json("scan", "--up-down", "--points", "10", "--start", "0", "--stop", "40")
    fit = command.json("fit")
    assert abs(fit["backlash_deg"] - PLAY) < 4 * fit["backlash_deg_stderr"]
    assert fit["backlash_deg_stderr"] < 0.2


def test_bracketed_exposures_are_merged_for_the_fit(command: CommandLine) -> None:
    uid = command.json("scan", "--exposure", "0.03", "--exposure", "0.003", "--points", "4")["uid"]
    catalog = open_catalog(settings=load_settings(data_root=command.data_root))
    try:
        run = catalog.wait_for(uid)
        frames = run.primary.read()["lunchbox_image"].values[..., 0]
        scan = load_scan(uid, catalog)
        assert len(frames) == 8
        assert len(scan) == 4
        assert list(scan.angles) == sorted(scan.angles)
        image, background = scan.pair(1)
    finally:
        catalog.close()
    assert frames[2].max() == 255
    assert frames[3].max() < 255
    # Counts of the long exposure, where it was saturated: ten times those of the short one.
    bright = frames[2] == 255
    assert np.isfinite(image).all()
    ratio = image[bright].mean() / frames[3][bright].mean()
    assert ratio == pytest.approx(10, rel=0.02)
    assert image.shape == background.shape


def test_align_finds_zero_incidence_and_turns_the_grating_there(command: CommandLine, bench: IOCProcess) -> None:
    from channel_access import value

    from acquisition.bench.scene import Scene

    found = command.json("align", "--points", "7")
    scene = Scene(load_settings(command.home / "lunchbox.yml", data_root=command.data_root).bench)
    assert value(bench, "SERVO") == pytest.approx(found["zero_deg"], abs=0.01)
    incidence = np.rad2deg(scene.incidence_angle(value(bench, "SIM:SHAFT")))
    assert abs(incidence) < 3.5 * found["zero_deg_stderr"] + PLAY / 2 + 0.3
    assert found["ioc_zero_deg"] == pytest.approx(90 + found["zero_deg"], abs=1e-3)


def test_repeated_runs_are_listed_and_each_is_fitted_while_it_runs(command: CommandLine) -> None:
    done = command.run("scan", "--repeat", "2", "--points", "3", "--live", "--json")
    assert done.returncode == 0, done.stderr
    uids = json.loads(done.stdout)["uids"]
    told = [line for line in done.stderr.splitlines() if line.startswith("after ")]
    assert [line.split()[1] for line in told] == ["1", "2", "3"] * 2
    assert "lambda/d = 0.3" in told[-1]
    starts = [start(command, uid) for uid in uids]
    assert len({start["series_uid"] for start in starts}) == 1
    assert [start["series_index"] for start in starts] == [0, 1]


def test_a_time_series_from_the_command_line(command: CommandLine) -> None:
    uid = command.json("count", "--period", "0.2", "--duration", "0.4")["uid"]
    assert (start(command, uid)["plan_name"], start(command, uid)["num_points"]) == ("time_series", 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("scan", "--up-down", "--exposure", "0.1"), "give one of --up-down, --exposure"),
        (("scan", "--live", "--exposure", "0.1"), "needs several for one"),
        (("scan", "--target-error", "1", "--repeat", "2"), "without --repeat"),
        (("count", "--period", "1"), "go together"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    from typer.testing import CliRunner

    from lunchbox.app import app

    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert complaint in " ".join(result.output.split())
