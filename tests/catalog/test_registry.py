"""Files of other detectors: their handlers are found, and their frames come out of every door."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import pytest
from documents import Run, frame, make_settings

from catalog import open_catalog
from catalog.embedded import close_embedded
from catalog.handlers import FrameIntegrityError, handler_for, handler_origins, handler_registry, use_handlers
from catalog.journal import Journal, list_journals, read_journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR, SPEC
from catalog.paths import DataNotAccessible, FrameRoots
from catalog.recorded import find_run

MODULE = """
import numpy as np
class NpyHandler:
    specs = {"LAB_NPY"}
    def __init__(self, path, *, scale=1):
        self._path, self._scale = path, scale
    def __call__(self, *, frame):
        return np.load(self._path)[frame] * self._scale
"""
SPECTRA = np.arange(40, dtype="<i4").reshape(4, 10)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Settings of a data root with one run: two cameras' files, staged twice, and a spectrometer of another spec."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "lab_handlers.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    settings = make_settings(folder / "data")
    settings.handlers = {"LAB_NPY": "lab_handlers:NpyHandler"}
    record(folder / "data")
    yield settings
    close_embedded()
    sys.path.remove(str(folder))


class TwoDetectors(Run):
    """A run with a spectrometer beside the camera, whose stream is its own."""

    def begin(self) -> None:
        super().begin()
        path = self._frames / "spectra.npy"
        np.save(path, SPECTRA)
        key = {"source": "S", "dtype": "array", "shape": [10], "dtype_numpy": "<i4", "external": "F:"}
        self._spectra = self._run.compose_descriptor(name="spectra", data_keys={"spectrum": key})
        self._emit("descriptor", self._spectra.descriptor_doc)
        self._file = event_model.compose_resource(
            spec="LAB_NPY",
            root=str(self._frames),
            resource_path="spectra.npy",
            resource_kwargs={"scale": 2},
            start=self._run.start_doc,
        )
        self._emit("resource", self._file.resource_doc)

    def spectrum(self, index: int) -> None:
        datum = self._file.compose_datum(datum_kwargs={"frame": index})
        self._emit("datum", datum)
        data = {"spectrum": datum["datum_id"]}
        self._emit(
            "event", self._spectra.compose_event(data=data, timestamps={"spectrum": 0.0}, filled={"spectrum": False})
        )


def record(data_root: Path) -> str:
    with Journal(data_root / JOURNAL_DIR, fsync=False) as journal:
        run = TwoDetectors(journal, data_root / FRAMES_DIR, seed=20)
        run.begin()
        run.point()
        run.spectrum(0)
        run.point()
        run.file.close()
        run.stage()  # a second file: the device was staged again
        run.point()
        run.spectrum(3)
        run.end()
    return run.uid


EXPECTED = [frame(20, 0), frame(20, 1), frame(20, 0)]


def test_every_door_gives_the_frames_of_both_specs_and_files(lab: Any) -> None:
    catalog = open_catalog(settings=lab)
    run = catalog[-1]
    np.testing.assert_array_equal(run.primary["lunchbox_image"].read(), EXPECTED)
    np.testing.assert_array_equal(run.spectra["spectrum"].read(), 2 * SPECTRA[[0, 3]])
    np.testing.assert_array_equal(run.spectra.read()["spectrum"], 2 * SPECTRA[[0, 3]])
    catalog.close()

    filled: dict[str, list[Any]] = {"lunchbox_image": [], "spectrum": []}
    with event_model.Filler(handler_registry(FrameRoots.from_settings(lab)), inplace=False) as filler:
        for name, doc in documents(lab):
            name, doc = filler(name, doc)
            for key in filled.keys() & doc.get("data", {}).keys() if name == "event" else ():
                filled[key].append(doc["data"][key])
    np.testing.assert_array_equal(filled["lunchbox_image"], EXPECTED)
    np.testing.assert_array_equal(filled["spectrum"], 2 * SPECTRA[[0, 3]])

    recorded = find_run(lab, "-1")
    spectra = list(recorded.frames(recorded.streams["spectra"], "spectrum"))
    np.testing.assert_array_equal(spectra, 2 * SPECTRA[[0, 3]])


def documents(settings: Any) -> list[tuple[str, dict[str, Any]]]:
    (entry,) = list_journals(settings.data_root / JOURNAL_DIR)
    return list(read_journal(entry.path))


def test_documents_come_back_as_they_were_emitted(lab: Any) -> None:
    catalog = open_catalog(settings=lab)
    given = list(catalog[-1].documents())
    assert given == documents(lab)
    assert {name for name, _ in given} == {"start", "descriptor", "resource", "datum", "event", "stop"}
    catalog.close()


def test_validate_is_true_only_if_the_pixels_can_be_read(lab: Any, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    settings.handlers = lab.handlers
    uid = record(tmp_path / "data")
    catalog = open_catalog(settings=settings)
    run = catalog[uid]
    assert run.validate()
    files = sorted((tmp_path / "data" / FRAMES_DIR).rglob("*.h5"))
    for file in files:
        whole = file.read_bytes()
        position = whole.index(frame(20, 0).tobytes())
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        assert not catalog[uid].validate()
        with pytest.raises(FrameIntegrityError, match=rf"run {uid[:8]}: .*{file.name}"):
            catalog[uid].validate(raise_on_error=True)
        file.write_bytes(whole)
        assert catalog[uid].validate()
        file.rename(file.with_suffix(".away"))
        assert not catalog[uid].validate()
        file.with_suffix(".away").rename(file)
    catalog.close()
    close_embedded()


def test_where_each_handler_comes_from_is_told(lab: Any) -> None:
    use_handlers(lab.handlers)
    origins = handler_origins()
    assert origins["LAB_NPY"] == "lab_handlers:NpyHandler (configuration)"
    assert origins[SPEC] == "catalog.handlers:LunchBoxHDF5Handler (lunchbox)"


def test_a_handler_that_cannot_be_had_is_named_with_the_remedy() -> None:
    use_handlers({"GONE": "no_such_module:Handler", "WRONG": "json:Handler"})
    for spec in ("GONE", "WRONG"):
        with pytest.raises(DataNotAccessible, match=rf"handler of spec '{spec}'.*`handlers` in config/lunchbox.yml"):
            handler_for(spec)
    assert {"GONE", "WRONG"}.isdisjoint(handler_registry())
    with pytest.raises(DataNotAccessible, match="has a handler already"):
        use_handlers({SPEC: "json:Handler"})
