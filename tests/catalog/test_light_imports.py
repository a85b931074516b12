"""A Raspberry Pi that only scans needs no Tiled, and the reader of frames no ophyd."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"tiled", "bluesky_tiled_plugins", "databroker", "fastapi", "sqlalchemy", "dask", "xarray", "pandas"}


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("catalog", HEAVY | {"h5py", "numpy", "event_model", "ophyd", "bluesky"}),
        ("catalog.layout", HEAVY | {"h5py", "numpy", "ophyd", "bluesky"}),
        ("catalog.settings", HEAVY | {"h5py", "numpy", "ophyd", "bluesky"}),
        ("catalog.journal", HEAVY | {"ophyd", "bluesky"}),
        ("catalog.handlers", HEAVY | {"ophyd", "bluesky"}),
        ("catalog.frames", HEAVY | {"ophyd", "bluesky"}),
    ],
)
def test_import_loads_nothing_it_does_not_need(module: str, absent: set[str]) -> None:
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not absent & set(loaded.split())


def test_reading_a_frame_imports_no_other_packages_handler() -> None:
    program = "import sys; from catalog.handlers import handler_for; handler_for('LUNCHBOX_HDF5'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "ophyd" not in loaded.split()
