"""What leaves as a file of another program is what was recorded."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from documents import frame, make_settings, write_analysis, write_run

from catalog.export import export
from catalog.journal import list_journals, read_journal
from catalog.paths import DataNotAccessible
from catalog.recorded import NotRecorded, find_run, fits_of

POINTS = 3
IMAGES = np.stack([frame(5, index) for index in range(POINTS)])
BACKGROUNDS = np.stack([frame(6, index) for index in range(POINTS)])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(settings, run, fits) of a scan with one fit, and another scan before it."""
    data_root = tmp_path_factory.mktemp("export")
    write_run(data_root, points=1, seed=1)
    uid = write_run(data_root, points=POINTS, seed=5, operator="Ada", sample={"name": "grating"})
    write_analysis(data_root, uid)
    settings = make_settings(data_root)
    return settings, find_run(settings, uid), fits_of(settings, uid)


def test_a_run_is_found_without_a_catalogue(recorded: Any) -> None:
    settings, run, fits = recorded
    uid = run.uid
    assert [find_run(settings, which).uid for which in ("-1", uid[:8], "2")] == [uid] * 3
    assert find_run(settings, "-2").start["scan_id"] == 1
    assert [fit.start["raw_run_uid"] for fit in fits] == [uid]
    for which in ("-3", "", "zzz", "77777"):
        with pytest.raises(NotRecorded, match="lunchbox show"):
            find_run(settings, which)


def test_json_lines_are_the_documents_as_they_were_emitted(recorded: Any, tmp_path: Path) -> None:
    settings, run, fits = recorded
    (path,) = export(run, fits, "jsonl", tmp_path)
    (entry,) = [entry for entry in list_journals(settings.data_root / "journal") if entry.uid == run.uid]
    assert [tuple(json.loads(line)) for line in path.read_text().splitlines()] == list(read_journal(entry.path))


def test_csv_has_a_row_per_event_and_units_in_its_head(recorded: Any, tmp_path: Path) -> None:
    _, run, fits = recorded
    paths = {path.name: path for path in export(run, fits, "csv", tmp_path)}
    with paths[f"{run.uid[:8]}-primary.csv"].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lunchbox_servo (deg)"]) for row in rows] == [0, 1, 2]
    events = run.streams["primary"].events
    assert [float(row["time (s)"]) for row in rows] == [event["time"] for event in events]
    with paths[f"{run.uid[:8]}-fit-{fits[0].uid[:8]}-fit.csv"].open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert json.loads(row["covariance"]) == np.eye(7).tolist()


def test_tiff_has_the_frames_in_colour_and_as_deep_as_they_are(recorded: Any, tmp_path: Path) -> None:
    import tifffile

    _, run, fits = recorded
    paths = {path.name: path for path in export(run, fits, "tiff", tmp_path)}
    assert len(paths) == 2
    for key, expected in (("lunchbox_image", IMAGES), ("lunchbox_background", BACKGROUNDS)):
        with tifffile.TiffFile(paths[f"{run.uid[:8]}-primary-{key}.tif"]) as file:
            assert [page.photometric.name for page in file.pages] == ["RGB"] * POINTS
            pages = np.stack([page.asarray() for page in file.pages])
            assert json.loads(file.pages[1].description)["lunchbox_servo"] == 1.0
        assert pages.dtype == np.uint8
        np.testing.assert_array_equal(pages, expected)


def test_hdf5_has_everything(recorded: Any, tmp_path: Path) -> None:
    _, run, fits = recorded
    (path,) = export(run, fits, "hdf5", tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["primary/lunchbox_image"][()], IMAGES)
        np.testing.assert_array_equal(file["primary/lunchbox_servo"][()], [0, 1, 2])
        assert file["primary/lunchbox_servo"].attrs["units"] == "deg"
        assert json.loads(file.attrs["start"]) == run.start
        np.testing.assert_array_equal(file[f"fits/{fits[0].uid}/fit/covariance"][()], [np.eye(7)])


@pytest.fixture(scope="module")
def file(recorded: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The run as NeXus."""
    _, run, fits = recorded
    (path,) = export(run, fits, "nexus", tmp_path_factory.mktemp("nexus"))
    with h5py.File(path) as file:
        yield file


class TestNexus:
    def test_a_viewer_finds_the_frames_by_the_defaults(self, file: Any) -> None:
        group = file
        while "default" in group.attrs:
            group = group[group.attrs["default"]]
        assert group.attrs["NX_class"] == "NXdata"
        signal = group[group.attrs["signal"]]
        np.testing.assert_array_equal(signal[()], IMAGES)
        assert signal.attrs["interpretation"] == "rgb-image"
        axes = list(group.attrs["axes"])
        assert len(axes) == signal.ndim
        np.testing.assert_array_equal(group[axes[0]][()], [0, 1, 2])
        assert group[axes[0]].attrs["units"] == "degree"

    def test_every_group_has_a_class_and_every_link_a_target(self, file: Any) -> None:
        classes = {"NXroot", "NXentry", "NXdata", "NXinstrument", "NXdetector", "NXsource", "NXgrating", "NXpositioner"}
        classes |= {"NXcollection", "NXprocess", "NXuser"}

        def check(name: str, thing: Any) -> None:
            if isinstance(thing, h5py.Group):
                assert thing.attrs["NX_class"] in classes, name
                for key in thing:
                    assert thing[key] is not None

        check("/", file)
        file.visititems(check)

    def test_who_when_and_what(self, file: Any, recorded: Any) -> None:
        _, run, _ = recorded
        entry = file["entry"]
        assert entry["entry_identifier"].asstr()[()] == run.uid
        assert entry["user/name"].asstr()[()] == "Ada"
        assert json.loads(entry["documents/start"].asstr()[()]) == run.start
        assert entry["start_time"].asstr()[()] < entry["end_time"].asstr()[()]
        assert entry["instrument/source/wavelength"][()] == 650e-9

    def test_the_fit_is_in_it(self, file: Any) -> None:
        fit = file["entry/fit_1"]
        assert fit.attrs["NX_class"] == "NXprocess"
        assert fit["fit/lambda_over_d"][0] == 0.39


def test_nothing_is_overwritten(recorded: Any, tmp_path: Path) -> None:
    _, run, fits = recorded
    for form in ("jsonl", "csv", "hdf5", "nexus", "pack"):
        export(run, fits, form, tmp_path / form)
        with pytest.raises(FileExistsError, match="exists; move it, or choose another folder"):
            export(run, fits, form, tmp_path / form)


def test_a_run_whose_frames_are_lost_leaves_no_half_file(tmp_path: Path) -> None:
    uid = write_run(tmp_path / "data", points=2)
    run = find_run(make_settings(tmp_path / "data"), uid)
    next((tmp_path / "data" / "frames").rglob("*.h5")).unlink()
    for form in ("tiff", "hdf5", "nexus", "pack"):
        with pytest.raises(DataNotAccessible, match="is missing"):
            export(run, [], form, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
