"""The file that is being written: NeXus, readable while it grows, and every acknowledged frame survives a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from acquisition.camera import Exposure
from acquisition.frame_file import FrameFile, new_frame_path, planned_bytes
from catalog import layout
from catalog.errors import DataRootError
from catalog.setup import Setup

SHAPE = (12, 16, 3)


def exposure(value: int) -> Exposure:
    return Exposure(data=np.full(SHAPE, value, "u1"), timestamp=1e9 + value, count_time=0.03)


def written(path: Path, n: int, **options: object) -> Path:
    with FrameFile(path, shape=SHAPE, setup=Setup(), **options) as file:  # type: ignore[arg-type]
        for i in range(n):
            assert file.append(exposure(2 * i + 1), exposure(2 * i), servo=1.5 * i) == i
    return path


def test_a_viewer_finds_the_image_by_the_nexus_defaults(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "a.h5", 3), "r") as file:
        data = file[file.attrs["default"]]
        data = data[data.attrs["default"]]
        image = data[data.attrs["signal"]]
        angle = data[data.attrs["axes"][0]]
        assert image.shape == (3, *SHAPE)
        np.testing.assert_array_equal(image[:, 0, 0, 0], [1, 3, 5])
        np.testing.assert_array_equal(angle, [0.0, 1.5, 3.0])
        assert angle.attrs["units"] == "degree"
        assert file[layout.ENTRY].attrs["NX_class"] == "NXentry"
        assert file["/entry/instrument/source/wavelength"][()] == Setup().wavelength
        classes = {name: item.attrs.get("NX_class") for name, item in file["/entry/instrument"].items()}
    assert classes == {
        "detector": "NXdetector",
        "source": "NXsource",
        "grating": "NXgrating",
        "servo": "NXpositioner",
    }


def test_every_dataset_has_units(tmp_path: Path) -> None:
    without: list[str] = []
    with h5py.File(written(tmp_path / "a.h5", 1), "r") as file:
        file.visititems(
            lambda name, item: (
                without.append(name)
                if isinstance(item, h5py.Dataset) and item.dtype.kind in "uif" and "units" not in item.attrs
                else None
            )
        )
    assert without == []


def test_timestamps_are_those_of_the_exposures(tmp_path: Path) -> None:
    with h5py.File(written(tmp_path / "a.h5", 2), "r") as file:
        np.testing.assert_array_equal(file[layout.TIMESTAMP], [1e9 + 1, 1e9 + 3])
        np.testing.assert_array_equal(file[layout.BACKGROUND_TIMESTAMP], [1e9, 1e9 + 2])


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_frames_are_the_same_frames(tmp_path: Path, compression: str) -> None:
    import hdf5plugin  # noqa: F401  registers its filters

    with h5py.File(written(tmp_path / "a.h5", 3, compression=compression), "r") as file:
        np.testing.assert_array_equal(file[layout.BACKGROUND][:, 5, 5, 1], [0, 2, 4])


def test_a_reader_in_another_process_sees_each_frame_as_soon_as_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    look = f"import h5py, sys; print(len(h5py.File({str(path)!r}, 'r', swmr=True)[{layout.IMAGE!r}]))"
    with FrameFile(path, shape=SHAPE, setup=Setup()) as file:
        for i in range(2):
            file.append(exposure(i), exposure(i), servo=0)
            seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
            assert int(seen.stdout) == i + 1


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", 1)
    before = path.read_bytes()
    with pytest.raises(DataRootError, match="exists"):
        FrameFile(path, shape=SHAPE, setup=Setup())
    assert path.read_bytes() == before


def test_paths_are_new_each_time(tmp_path: Path) -> None:
    assert new_frame_path(tmp_path) != new_frame_path(tmp_path)


def test_a_folder_that_cannot_be_written_names_path_and_remedy(tmp_path: Path) -> None:
    (tmp_path / "frames").write_text("a file where a folder should be")
    with pytest.raises(DataRootError, match=r"frames/x/a\.h5.*MB free.*LUNCHBOX_DATA_ROOT"):
        FrameFile(tmp_path / "frames" / "x" / "a.h5", shape=SHAPE, setup=Setup())


WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from cameras import ArrayCamera
from acquisition.frame_file import FrameFile
from catalog.setup import Setup
camera = ArrayCamera((96, 128, 3))
file = FrameFile(Path(sys.argv[1]), shape=camera.shape, setup=Setup())
for i in range(10**6):
    background, image = camera.grab(), camera.grab()
    print(file.append(image, background, servo=i), flush=True)
"""


@pytest.mark.parametrize("trial", range(5))
def test_every_acknowledged_frame_survives_kill_9(tmp_path: Path, trial: int) -> None:
    from cameras import ArrayCamera

    from catalog.handlers import LunchBoxHDF5Handler

    path = tmp_path / "a.h5"
    support = str(Path(sys.modules["cameras"].__file__ or "").parent)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(paths=[support]), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(20 + 7 * trial)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout]
    writer.wait()
    writer.stdout.close()

    camera = ArrayCamera((96, 128, 3))
    image = LunchBoxHDF5Handler(path, dataset=layout.IMAGE)
    background = LunchBoxHDF5Handler(path, dataset=layout.BACKGROUND)
    for i in acknowledged:
        np.testing.assert_array_equal(background(frame=i), camera.frame(2 * i))
        np.testing.assert_array_equal(image(frame=i), camera.frame(2 * i + 1))


@pytest.mark.parametrize(("taken", "length"), [("each", 3), ("first", 1), ("none", 0)])
def test_a_file_says_how_many_backgrounds_it_was_meant_to_have(tmp_path: Path, taken: str, length: int) -> None:
    with FrameFile(tmp_path / "a.h5", shape=SHAPE, setup=Setup(), background=taken) as file:  # type: ignore[arg-type]
        for i in range(3):
            due = taken == "each" or (taken == "first" and i == 0)
            file.append(exposure(i), exposure(9) if due else None, servo=0.0)
    with h5py.File(tmp_path / "a.h5", "r") as closed:
        assert closed[layout.BACKGROUND].attrs["taken"] == taken
        assert closed[layout.BACKGROUND].shape == (length, *SHAPE)
        assert len(closed[layout.BACKGROUND_TIMESTAMP]) == length


def test_no_file_is_begun_on_a_disk_that_has_no_room_for_its_frames(tmp_path: Path) -> None:
    for taken, frames in (("each", 2), ("first", 1), ("none", 1)):
        points = 10**13
        assert planned_bytes(SHAPE, points=points, background=taken) > frames * points * 576  # type: ignore[arg-type]
        with pytest.raises(
            DataRootError, match=r"a\.h5: cannot be written: No space left on device; \d+ MB are needed"
        ):
            FrameFile(tmp_path / "a.h5", shape=SHAPE, setup=Setup(), background=taken, points=points)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
