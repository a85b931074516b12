"""Documents about frames: a resource before its first datum, once, and none about a pair that nobody read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cameras import ArrayCamera

from acquisition.camera import Exposure
from acquisition.recording import ContractError, Recording
from acquisition.settings import FileSettings
from catalog import layout
from catalog.handlers import LunchBoxHDF5Handler
from catalog.setup import Setup


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return Recording(tmp_path, shape=ArrayCamera().shape, setup=Setup(), files=FileSettings())


def test_documents_lead_to_the_pixels(recording: Recording, tmp_path: Path) -> None:
    camera = ArrayCamera()
    recording.append(camera.grab(), camera.grab(), servo=0.0)
    documents = list(recording.collect())
    recording.close()
    assert [name for name, _ in documents] == ["resource", "datum"] * 2
    for number, ((_, resource), (_, datum)) in enumerate(zip(documents[::2], documents[1::2], strict=True)):
        handler = LunchBoxHDF5Handler(tmp_path / resource["resource_path"], **resource["resource_kwargs"])
        np.testing.assert_array_equal(handler(**datum["datum_kwargs"]), camera.frame(number))
        assert resource["root"] == str(tmp_path)
        assert not resource["resource_path"].startswith("/")
        assert "run_start" not in resource


def test_a_first_pair_that_nobody_read_does_not_take_its_resources_with_it(recording: Recording) -> None:
    # The RunEngine was paused after the pair was written, and repeats the point.
    camera = ArrayCamera()
    recording.append(camera.grab(), camera.grab(), servo=0.0)
    recording.append(camera.grab(), camera.grab(), servo=0.0)
    documents = list(recording.collect())
    recording.close()
    assert [name for name, _ in documents] == ["resource", "datum"] * 2
    assert [datum["datum_kwargs"] for name, datum in documents if name == "datum"] == [{"frame": 1}] * 2
    assert {datum["datum_id"] for name, datum in documents if name == "datum"} == set(recording.datum_ids.values())


def test_resources_are_told_once_and_datums_once(recording: Recording) -> None:
    camera = ArrayCamera()
    recording.append(camera.grab(), camera.grab(), servo=0.0)
    list(recording.collect())
    assert list(recording.collect()) == []
    recording.append(camera.grab(), camera.grab(), servo=1.0)
    assert [name for name, _ in recording.collect()] == ["datum", "datum"]
    recording.close()


@pytest.mark.parametrize("wrong", [np.zeros((12, 16, 3), "u2"), np.zeros((12, 15, 3), "u1"), np.zeros((12, 16), "u1")])
def test_a_frame_that_was_not_declared_is_refused_and_not_written(
    recording: Recording, tmp_path: Path, wrong: np.ndarray
) -> None:
    good = ArrayCamera().grab()
    with pytest.raises(ContractError, match=r"\(12, 16, 3\), uint8 was declared"):
        recording.append(good, Exposure(data=wrong, timestamp=0.0, count_time=0.0), servo=0.0)
    assert list(recording.collect()) == []
    recording.close()
    assert list(tmp_path.rglob("*.h5")) == []


def test_pixels_that_read_back_differently_end_the_run_at_its_first_frame(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = ArrayCamera()
    # As with a filter that loses something: what is read is not what was sent.
    monkeypatch.setitem(layout.FIELDS, "lunchbox_image", layout.BACKGROUND)
    with pytest.raises(ContractError, match="the pixels that read back are not those sent"):
        recording.append(camera.grab(), camera.grab(), servo=0.0)
    recording.close()
