"""Finding runs among many, against the same among 1000, on SQLite and PostgreSQL.

`LUNCHBOX_BENCH_RUNS=100000 make bench ARGS=scale` for more; LUNCHBOX_BENCH_POSTGRESQL names the server of databases.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.databases import SERVER, postgresql_databases
from benchmarks.journals import write_journals
from benchmarks.table import Row, seconds

FEW = 1000
MANY = int(os.environ.pop("LUNCHBOX_BENCH_RUNS", "10000"))
POSTGRESQL = os.environ.pop("LUNCHBOX_BENCH_POSTGRESQL", SERVER)


def rows() -> Iterator[Row]:
    """Fill four catalogues by the bulk path, and look things up; 10 000 runs may take a quarter of an hour."""
    for name, databases in (("SQLite", _sqlite), ("PostgreSQL", _postgresql)):
        found = []
        for count in (FEW, MANY):
            with tempfile.TemporaryDirectory() as folder, databases() as uris:
                found.append(_measured(Path(folder), count, uris))
        few, many = found
        for what, took in many.items():
            yield Row(f"{name}, {MANY} runs: {what}", "ms", took * 1e3, f"{FEW} runs", few[what] * 1e3)


@contextmanager
def _sqlite() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def _postgresql() -> Iterator[dict[str, str]]:
    """New databases, as the configuration names them; dropped afterwards."""
    names = ("catalog", "tables", "keys")
    with postgresql_databases(*names, server=POSTGRESQL) as uris:
        yield {f"{name}_uri": uri for name, uri in zip(names, uris, strict=True)}


def _measured(data_root: Path, count: int, uris: dict[str, str]) -> dict[str, float]:
    from catalog import open_catalog
    from catalog.embedded import close_embedded
    from catalog.rebuild import rebuild
    from config import load_settings

    settings = load_settings(data_root=data_root, server={"port": 0, **uris})
    uids = write_journals(data_root, count, points=1)
    rebuild(settings)
    catalog = open_catalog(settings=settings)
    dice = random.Random(count)
    took = {what: seconds(look, repeat=9) for what, look in _lookups(catalog, uids, dice).items()}
    catalog.close()
    close_embedded()
    return took


def _lookups(catalog: Any, uids: list[str], dice: random.Random) -> dict[str, Callable[[], object]]:
    from tiled.queries import FullText, Key

    return {
        "catalog[-1]": lambda: catalog.new_variation()[-1],
        "catalog[uid]": lambda: catalog[dice.choice(uids)],
        "catalog[8 characters of a uid]": lambda: catalog[dice.choice(uids)[:8]],
        "catalog[scan_id]": lambda: catalog[dice.randint(1, len(uids))],
        "run.primary['lunchbox_servo'].read()": lambda: catalog[dice.choice(uids)].primary["lunchbox_servo"].read(),
        "page of 100": lambda: catalog.values().head(100),
        "search(Key('scan_id') == n), by Tiled": lambda: catalog.search(Key("scan_id") == dice.randint(1, len(uids)))[
            -1
        ],
        "search(FullText), by Tiled": lambda: catalog.search(FullText("benchmark")).keys().head(5),
    }
