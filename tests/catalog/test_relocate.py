"""Frames move without a document changing: all of them, as they were, or none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import Run, frame, make_settings, write_run

from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler
from catalog.journal import Journal
from catalog.layout import IMAGE
from catalog.paths import DataNotAccessible, FrameRoots
from catalog.relocate import CannotRelocate, relocate, survey


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a finished day, with two runs; new frames go elsewhere."""
    data_root = tmp_path / "data"
    for seed in (1, 3):
        write_run(data_root, points=2, seed=seed)
    (today,) = (path for path in (data_root / "frames").glob("*/*/*"))
    old = data_root / "frames" / "2025"
    text = {journal: journal.read_text() for journal in (data_root / "journal").rglob("*.jsonl")}
    for journal, content in text.items():
        journal.write_text(content.replace(str(today.relative_to(data_root / "frames")), "2025"))
    today.rename(old)
    return old


@pytest.fixture
def settings(tmp_path: Path) -> Any:
    return make_settings(tmp_path / "data")


def read(settings: Any, file: Path) -> np.ndarray:
    resolved = FrameRoots.from_settings(settings).contained(file)
    return LunchBoxHDF5Handler(resolved, dataset=IMAGE)(frame=1)


def mapped(settings: Any) -> dict[str, str]:
    file = settings.data_root / "root_map.json"
    return json.loads(file.read_text()) if file.exists() else {}


def test_files_are_copied_proved_and_mapped(settings: Any, old: Path, tmp_path: Path) -> None:
    new = tmp_path / "archive"
    files = sorted(old.iterdir())
    before = [read(settings, file) for file in files]
    assert len(survey(settings, old, new).to_copy) == 2
    assert not new.exists()
    assert mapped(settings) == {}
    done: list[Any] = []
    assert relocate(settings, old, new, on_file=done.append) == len(done) == 2
    shutil.rmtree(old)
    for file, expected in zip(files, before, strict=True):
        np.testing.assert_array_equal(read(settings, file), expected)
    # And on, from where they are now.
    assert relocate(settings, old, tmp_path / "second") == 2
    shutil.rmtree(new)
    np.testing.assert_array_equal(read(settings, files[0]), before[0])
    assert mapped(settings) == {str(old): str(tmp_path / "second")}


def test_files_that_were_moved_by_hand_are_read_through(settings: Any, old: Path, tmp_path: Path) -> None:
    new = tmp_path / "archive"
    old.rename(new)
    assert len(survey(settings, old, new).to_read) == 2
    (victim,) = (path for path in new.iterdir() if frame(3, 0).tobytes() in path.read_bytes())
    whole = victim.read_bytes()
    position = whole.index(frame(3, 0).tobytes())
    victim.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(FrameIntegrityError, match="damaged"):
        relocate(settings, old, new)
    assert mapped(settings) == {}
    victim.write_bytes(whole)
    assert relocate(settings, old, new) == 2


def test_what_is_missing_or_differs_changes_nothing(settings: Any, old: Path, tmp_path: Path) -> None:
    new = tmp_path / "archive"
    shutil.copytree(old, new)
    first, second = sorted(old.iterdir())
    (new / first.name).write_bytes((new / second.name).read_bytes())
    with pytest.raises(CannotRelocate, match=rf"{first.name} differs from .*nothing was changed"):
        relocate(settings, old, new)
    (new / first.name).unlink()
    first.unlink()
    with pytest.raises(CannotRelocate, match=rf"1 of 2 files are neither in .*{first.name}"):
        relocate(settings, old, new)
    assert mapped(settings) == {}


def test_a_link_out_of_the_new_folder_is_refused(settings: Any, old: Path, tmp_path: Path) -> None:
    new = tmp_path / "archive"
    shutil.copytree(old, new)
    file = sorted(old.iterdir())[0]
    (new / file.name).unlink()
    (new / file.name).symlink_to(file)
    with pytest.raises(DataNotAccessible, match="lies outside"):
        relocate(settings, old, new)
    assert mapped(settings) == {}


def test_where_frames_are_being_written_cannot_move(settings: Any, old: Path, tmp_path: Path) -> None:
    for folder in (old.parent, tmp_path / "data"):
        with pytest.raises(CannotRelocate, match="where new frames are written"):
            survey(settings, folder, tmp_path / "archive")
    frames = tmp_path / "elsewhere"
    run = Run(Journal(tmp_path / "data" / "journal"), frames)
    run.begin()
    run.point()
    with pytest.raises(CannotRelocate, match="in progress"):
        survey(settings, frames, tmp_path / "archive")
    run.end()


@pytest.mark.parametrize(
    ("old_name", "new_name", "message"),
    [
        ("relative", "archive", "whole path"),
        ("data/frames/2025", "data/frames/2025/x", "inside"),
        ("data/frames/1999", "archive", "no document"),
    ],
)
def test_a_wrong_folder_is_told(
    settings: Any, old: Path, tmp_path: Path, old_name: str, new_name: str, message: str
) -> None:
    folder = Path(old_name) if old_name == "relative" else tmp_path / old_name
    with pytest.raises(CannotRelocate, match=message):
        survey(settings, folder, tmp_path / new_name)


def test_the_configurations_map_wins_and_is_named(settings: Any, old: Path, tmp_path: Path) -> None:
    settings.root_map = {str(old): str(tmp_path / "mine")}
    with pytest.raises(CannotRelocate, match="root_map in the configuration"):
        survey(settings, old, tmp_path / "archive")


def test_a_damaged_map_is_an_error_with_the_remedy(settings: Any) -> None:
    settings.data_root.mkdir(parents=True, exist_ok=True)
    for text in ("{", "[1]", '{"a": 1}'):
        (settings.data_root / "root_map.json").write_text(text)
        with pytest.raises(DataNotAccessible, match="estore it, or delete it"):
            FrameRoots.from_settings(settings)
