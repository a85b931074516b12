"""One server for the tests that only read and add runs; tests that break something make a data root of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from documents import make_settings, write_analysis, write_run

POINTS = 5


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server whose data root has three scans and a fit: `settings`, `server`, `uids`, `fit`, `data_root`."""
    from catalog.server import Server

    data_root = tmp_path_factory.mktemp("served")
    uids = [write_run(data_root, points=POINTS, seed=10 * number) for number in range(3)]
    fit = write_analysis(data_root, uids[1])
    settings = make_settings(data_root)
    with Server(settings, announce=True, profiles=data_root / "profiles") as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        yield SimpleNamespace(settings=settings, server=server, uids=uids, fit=fit, data_root=data_root)


@pytest.fixture
def catalog(served: Any) -> Iterator[Any]:
    """The catalogue of `served`, as a user opens it."""
    from catalog import open_catalog

    catalog = open_catalog(settings=served.settings)
    yield catalog
    catalog.close()


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    return tmp_path / "data"
