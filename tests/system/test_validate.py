"""`lunchbox validate` from the command line."""

from __future__ import annotations

from command import CommandLine


def test_validate_prints_what_it_measured(command: CommandLine) -> None:
    done = command.json("validate", "--scans", "1", "--kind", "easy", "--seed", "5", "--jobs", "1")
    assert done["seed"] == 5
    assert done["spots"] == []
    (easy,) = done["fits"]
    assert (easy["name"], easy["scans"], easy["declined"], easy["wrong"]) == ("easy", 1, 0, 0)
    assert easy["orders"] > 100
    assert abs(easy["rms"]) < 4 * easy["stated"] < 0.02


def test_unknown_kind_is_refused_with_those_there_are(command: CommandLine) -> None:
    done = command.run("validate", "--kind", "hard")
    assert done.returncode == 2
    assert "two orders, lens calibrated" in done.stderr
