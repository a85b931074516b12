"""Cameras: frames are exact, times are honest, and what hangs or is missing is a named error in time."""

from __future__ import annotations

import contextlib
import http.server
import threading
import time

import cv2
import numpy as np
import pytest

from acquisition.bench.scene import BenchState, Scene
from acquisition.bench.settings import BenchSettings
from acquisition.camera import SimulatedCamera
from acquisition.opencv import FixedExposure, OpenCVCamera
from acquisition.worker import CameraError, Worker

SHAPE = (48, 64, 3)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)


@pytest.fixture
def sequence(frames, tmp_path):
    for i, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return str(tmp_path / "%03d.png")


@pytest.fixture
def video(frames, tmp_path):
    path = str(tmp_path / "frames.mkv")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"FFV1"), 10, (SHAPE[1], SHAPE[0]))
    assert writer.isOpened()
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.fixture
def scene():
    return Scene(BenchSettings.model_validate({"width": 640, "height": 480, "truth": {"pixel_size": 0.5e-3}}))


@pytest.mark.parametrize("source", ["sequence", "video"])
def test_every_pixel_of_a_file_arrives_in_red_green_blue(source, frames, request):
    camera = OpenCVCamera(request.getfixturevalue(source))
    camera.open()
    try:
        assert camera.shape == SHAPE
        for frame in frames:
            exposure = camera.grab()
            assert np.array_equal(exposure.data, frame)
            assert exposure.data.dtype == np.uint8
            assert exposure.timestamp == pytest.approx(time.time(), abs=1)
        with pytest.raises(CameraError, match="has no more frames"):
            camera.grab()
    finally:
        camera.close()


def test_a_missing_camera_is_named_with_the_remedy(tmp_path):
    for source in (97, str(tmp_path / "nothing.mkv")):
        camera = OpenCVCamera(source)
        began = time.monotonic()
        with pytest.raises(CameraError, match=rf"camera {source} does not open. Check that it is plugged in"):
            camera.open()
        assert time.monotonic() - began < 2
        with pytest.raises(CameraError, match="is not open"):
            camera.grab()


def test_a_camera_that_is_not_open_says_so(sequence):
    camera = OpenCVCamera(sequence)
    with pytest.raises(CameraError, match="not open"):
        _ = camera.shape
    camera.close()


def test_it_opens_again_after_it_was_closed(sequence, frames):
    camera = OpenCVCamera(sequence)
    for _ in range(2):
        camera.open()
        assert np.array_equal(camera.grab().data, frames[0])
        camera.close()


class Driver:
    """Stands in for a live `cv2.VideoCapture`: no machine that runs these tests has a camera."""

    def __init__(self, source) -> None:
        self.properties = {cv2.CAP_PROP_FRAME_HEIGHT: SHAPE[0], cv2.CAP_PROP_FRAME_WIDTH: SHAPE[1]}
        self.buffered = 3
        self.period = 0.04
        self.hangs = 0.0
        self.number = 0
        self.refuses = None

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def getBackendName(self) -> str:  # noqa: N802 (OpenCV's name)
        return "TEST"

    def set(self, name, value) -> bool:
        # This one refuses gains above 10, as drivers do: silently.
        if name == self.refuses:
            return True
        self.properties[name] = min(value, 10) if name == cv2.CAP_PROP_GAIN else value
        return True

    def get(self, name):
        return self.properties.get(name, -1.0)

    def grab(self) -> bool:
        time.sleep(self.hangs)
        if self.buffered:
            self.buffered -= 1
        else:
            time.sleep(self.period)
        self.number += 1
        return True

    def retrieve(self):
        return True, np.full(SHAPE, self.number, np.uint8)

    def release(self) -> None:
        pass


@pytest.fixture
def driver(monkeypatch):
    driver = Driver(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: driver)
    return driver


def test_exposure_gain_and_white_balance_are_fixed_and_read_back(driver):
    camera = OpenCVCamera(0, fixed=FixedExposure(exposure=300, gain=64, white_balance=4600))
    camera.open()
    camera.close()
    assert driver.properties[cv2.CAP_PROP_AUTO_EXPOSURE] == 1
    assert driver.properties[cv2.CAP_PROP_AUTO_WB] == 0
    assert driver.properties[cv2.CAP_PROP_BUFFERSIZE] == 1
    settings = camera.settings()
    assert (settings["gain_wanted"], settings["white_balance_wanted"]) == (64, 4600)
    assert (settings["exposure"], settings["gain"], settings["white_balance"]) == (300, 10, 4600)
    assert settings["model"] == "OpenCV TEST"


class Clocked(Driver):
    """Takes a frame every `period`, whoever asks; keeps the last eight, hands out the oldest, and is slow at that."""

    def __init__(self, source) -> None:
        super().__init__(source)
        self.began = time.monotonic()
        self.next = 0

    def grab(self) -> bool:
        time.sleep(0.012)  # decoding
        newest = int((time.monotonic() - self.began) / self.period)
        self.next = max(self.next, newest - 8)
        time.sleep(max(0.0, self.ended(self.next) - time.monotonic()))
        self.number, self.next = self.next, self.next + 1
        return True

    def ended(self, number: int) -> float:
        return self.began + (number + 1) * self.period

    def get(self, name):
        return 1e3 * self.ended(self.number) if name == cv2.CAP_PROP_POS_MSEC else super().get(name)


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_a_frame_is_never_older_than_the_call_however_many_wait(monkeypatch, pause):
    driver = Clocked(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: driver)
    camera = OpenCVCamera(0, count_time=0.03, latency=0.0)
    camera.open()
    for _ in range(3):
        time.sleep(pause)
        called, wall = time.monotonic(), time.time()
        exposure = camera.grab()
        assert exposure.timestamp - exposure.count_time / 2 >= wall
        assert driver.ended(int(exposure.data[0, 0, 0])) - 0.03 >= called - 1e-3
    camera.close()


def test_a_machine_that_was_busy_for_a_while_gets_no_old_frame_for_it(monkeypatch):
    driver = Clocked(0)
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: driver)
    camera = OpenCVCamera(0, count_time=0.001, latency=0.0)
    camera.open()
    time.sleep(0.5)
    assert camera._worker is not None
    for _ in range(3):
        camera._worker.do(lambda: time.sleep(0.25), 5)  # nobody takes frames meanwhile
        called = time.monotonic()
        assert driver.ended(int(camera.grab().data[0, 0, 0])) >= called
    camera.close()


def test_a_driver_that_hangs_does_not_hang_the_caller(driver):
    camera = OpenCVCamera(0, timeout=0.2)
    camera.open()
    driver.hangs = 3.0
    began = time.monotonic()
    with pytest.raises(CameraError, match=r"camera 0 hangs: nothing in 0\.2 s"):
        camera.grab()
    with pytest.raises(CameraError, match="still hangs"):
        camera.grab()
    camera.close()
    assert time.monotonic() - began < 2.8


def test_a_frame_of_another_shape_is_refused(driver):
    camera = OpenCVCamera(0, latency=0.0)
    driver.properties[cv2.CAP_PROP_FRAME_WIDTH] = 100
    camera.open()
    with pytest.raises(CameraError, match=r"\(48, 64, 3\), not \(48, 100, 3\)"):
        camera.grab()
    camera.close()


def test_the_simulated_camera_takes_as_long_as_its_exposure(scene):
    camera = SimulatedCamera(scene, lambda: BenchState(0.0, 0.0), count_time=0.2)
    camera.grab()
    before = time.time()
    exposure = camera.grab()
    after = time.time()
    assert after - before >= 0.2
    assert before + 0.1 <= exposure.timestamp <= after - 0.1
    assert exposure.count_time == 0.2


def test_the_simulated_camera_can_be_infinitely_fast(scene):
    camera = SimulatedCamera(scene, lambda: BenchState(0.0, 0.0), count_time=20.0, real_time=False)
    began = time.monotonic()
    camera.grab()
    assert time.monotonic() - began < 5


def test_the_simulated_camera_sees_the_bench_as_it_is_in_the_middle_of_the_exposure(scene):
    asked = []

    def state():
        asked.append(time.time())
        return BenchState(0.0, 1.0)

    camera = SimulatedCamera(scene, state, count_time=0.1)
    exposure = camera.grab()
    assert len(asked) == 1
    assert asked[0] == pytest.approx(exposure.timestamp, abs=0.02)
    dark = SimulatedCamera(scene, lambda: BenchState(0.0, 0.0), count_time=0.1).grab()
    assert exposure.data[..., 0].max() > dark.data[..., 0].mean() + 100


def test_cameras_tell_what_a_run_records(scene):
    camera = SimulatedCamera(scene, lambda: BenchState(0.0, 0.0), count_time=0.05, real_time=False)
    assert camera.shape == (480, 640, 3)
    assert camera.settings() == {"model": "simulated camera", "count_time": 0.05, "real_time": False}


def test_pixel_format_and_size_are_set_and_read_back(driver):
    camera = OpenCVCamera(0, fixed=FixedExposure(pixel_format="YUYV", width=SHAPE[1], height=SHAPE[0]))
    camera.open()
    settings = camera.settings()
    camera.close()
    assert (settings["pixel_format_wanted"], settings["pixel_format"]) == ("YUYV", "YUYV")
    assert (settings["width"], settings["height"]) == (SHAPE[1], SHAPE[0])


def test_the_exposure_scales_with_the_time_and_no_frame_of_the_old_one_is_handed_out(driver):
    camera = OpenCVCamera(0, count_time=0.03, fixed=FixedExposure(exposure=300), latency=0.0)
    camera.open()
    number = driver.number
    camera.set_count_time(0.003)
    assert driver.properties[cv2.CAP_PROP_EXPOSURE] == pytest.approx(30)
    assert driver.number >= number + 4
    assert camera.grab().count_time == 0.003
    driver.refuses = cv2.CAP_PROP_EXPOSURE
    with pytest.raises(CameraError, match=r"does not take an exposure of 100 \(its own unit\); it is at 30"):
        camera.set_count_time(0.01)
    assert camera.count_time == 0.003
    camera.close()
    driver.refuses = None
    camera.open()
    assert camera.count_time == 0.03, "as it was configured"
    camera.close()


def test_an_exposure_cannot_be_changed_where_nothing_says_what_it_is(driver, sequence):
    for camera in (OpenCVCamera(0), OpenCVCamera(sequence, fixed=FixedExposure(exposure=300))):
        camera.open()
        camera.set_count_time(camera.count_time)
        with pytest.raises(CameraError, match=r"cannot be changed to 0\.001 s.*acquisition\.camera\.exposure"):
            camera.set_count_time(0.001)
        camera.close()


def test_settings_of_files_are_not_touched(sequence):
    camera = OpenCVCamera(sequence, fixed=FixedExposure(exposure=300, width=99, height=99))
    camera.open()
    assert camera.shape == SHAPE
    assert "exposure_wanted" not in camera.settings()
    camera.close()


class Stream(http.server.BaseHTTPRequestHandler):
    """Motion JPEG of frames whose brightness is their number, at 25 a second."""

    number = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(OSError):
            for number in range(250):
                Stream.number = number
                jpeg = cv2.imencode(".jpg", np.full(SHAPE, number, np.uint8))[1].tobytes()
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                time.sleep(0.04)

    def log_message(self, *_: object) -> None:
        pass


def test_a_stream_by_its_url_gives_what_was_sent_after_the_call():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        camera = OpenCVCamera(f"http://127.0.0.1:{server.server_address[1]}/screen.mjpg", timeout=10, count_time=0.001)
        camera.open()
        assert camera.shape == SHAPE
        time.sleep(0.5)  # frames pile up on the way
        for _ in range(3):
            sent = Stream.number
            assert int(np.median(camera.grab().data)) >= sent
        camera.close()
        server.shutdown()


def test_a_time_out_of_what_the_driver_asks_is_not_taken_for_its_own():
    def ask():
        raise TimeoutError("the IOC does not answer")

    worker = Worker("camera")
    with pytest.raises(TimeoutError, match="IOC"):
        worker.do(ask, 5.0)
    assert worker.do(lambda: 1, 5.0) == 1
    worker.end()
