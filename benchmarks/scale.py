"""Finding runs among many, against the same among 1000: `LUNCHBOX_BENCH_RUNS=100000 make bench ARGS=scale` for more."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.journals import write_journals
from benchmarks.table import Row, seconds

FEW = 1000
MANY = int(os.environ.pop("LUNCHBOX_BENCH_RUNS", "10000"))


def rows() -> Iterator[Row]:
    """Fill two catalogues by the bulk path, and look things up; a minute for each 10 000 runs."""
    with tempfile.TemporaryDirectory() as folder:
        few = _measured(Path(folder) / "few", FEW)
        many = _measured(Path(folder) / "many", MANY)
        for what, took in many.items():
            yield Row(f"{what}, {MANY} runs", "ms", took * 1e3, f"{FEW} runs", few[what] * 1e3)


def _measured(data_root: Path, count: int) -> dict[str, float]:
    from catalog import open_catalog
    from catalog.embedded import close_embedded
    from catalog.rebuild import rebuild
    from config import load_settings

    settings = load_settings(data_root=data_root, server={"port": 0})
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
