"""The Raspberry Pi's camera, against a stand-in for picamera2: no machine that runs these tests has one."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import fake_picamera2
import pytest
from pydantic import ValidationError

from acquisition.cameras import Found, list_cameras, real_camera
from acquisition.picamera import Picamera2Camera
from acquisition.settings import CameraSettings
from acquisition.worker import CameraError


@pytest.fixture
def picamera2(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", fake_picamera2)
    monkeypatch.setattr(fake_picamera2.Picamera2, "instances", [])
    return fake_picamera2.Picamera2


@pytest.fixture
def camera(picamera2):
    camera = Picamera2Camera(count_time=0.02, gain=1.5, colour_gains=(1.2, 1.3))
    camera.open()
    yield camera
    camera.close()


def test_frames_are_red_green_blue_of_the_sensors_size_with_the_sensors_own_exposure(camera):
    assert camera.shape == (48, 64, 3)
    exposure = camera.grab()
    assert exposure.data.shape == (48, 64, 3)
    assert (exposure.data[..., 0] == 200).all()
    assert (exposure.data[..., 2] == 0).all()
    assert exposure.count_time == pytest.approx(0.02, rel=0.01)


def test_nothing_is_automatic_and_what_the_sensor_did_is_recorded(camera):
    settings = camera.settings()
    assert settings["model"] == "imx708"
    assert settings["exposure"] == pytest.approx(20_000, abs=14)
    assert (settings["gain"], settings["red_gain"], settings["blue_gain"]) == (1.5, 1.2, 1.3)


def test_a_frame_is_never_older_than_the_call_whatever_is_queued(camera):
    for _ in range(3):
        time.sleep(0.15)  # old frames pile up
        called = time.time()
        exposure = camera.grab()
        assert exposure.timestamp - exposure.count_time / 2 >= called - 1e-3
        assert exposure.timestamp + exposure.count_time / 2 <= time.time()


def test_a_new_exposure_is_that_of_the_very_next_frame(camera, picamera2):
    for count_time in (0.005, 0.04):
        camera.set_count_time(count_time)
        assert camera.grab().count_time == pytest.approx(count_time, rel=0.03)
        assert camera.count_time == count_time


def test_every_buffer_goes_back(camera, picamera2):
    for _ in range(20):
        camera.grab()


def test_it_is_closed_and_opens_again_as_it_was_configured(camera, picamera2):
    camera.set_count_time(0.005)
    camera.close()
    assert picamera2.instances[0].closed
    camera.open()
    assert camera.grab().count_time == pytest.approx(0.02, rel=0.01)


def test_an_exposure_that_the_sensor_does_not_reach_is_a_named_error_in_time(picamera2, monkeypatch):
    monkeypatch.setattr(picamera2, "longest", 8_000)
    camera = Picamera2Camera(count_time=0.02, timeout=0.5)
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"hangs: nothing|gave no frame of 0\.02 s"):
        camera.open()
    assert time.monotonic() - began < 3
    assert camera._worker is None


def test_a_camera_that_is_not_there_is_named(picamera2):
    with pytest.raises(CameraError, match=r"Raspberry Pi camera 3 is not there; 1 found.*ribbon cable"):
        Picamera2Camera(3).open()


def test_without_picamera2_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match=r"apt install python3-picamera2.*system-site-packages"):
        Picamera2Camera().open()
    with pytest.raises(CameraError, match="not open"):
        Picamera2Camera().grab()


def test_the_settings_choose_it_and_say_what_it_takes(picamera2):
    settings = CameraSettings(kind="picamera2", source="0", count_time=0.01, gain=2.0, width=32, height=16)
    camera = real_camera(settings)
    assert isinstance(camera, Picamera2Camera)
    camera.open()
    assert camera.shape == (16, 32, 3)
    assert camera.settings()["gain"] == 2.0
    camera.close()
    with pytest.raises(ValidationError, match="knows its cameras by number"):
        CameraSettings(kind="picamera2", source="/dev/video0")
    with pytest.raises(ValidationError, match="go together"):
        CameraSettings(kind="opencv", width=640)


def test_cameras_are_listed_by_what_the_system_calls_them(picamera2, tmp_path: Path):
    devices, names = tmp_path / "dev", tmp_path / "names"
    for number, name in ((0, "HD Webcam\n"), (10, "bcm2835-codec")):
        (names / f"video{number}").mkdir(parents=True)
        (names / f"video{number}" / "name").write_text(name)
    devices.mkdir()
    for number in (10, 0, 2):
        (devices / f"video{number}").touch()
    assert list_cameras(devices=devices, names=names) == [
        Found("opencv", 0, "HD Webcam"),
        Found("opencv", 2, "video device"),
        Found("opencv", 10, "bcm2835-codec"),
        Found("picamera2", 0, "imx708"),
    ]
