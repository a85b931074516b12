"""Ten readers that never rest while runs are recorded: nobody hears that something is locked, and nothing is lost."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from documents import Run, frame, make_settings, write_run

from catalog import open_catalog
from catalog.journal import Journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR
from catalog.server import Server

READERS = 10
RUNS, POINTS = 2, 5


def paths(uids: list[str], dice: random.Random) -> str:
    uid = dice.choice(uids)
    return dice.choice(
        [
            "search/?page[limit]=20&sort=-",
            f"metadata/{uid}",
            f"metadata/{uid}/primary?include_data_sources=true",
            f"table/full/{uid}/primary/internal?format=application/json-seq",
            f"array/full/{uid}/primary/lunchbox_image?slice=0&format=application/octet-stream",
            "search/?filter[fulltext][condition][text]=success",
            "../../custom/runs/?scan_id=1",
        ]
    )


def test_nothing_is_locked_or_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = make_settings(tmp_path)
    uids = [write_run(tmp_path, points=2)]
    answers: Counter[int] = Counter()
    stop = threading.Event()

    def read(number: int) -> None:
        dice = random.Random(number)
        headers = {"Authorization": f"Apikey {server.api_key}"}
        with httpx.Client(base_url=f"{server.uri}/api/v1/", headers=headers, timeout=60) as http:
            while not stop.is_set():
                answers[http.get(paths(uids, dice)).status_code] += 1

    with caplog.at_level(logging.WARNING), Server(settings) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for thread in readers:
            thread.start()
        try:
            journal = Journal(tmp_path / JOURNAL_DIR)
            runs = [Run(journal, tmp_path / FRAMES_DIR, seed=10 * number) for number in range(1, RUNS + 1)]
            for run in runs:
                run.begin()
            for _ in range(POINTS):
                for run in runs:
                    run.point()
                    stop.wait(0.05)
            for run in runs:
                run.end()
            catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
            for run in runs:
                catalog.wait_for(run.uid, timeout=120)
        finally:
            stop.set()
            for thread in readers:
                thread.join()
        for run in runs:
            assert_is_whole(catalog[run.uid], run)
        assert list(catalog) == [*uids, *(run.uid for run in runs)]
        catalog.close()
    assert set(answers) == {200}, answers
    assert sum(answers.values()) > 10 * READERS
    assert "locked" not in caplog.text


def assert_is_whole(found: Any, run: Run) -> None:
    data = found.primary.read()
    assert data["lunchbox_servo"].values.tolist() == list(range(POINTS))
    np.testing.assert_array_equal(data["lunchbox_image"], [frame(run.seed, index) for index in range(POINTS)])
