"""The whole instrument as processes: the IOC, a command line, a served catalogue."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import CommandLine

from acquisition.ioc.process import IOCProcess


@pytest.fixture
def command(ioc: IOCProcess, tmp_path: Path) -> CommandLine:
    """A new home, an empty data root, and the IOC that runs."""
    return CommandLine(tmp_path, ioc.environment)


@pytest.fixture(scope="module")
def served(ioc: IOCProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CommandLine, str]]:
    """(command line, address) of a data root that `lunchbox serve` serves."""
    command = CommandLine(tmp_path_factory.mktemp("served"), ioc.environment)
    server = command.start("serve", "--port", "0", "--json")
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line, server.communicate()[1]
    yield command, json.loads(line)["uri"]
    server.send_signal(signal.SIGINT)
    out, err = server.communicate(timeout=20)
    assert (server.returncode, out, err) == (0, "", "")
