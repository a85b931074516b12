"""The command behind `make demo`, against the truth of the bench that it measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import CommandLine

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.timeout(240)
def test_demo_finds_the_hidden_period_and_says_how_well(tmp_path: Path) -> None:
    # Nothing is running and nothing is configured: the demo brings its own IOC and catalogue.
    command = CommandLine(tmp_path, config="")
    result = command.json("demo", "--seed", "3", timeout=240)
    truth = result["truth"]
    assert abs(result["lambda_over_d"] - truth["lambda_over_d"]) < 4 * result["lambda_over_d_stderr"]
    assert abs(result["grating_period"] - truth["grating_period"]) < 4 * result["grating_period_stderr"]
    assert 0 < result["lambda_over_d_stderr"] < 0.01 * result["lambda_over_d"]
    assert Path(result["figure"]).read_bytes().startswith(PNG)
    assert set(result["seconds"]) == {"start", "calibrate", "scan", "catalogue", "fit", "total"}

    # What the demo left is a catalogue like any other.
    runs = command.json("show")["runs"]
    assert [run["plan_name"] for run in runs] == ["calibrate", "angle_scan"]
    assert [run["scan_id"] for run in runs] == [1, 2]
    shown = command.json("show", result["uid"][:8])
    assert shown["events"] == 46
    assert shown["fits"][0]["lambda_over_d"] == result["lambda_over_d"]
