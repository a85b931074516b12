"""Thirty benches record, one server takes it in, fifty readers read it: what is lost, and what a scan beside it feels.

Benches, readers, server and scan are processes of their own, the scan's IOC, too. Benches write frames and journals by
the code of the acquisition, flushed and synced.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from acquisition.ioc.settings import IOCSettings, SimulatedServo
from benchmarks.table import Row

BENCHES, READERS, SECONDS = 30, 50, 45.0
PERIOD = 1.0  # s, of a bench's points
SHAPE = (120, 160, 3)
_CAUGHT_UP = 300.0  # s, after the last point


@dataclass(frozen=True)
class Load:
    """What came of it."""

    runs: int
    points: int
    lost: list[str]  # what journals have and the catalogue has not, or otherwise
    answers: Counter[int]  # by HTTP status; 0 is no answer
    behind: float  # s, from the last point to the last run in the catalogue
    slipped: float  # s, the most that a bench was late with a point
    periods: list[float]  # s, of the scan beside it

    @property
    def failures(self) -> int:
        """Requests that were not answered, or by an error of the server's."""
        return sum(count for status, count in self.answers.items() if status == 0 or status >= 500)


def rows() -> Iterator[Row]:
    """Measure, beside a scan as it is by itself, and beside one that waits for nothing; some minutes."""
    yield from _rows("scan beside it", IOCSettings().simulated, count_time=0.03)
    ideal = SimulatedServo(dead_band_deg=0, backlash_deg=0, jitter_deg=0, travel_time=0, settle_time=0)
    yield from _rows("the quickest scan beside it", ideal, count_time=0.0)


def _rows(name: str, servo: SimulatedServo, count_time: float) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        scanning = partial(scan, servo=servo, count_time=count_time)
        with _processes() as pool:
            alone = [period for _, period in pool.submit(scanning, Path(folder) / "alone", SECONDS / 3).result()]
        found = load(Path(folder) / "data", benches=BENCHES, readers=READERS, seconds=SECONDS, scanning=scanning)
    what = f"{BENCHES} benches, {READERS} readers"
    yield Row(f"{what}: points recorded", "", found.points, "wanted", BENCHES * SECONDS / PERIOD)
    yield Row(f"{what}: not in the catalogue", "", len(found.lost), "goal", 0)
    yield Row(f"{what}: requests answered", "1/s", sum(found.answers.values()) / SECONDS)
    yield Row(f"{what}: 5xx, or no answer", "", found.failures, "goal", 0)
    yield Row(f"{what}: last point to last run whole", "s", found.behind)
    yield Row(f"{what}: latest point of a bench", "s", found.slipped)
    for percent in (50, 99):
        took, without = (float(np.percentile(periods, percent)) * 1e3 for periods in (found.periods, alone))
        yield Row(f"{name}, point period, p{percent}", "ms", took, "alone", without)


def load(
    data_root: Path, *, benches: int, readers: int, seconds: float, scanning: Callable[..., Any] | None = None
) -> Load:
    """Record, serve and read for `seconds`, wait until all is taken in, and compare the catalogue with the journals."""
    from catalog.store import CatalogStore

    with serving(data_root) as uri, _processes() as pool:
        key = CatalogStore(data_root).keys.grant("reader", note="load", lifetime=timedelta(hours=1))
        reading = pool.submit(read, uri, key, readers, seconds)
        beside = pool.submit(scanning, data_root, seconds) if scanning else None
        began, ended, slipped = pool.submit(record, data_root, benches, seconds).result()
        answers = reading.result()
        moments = beside.result() if beside else []
        lost = _differences(uri, key, data_root)
        behind = time.time() - ended
    journals = _journalled(data_root)
    return Load(
        runs=len(journals),
        points=sum(len(events) for name, events in journals.items() if events and name in slipped),
        lost=lost,
        answers=answers,
        behind=behind,
        slipped=max(slipped.values()),
        periods=[period for moment, period in moments if began < moment < ended],
    )


@contextmanager
def serving(data_root: Path) -> Iterator[str]:
    """Address of `lunchbox serve`, in a process of its own."""
    data_root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "lunchbox", "serve", "--data-root", str(data_root), "--port", "0", "--json"]
    environment = {**os.environ, "HOME": str(data_root.parent)}  # where it writes a profile
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["uri"]
        finally:
            process.send_signal(signal.SIGINT)


def record(data_root: Path, benches: int, seconds: float) -> tuple[float, float, dict[str, float]]:
    """A run on each bench, a point each `PERIOD`: when the first began, the last ended, how late each was, by uid."""
    from concurrent.futures import ThreadPoolExecutor

    _elsewhere()
    began = time.time()
    with ThreadPoolExecutor(benches) as pool:
        late = dict(pool.map(lambda number: _one_bench(data_root, number, benches, seconds), range(benches)))
    return began, time.time(), late


def _one_bench(data_root: Path, number: int, benches: int, seconds: float) -> tuple[str, float]:
    import event_model

    from acquisition.camera import Exposure
    from acquisition.recording import Recording
    from acquisition.settings import FileSettings
    from catalog import layout
    from catalog.journal import Journal
    from catalog.setup import Setup

    time.sleep(number * PERIOD / benches)  # benches are not in step
    image = {"dtype": "array", "shape": list(SHAPE), "dtype_numpy": "|u1", "external": "FILESTORE:", "source": "camera"}
    scalar = {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": "PV"}
    late = 0.0
    with Journal(data_root / layout.JOURNAL_DIR) as journal:
        run = event_model.compose_run(
            metadata={"plan_name": "angle_scan", "scan_id": journal.next_scan_id(), "operator": f"bench {number}"}
        )
        uid = run.start_doc["uid"]
        journal("start", run.start_doc)
        stream = run.compose_descriptor(
            name="primary", data_keys={**{key: dict(image) for key in layout.FIELDS}, "lunchbox_servo": scalar}
        )
        journal("descriptor", stream.descriptor_doc)
        frames = data_root / layout.FRAMES_DIR
        recording = Recording(frames, shape=SHAPE, setup=Setup(), files=FileSettings())
        began = time.monotonic()
        for point in range(int(seconds / PERIOD)):
            if (wait := began + point * PERIOD - time.monotonic()) > 0:
                time.sleep(wait)
            late = max(late, -wait)
            exposures = (Exposure(data=_frame(number, point, k), timestamp=time.time(), count_time=0.0) for k in (0, 1))
            recording.append(*exposures, servo=float(point))
            for name, doc in recording.collect():
                journal(name, {**doc, "run_start": uid} if name == "resource" else doc)
            data = {**recording.datum_ids, "lunchbox_servo": float(point)}
            stamps, filled = dict.fromkeys(data, time.time()), dict.fromkeys(layout.FIELDS, False)
            journal("event", stream.compose_event(data=data, timestamps=stamps, filled=filled))
        recording.close()
        journal("stop", run.compose_stop())
    return uid, late


def _frame(bench: int, point: int, kind: int) -> np.ndarray:
    """No other point of any bench has this frame."""
    frame = np.random.default_rng([bench, kind]).integers(0, 40, SHAPE, dtype="u1")
    frame[0, 0] = point // 256, point % 256, bench
    return frame


def read(uri: str, key: str, readers: int, seconds: float) -> Counter[int]:
    """Readers who look at lists, runs, rows and the newest frames, each some once a second; answers by status."""
    _elsewhere()
    answers: Counter[int] = Counter()
    end = time.monotonic() + seconds

    def get(http: httpx.Client, path: str) -> httpx.Response | None:
        try:
            answer = http.get(path)
        except httpx.TransportError:
            answers[0] += 1
            return None
        answers[answer.status_code] += 1
        return answer if answer.is_success else None

    def look(number: int) -> None:
        dice = random.Random(number)
        with httpx.Client(base_url=f"{uri}/api/v1", headers={"Authorization": f"Apikey {key}"}, timeout=120) as http:
            while time.monotonic() < end:
                found = get(http, dice.choice(["/search/?page[limit]=20&sort=-", _SEARCH.format(dice.randint(1, 30))]))
                for item in dice.sample(found.json()["data"], 1) if found and found.json()["data"] else ():
                    run = item["id"]
                    get(http, f"/metadata/{run}/primary")
                    get(http, f"/table/full/{run}/primary/internal?format=application/json-seq")
                    array = get(http, f"/metadata/{run}/primary/lunchbox_image")
                    if array and (count := array.json()["data"]["attributes"]["structure"]["shape"][0]):
                        get(http, f"/array/full/{run}/primary/lunchbox_image?slice={count - 1}&{_BYTES}")
                time.sleep(dice.uniform(0.5, 1.5))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


_SEARCH = "/search/?filter[fulltext][condition][text]=bench {}"
_BYTES = "format=application/octet-stream"


def scan(data_root: Path, seconds: float, *, servo: SimulatedServo, count_time: float) -> list[tuple[float, float]]:
    """(moment, period) of the points of scans by a real IOC with such a servo; s."""
    from acquisition.ioc.process import IOCProcess

    moments: list[tuple[float, float]] = []
    with IOCProcess(IOCSettings(simulated=servo)) as ioc:
        os.environ.update(ioc.environment)
        from bluesky import RunEngine

        from acquisition.devices import LunchBox
        from acquisition.plans import angle_scan
        from acquisition.settings import AcquisitionSettings
        from benchmarks.acquisition import POINTS, ReadyCamera
        from catalog.journal import Journal

        camera = ReadyCamera(count_time)
        lunchbox = LunchBox(ioc.prefix, camera=camera, frames_dir=data_root / "frames", settings=AcquisitionSettings())
        lunchbox.wait_for_connection()
        journal = Journal(data_root / "journal")
        engine = RunEngine({}, scan_id_source=journal.next_scan_id)
        engine.subscribe(journal)
        last: list[float] = []

        def on_event(name: str, doc: dict[str, Any]) -> None:
            if name == "start":
                last.clear()
            elif name == "event":
                now = time.time()
                moments.extend((now, now - before) for before in last[-1:])
                last.append(now)

        engine.subscribe(on_event)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            engine(angle_scan(lunchbox, num=POINTS))
        lunchbox.destroy()
    return moments


def _journalled(data_root: Path) -> dict[str, list[float]]:
    """Angles of the events of each journal, by uid."""
    from catalog.journal import list_journals, read_journal

    return {
        entry.uid: [doc["data"]["lunchbox_servo"] for name, doc in read_journal(entry.path) if name == "event"]
        for entry in list_journals(data_root / "journal")
    }


def _differences(uri: str, key: str, data_root: Path) -> list[str]:
    """What journals have and the catalogue has otherwise, or not, once it has had time."""
    from catalog import open_catalog
    from config import load_settings

    catalog = open_catalog(uri, settings=load_settings(data_root=data_root), api_key=key)
    wrong = []
    end = time.monotonic() + _CAUGHT_UP
    try:
        for uid, angles in _journalled(data_root).items():
            try:
                stream = catalog.wait_for(uid, timeout=max(end - time.monotonic(), 1)).primary
            except TimeoutError:
                wrong.append(f"{uid} is not whole in the catalogue")
                continue
            servo = stream["lunchbox_servo"].read()
            frames = [stream[name].shape[0] for name in ("lunchbox_image", "lunchbox_background")]
            if list(servo) != angles or frames != [len(angles)] * 2:
                wrong.append(f"{uid}: {len(angles)} points journalled, {len(servo)} in the catalogue, frames {frames}")
            bench = catalog[uid].start.get("operator", "")
            if bench.startswith("bench ") and not np.array_equal(
                stream["lunchbox_image"][-1], _frame(int(bench.split()[1]), len(angles) - 1, 0)
            ):
                wrong.append(f"{uid}: the last frame is another one")
    finally:
        catalog.close()
    return wrong


def _processes() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(3, mp_context=get_context("spawn"))


def _elsewhere() -> None:
    """Benches and readers have machines of their own: on this one, they go last."""
    os.nice(19)
