"""The tutorial, run from its source once for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Executed:
    """The notebook that was made, and the folder whose `data` it left."""

    notebook: Path
    folder: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """This process' environment without what other tests may have set."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("LUNCHBOX_", "EPICS_", "TILED_"))}


@pytest.fixture(scope="session")
def executed(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Executed:
    """Few points, so that it is quick; a real IOC, a real server, a data root of its own."""
    folder = tmp_path_factory.mktemp("tutorial")
    notebook = folder / "first_light.ipynb"
    command = ["docs/notebook.py", "--points", "12", "--output", str(notebook), "--data-root", str(folder / "data")]
    subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, timeout=170)
    return Executed(notebook, folder, {**environment, "LUNCHBOX_DATA_ROOT": str(folder / "data"), "HOME": str(folder)})
