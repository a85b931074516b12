"""A second detector in the stream of the camera, with files of another spec: from the device to what a user reads."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from cameras import ArrayCamera
from documents import make_settings
from ophyd import Device
from ophyd.status import StatusBase

from acquisition.ioc.process import IOCProcess
from catalog import open_catalog
from catalog.embedded import close_embedded
from catalog.journal import Journal, list_journals, read_journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR, SPEC

POINTS, PIXELS = 3, 10
HANDLER = """
import numpy as np
class Handler:
    specs = {"LAB_RAW_SPECTRA"}
    def __init__(self, path, *, pixels):
        self._path, self._pixels = path, pixels
    def __call__(self, *, frame):
        return np.fromfile(self._path, "<u4").reshape(-1, self._pixels)[frame]
"""


def spectrum(index: int) -> np.ndarray:
    return (np.arange(PIXELS) ** 2 + 1_000_000 * index).astype("<u4")


class Spectrometer(Device):
    """Appends a spectrum to a file of its own at each trigger."""

    def __init__(self, folder: Path, *, name: str) -> None:
        super().__init__("", name=name)
        self._folder = folder
        self._documents: deque[tuple[str, dict[str, Any]]] = deque()

    def stage(self) -> list[object]:
        self._count = 0
        self._resource = event_model.compose_resource(
            spec="LAB_RAW_SPECTRA",
            root=str(self._folder),
            resource_path="spectra.raw",
            resource_kwargs={"pixels": PIXELS},
        )
        document = dict(self._resource.resource_doc)
        document.pop("run_start", None)
        self._documents.append(("resource", document))
        return super().stage()

    def trigger(self) -> StatusBase:
        with (self._folder / "spectra.raw").open("ab") as file:
            file.write(spectrum(self._count).tobytes())
        datum = self._resource.compose_datum(datum_kwargs={"frame": self._count})
        self._documents.append(("datum", datum))
        self._value = {"value": datum["datum_id"], "timestamp": 0.0}
        self._count += 1
        status = StatusBase()
        status.set_finished()
        return status

    def describe(self) -> dict[str, Any]:
        key = {"source": "USB", "dtype": "array", "shape": [PIXELS], "dtype_numpy": "<u4", "external": "FILESTORE:"}
        return {f"{self.name}_counts": {**key, "units": "counts"}}

    def read(self) -> dict[str, Any]:
        return {f"{self.name}_counts": self._value}

    def collect_asset_docs(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while self._documents:
            yield self._documents.popleft()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    """Settings of a data root whose configuration names the spectrometer's handler."""
    (tmp_path / "lab_raw_spectra.py").write_text(HANDLER)
    sys.path.insert(0, str(tmp_path))
    settings = make_settings(tmp_path / "data")
    settings.handlers = {"LAB_RAW_SPECTRA": "lab_raw_spectra:Handler"}
    yield settings
    close_embedded()
    sys.path.remove(str(tmp_path))


def test_one_scan_with_both_is_one_stream_and_each_array_is_right(ioc: IOCProcess, lab: Any) -> None:
    from bluesky.run_engine import RunEngine

    from acquisition.devices import LunchBox
    from acquisition.plans import angle_scan

    frames, camera = lab.data_root / FRAMES_DIR, ArrayCamera()
    frames.mkdir(parents=True)
    lunchbox = LunchBox(ioc.prefix, camera=camera, frames_dir=frames)
    lunchbox.wait_for_connection()
    engine = RunEngine(context_managers=[])
    with Journal(lab.data_root / JOURNAL_DIR, fsync=False) as journal:
        engine.subscribe(journal)
        engine(angle_scan([lunchbox, Spectrometer(frames, name="spectrometer")], start=0, stop=4, num=POINTS))
    lunchbox.destroy()
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()
    engine.loop.close()

    (entry,) = list_journals(lab.data_root / JOURNAL_DIR)
    documents = list(read_journal(entry.path))
    assert {doc["spec"] for name, doc in documents if name == "resource"} == {SPEC, "LAB_RAW_SPECTRA"}
    (primary,) = [doc for name, doc in documents if name == "descriptor" and doc["name"] == "primary"]
    assert {"lunchbox_image", "spectrometer_counts"} <= primary["data_keys"].keys()

    catalog = open_catalog(settings=lab)
    run = catalog[-1]
    data = run.primary.read()
    spectra = [spectrum(index) for index in range(POINTS)]
    np.testing.assert_array_equal(data["spectrometer_counts"], spectra)
    assert data["spectrometer_counts"].dtype == "<u4"
    assert data["spectrometer_counts"].attrs["units"] == "counts"
    assert data["lunchbox_servo"].values.tolist() == pytest.approx([0, 2, 4], abs=0.5)
    taken = [camera.frame(number) for number in range(camera.n_grabbed)]
    for key in ("lunchbox_image", "lunchbox_background"):
        assert len(data[key]) == POINTS
        for found in data[key].values:
            assert any(np.array_equal(found, frame) for frame in taken)
    # The camera is read twice at each point, without the laser and with it: all of them are different frames.
    both = np.concatenate([data["lunchbox_image"], data["lunchbox_background"]])
    assert len({frame.tobytes() for frame in both}) == 2 * POINTS
    np.testing.assert_array_equal(run.primary["spectrometer_counts"][1], spectra[1])
    np.testing.assert_array_equal(run.primary.to_dask()["lunchbox_image"].compute(), data["lunchbox_image"])
    assert [pair for pair in run.documents() if pair[0] != "stop"] == [pair for pair in documents if pair[0] != "stop"]
    assert run.validate()
    catalog.close()
