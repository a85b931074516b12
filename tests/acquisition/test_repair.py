"""What is whole of a file whose writer was killed, in a file that any viewer opens; the original is left as it is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cameras import ArrayCamera

from acquisition.frame_file import FrameFile
from acquisition.repair import repair
from catalog import layout
from catalog.errors import DataRootError
from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler
from catalog.setup import Setup

SHAPE = (96, 128, 3)
WRITER = """
import sys
from pathlib import Path
sys.path[:0] = {paths!r}
from cameras import ArrayCamera
from acquisition.frame_file import FrameFile
from catalog.setup import Setup
camera = ArrayCamera({shape})
file = FrameFile(Path(sys.argv[1]), shape=camera.shape, setup=Setup(groove_density=300e3), fsync=False)
for i in range(10**6):
    background, image = camera.grab(), camera.grab()
    print(file.append(image, background, servo=0.5 * i), flush=True)
"""


def written(path: Path, n: int, *, background: Any = "each", **options: Any) -> Path:
    """A whole file: frame 0 of the camera is the first background, where there is one."""
    camera = ArrayCamera(SHAPE)
    with FrameFile(path, shape=SHAPE, setup=Setup(), background=background, **options) as file:
        for i in range(n):
            due = background == "each" or (background == "first" and i == 0)
            dark = camera.grab() if due else None
            file.append(camera.grab(), dark, servo=0.5 * i)
    return path


@pytest.mark.parametrize("trial", range(3))
def test_a_killed_file_becomes_one_that_every_viewer_opens_with_every_acknowledged_frame(
    tmp_path: Path, trial: int
) -> None:
    path = tmp_path / "a.h5"
    support = str(Path(sys.modules["cameras"].__file__ or "").parent)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER.format(paths=[support], shape=SHAPE), str(path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(random.randrange(3, 30))]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout]
    writer.wait()
    writer.stdout.close()
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"SWMR|already open|h5clear|consistency"):
        h5py.File(path, "r")

    done = repair(path)

    assert path.read_bytes() == before, "the original is kept"
    assert done.copy == tmp_path / "a.repaired.h5"
    assert len(acknowledged) <= done.frames <= done.found <= len(acknowledged) + 1
    camera = ArrayCamera(SHAPE)
    with h5py.File(done.copy, "r") as file:
        assert file["/entry/data/image"].shape == file["/entry/data/background"].shape == (done.frames, *SHAPE)
        for i in range(done.frames):
            np.testing.assert_array_equal(file[layout.BACKGROUND][i], camera.frame(2 * i))
            np.testing.assert_array_equal(file[layout.IMAGE][i], camera.frame(2 * i + 1))
        np.testing.assert_array_equal(file[layout.SERVO], 0.5 * np.arange(done.frames))
        assert (np.diff(file[layout.TIMESTAMP]) > 0).all()
        assert file["/entry/instrument/grating/period"][()] == pytest.approx(1 / 300e3)


@pytest.mark.parametrize(("background", "frames"), [("each", 4), ("first", 1), ("none", 0)])
@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_the_copy_is_the_same_file_whatever_its_backgrounds_and_compression(
    tmp_path: Path, background: str, frames: int, compression: str
) -> None:
    path = written(tmp_path / "a.h5", 4, background=background, compression=compression)
    done = repair(path)
    assert (done.frames, done.found, done.reason) == (4, 4, "")
    with h5py.File(path, "r") as original, h5py.File(done.copy, "r") as copy:
        assert len(copy[layout.BACKGROUND]) == frames
        names: list[str] = []
        original.visit(names.append)
        found: list[str] = []
        copy.visit(found.append)
        assert names == found
        for name in names:
            assert dict(original[name].attrs).keys() == dict(copy[name].attrs).keys()
            if isinstance(original[name], h5py.Dataset):
                np.testing.assert_array_equal(original[name][()], copy[name][()])
        filters = [f[layout.IMAGE].id.get_create_plist().get_nfilters() for f in (original, copy)]
        assert filters[0] == filters[1]


def test_frames_after_a_damaged_one_are_left_out_and_it_is_said_which(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", 6)
    with h5py.File(path, "r") as file:
        offset = file[layout.IMAGE].id.get_chunk_info_by_coord((4, 0, 0, 0)).byte_offset
    data = bytearray(path.read_bytes())
    data[offset + 100] ^= 1
    path.write_bytes(data)
    done = repair(path, tmp_path / "copy.h5")
    assert (done.frames, done.found) == (4, 6)
    assert "a.h5:/entry/instrument/detector/data" in done.reason
    assert LunchBoxHDF5Handler(tmp_path / "copy.h5", dataset=layout.IMAGE).shape == (4, *SHAPE)


def test_a_truncated_file_gives_what_lies_before_its_end(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", 6)
    with h5py.File(path, "r") as file:
        info = file[layout.IMAGE].id.get_chunk_info_by_coord((3, 0, 0, 0))
    data = path.read_bytes()
    path.write_bytes(data[: info.byte_offset + 10])
    done = repair(path)
    assert (done.frames, done.found) == (3, 6)
    assert "it is truncated" in done.reason
    with h5py.File(done.copy, "r") as file:
        np.testing.assert_array_equal(file[layout.IMAGE][2], ArrayCamera(SHAPE).frame(5))
    path.write_bytes(data[:1000])
    with pytest.raises(FrameIntegrityError, match=r"a\.h5"):
        repair(path, tmp_path / "other.h5")
    assert not (tmp_path / "other.h5").exists()


def test_what_is_no_frame_file_is_an_error_and_makes_no_copy(tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    with pytest.raises(FrameIntegrityError, match=r"other\.h5"):
        repair(other)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(FrameIntegrityError, match="no readable HDF5 file"):
        repair(tmp_path / "text.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.h5", "text.h5"]


def test_a_file_without_one_whole_frame_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    file = FrameFile(path, shape=SHAPE, setup=Setup())
    with pytest.raises(FrameIntegrityError, match="no frame is whole"):
        repair(path)
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_copy_is_never_overwritten(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", 2)
    repair(path)
    with pytest.raises(DataRootError, match="exists"):
        repair(path)
