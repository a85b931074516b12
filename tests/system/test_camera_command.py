"""`lunchbox camera`: numbers of a frame for machines, a live picture in a real terminal, the laser off afterwards."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import cv2
import numpy as np
from channel_access import value, wait_for
from command import CommandLine

from acquisition.ioc.process import IOCProcess
from lunchbox.camera import lines_of, picture_of, statistics


def test_the_numbers_of_a_frame_and_the_frame_itself(command: CommandLine) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:12, :, 2] = 255  # OpenCV's files are B, G, R: a quarter is red, and full
    cv2.imwrite(str(command.home / "000.png"), frame)
    cv2.imwrite(str(command.home / "001.png"), frame)
    config = f"acquisition: {{camera: {{kind: opencv, source: '{command.home}/%03d.png'}}}}"
    mine = CommandLine(command.home, command.environment, config=config)
    done = mine.json("camera", "--save", str(command.home / "made" / "frame.png"))
    assert done["shape"] == [48, 64, 3]
    assert done["saturated"] == [0.25, 0, 0]
    assert done["largest"] == [255, 0, 0]
    assert done["histogram"][63] == 12 * 64
    assert sum(done["histogram"]) == 48 * 64
    np.testing.assert_array_equal(cv2.imread(str(command.home / "made" / "frame.png")), frame)
    plain = mine.run("camera")
    assert plain.returncode == 0
    assert "too bright: expose shorter" in plain.stdout
    assert "\x1b" not in plain.stdout


def test_a_camera_that_is_not_there_is_one_line(command: CommandLine) -> None:
    mine = CommandLine(command.home, command.environment, config="acquisition: {camera: {kind: opencv, source: 93}}")
    done = mine.run("camera")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("CameraError: camera 93 does not open")
    listed = mine.json("camera", "--list")
    assert listed.keys() == {"cameras"}


def test_the_simulated_camera_sees_the_laser_while_it_is_asked_for_and_it_is_off_afterwards(
    command: CommandLine, ioc: IOCProcess
) -> None:
    dark = command.json("camera")
    lit = command.json("camera", "--laser", "1")
    assert lit["largest"][0] > 100
    # Brighter than daylight are a few hot pixels, and then the spots.
    assert sum(lit["histogram"][10:]) > sum(dark["histogram"][10:]) + 50
    assert value(ioc, "LASER:RBV") == 0.0


def test_a_terminal_shows_it_live_until_ctrl_c_and_the_laser_goes_off(command: CommandLine, ioc: IOCProcess) -> None:
    (command.home / "lunchbox.yml").write_text(command.config)
    near, far = pty.openpty()
    ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = {**os.environ, **command.environment, "LUNCHBOX_CONFIG": str(command.home / "lunchbox.yml")}
    process = subprocess.Popen(
        [sys.executable, "-m", "lunchbox", "camera", "--laser", "1"],
        stdin=far,
        stdout=far,
        stderr=far,
        env=environment,
        start_new_session=True,
    )
    os.close(far)
    shown = b""

    def read_until(wanted: bytes, count: int, seconds: float) -> None:
        nonlocal shown
        deadline = time.monotonic() + seconds
        while shown.count(wanted) < count:
            assert time.monotonic() < deadline, shown[-500:]
            if select.select([near], [], [], 0.1)[0]:
                shown += os.read(near, 65536)

    try:
        read_until(b"Ctrl-C ends it", 3, 40)
        wait_for(ioc, "LASER:RBV", 1.0, timeout=5)
        process.send_signal(signal.SIGINT)
        read_until(b"\x1b[?1049l", 1, 10)  # the terminal is as it was
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        os.close(near)
    wait_for(ioc, "LASER:RBV", 0.0, timeout=1)
    text = re.sub(rb"\x1b\[[^a-zA-Z]*[a-zA-Z]", b"", shown).decode(errors="replace")
    assert "640 x 480" in text
    assert "▀" in text
    assert "saturated" in text


def test_the_picture_has_the_frames_proportions_and_colours() -> None:
    frame = np.zeros((480, 640, 3), np.uint8)
    frame[:, 320:] = (200, 10, 20)
    lines = picture_of(frame, width=80, height=100)
    assert len(lines) == 30  # 80 wide is 60 high, two rows to a line
    assert [line.count("▀") for line in lines] == [80] * 30
    assert lines[0].startswith("\x1b[38;2;0;0;0m")
    assert "\x1b[38;2;200;10;20m\x1b[48;2;200;10;20m▀" in lines[0]


def test_the_histogram_is_as_high_as_it_is_told() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    lines = lines_of(statistics(frame), height=3)
    bars = lines[4:7]
    assert max(len(line) for line in bars) == 12 + 64
    assert "█" in bars[-1]
