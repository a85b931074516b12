"""The Chromium of this machine, without a window."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--window-size=1000,900", "--virtual-time-budget=20000"),
]


def chromium() -> str:
    """Its path; skips the test where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return path


def picture(url: str) -> np.ndarray:
    """What a page looks like, (y, x, channel), u1."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.png"
        _run(url, f"--screenshot={path}")
        return np.asarray(Image.open(path).convert("RGB"))


def content(url: str) -> str:
    """HTML of a page, after its scripts have run."""
    return _run(url, "--dump-dom")


def _run(url: str, *options: str) -> str:
    with tempfile.TemporaryDirectory() as profile:
        command = [chromium(), *_QUIET, f"--user-data-dir={profile}", *options, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout
