"""A scan that chooses its angles, on the real IOC: fewer points, and the same answer as the fit of its run."""

from __future__ import annotations

import pytest
from command import CommandLine

from acquisition.ioc.process import IOCProcess

TARGET = 0.35  # per cent


@pytest.fixture
def calibrated(command: CommandLine, ioc: IOCProcess) -> CommandLine:
    command.json("calibrate")
    return command


def test_it_ends_when_the_period_is_known_as_well_as_was_asked(calibrated: CommandLine) -> None:
    scan = calibrated.run("scan", "--target-error", str(TARGET))
    assert scan.returncode == 0, scan.stderr
    told = [line for line in scan.stdout.splitlines() if line.startswith("after ")]
    assert told[-1].endswith("that will do")
    points = int(told[-1].split()[1])
    assert 8 <= points <= 20
    assert len(told) == points - 5 + 1
    fit = calibrated.json("fit")
    assert fit["lambda_over_d_stderr"] / fit["lambda_over_d"] <= 1.02 * TARGET / 100
    assert "backlash_deg" not in fit  # every angle was come to from below
    (run,) = calibrated.json("show", "--num", "1")["runs"]
    assert (run["plan_name"], run["events"], run["status"]) == ("adaptive_scan", points, "success")


def test_a_target_out_of_reach_is_said_at_the_last_point(calibrated: CommandLine) -> None:
    scan = calibrated.run("scan", "--target-error", "0.01", "--points", "6")
    assert scan.returncode == 0, scan.stderr
    assert "lambda/d is known to " in scan.stderr.splitlines()[-1]


def test_frames_that_cannot_guide_end_it_with_the_reason_and_keep_them(command: CommandLine) -> None:
    dark = CommandLine(command.home, command.environment, config="acquisition: {laser: {power: 0}}")
    scan = dark.run("scan", "--target-error", "0.3")
    assert scan.returncode == 1
    assert scan.stderr.splitlines()[-1].startswith("BadScan: after 5 angles there is no fit that could choose")
    assert "no diffraction spot" in scan.stderr
    (run,) = dark.json("show")["runs"]
    assert (run["events"], run["status"]) == (5, "fail")
