"""The units for a Raspberry Pi: their commands exist, the laser goes off when they stop, and systemd takes them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from lunchbox.app import app

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "config" / "systemd").glob("*.service"))


def value(unit: Path, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.+)$", unit.read_text(), re.MULTILINE)
    return str(found)


def test_there_is_one_for_the_ioc_and_one_for_the_server() -> None:
    assert [unit.name for unit in UNITS] == ["lunchbox-ioc@.service", "lunchbox-serve@.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_its_command_has_this_name_and_these_options(unit: Path) -> None:
    program, *words = shlex.split(value(unit, "ExecStart"))
    assert program == "/opt/lunchbox/.venv/bin/lunchbox"
    command = typer.main.get_command(app)
    name, subcommand, rest = command.resolve_command(typer.Context(command), words)
    subcommand.make_context(name, rest)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_it_runs_as_the_user_it_is_named_for_without_more_rights(unit: Path) -> None:
    assert (value(unit, "User"), value(unit, "NoNewPrivileges")) == ("%i", "yes")
    # The server writes into its user's home, which `strict` would make read-only; the IOC writes nothing.
    assert value(unit, "ProtectSystem") == ("strict" if "ioc" in unit.name else "full")
    assert value(unit, "Restart") == "always"
    # SIGTERM, which both end for; SIGKILL only after that.
    assert "KillSignal" not in unit.read_text()
    assert int(value(unit, "TimeoutStopSec")) >= 10


def test_the_page_names_the_units_that_there_are() -> None:
    page = (ROOT / "docs" / "how-to" / "real-hardware.md").read_text()
    for unit in UNITS:
        assert unit.name.removesuffix("@.service") in page


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_knows_every_key(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "Unknown" in line or "Failed to parse" in line]
    assert not complaints
