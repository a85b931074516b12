"""The web page that comes with Tiled shows our frames and tables as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from documents import make_settings, write_run

from catalog.server import Server

SHAPE = (90, 120, 3)
COLOURS = {"red": (200, 0, 0), "green": (0, 180, 0), "blue": (0, 0, 160), "grey": (90, 90, 90)}
DARK = 2


def frame(seed: int, index: int, *, shape: tuple[int, ...]) -> np.ndarray:
    """A quarter of each colour in the images, next to nothing in the backgrounds."""
    if seed % 2:
        return np.random.default_rng(index).integers(0, DARK + 1, shape, dtype=np.uint8)
    pixels = np.zeros(shape, np.uint8)
    y, x = shape[0] // 2, shape[1] // 2
    pixels[:y, :x], pixels[:y, x:], pixels[y:, :x], pixels[y:, x:] = COLOURS.values()
    return pixels


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Gives the address of what is below a run of two points."""
    browser.chromium()
    monkeypatch.setattr("documents.frame", frame)
    uid = write_run(tmp_path, points=2, seed=0, shape=SHAPE)
    with Server(make_settings(tmp_path)) as server:
        assert server.ingester is not None
        assert server.ingester.caught_up.wait(60)
        yield lambda path: f"{server.uri}/ui/browse/{uid}/{path}?api_key={server.api_key}"


def test_frames_have_their_colours_and_dark_ones_are_dark(page: Any) -> None:
    shown = browser.picture(page("primary/lunchbox_image"))
    for name, colour in COLOURS.items():
        assert np.sum(np.all(shown == colour, axis=-1)) > 10_000, name
    shown = browser.picture(page("primary/lunchbox_background"))
    dark = np.all(shown <= DARK, axis=-1)
    assert np.sum(dark) > 100_000
    assert len(np.unique(shown[dark])) == DARK + 1


def test_a_table_has_its_rows(page: Any) -> None:
    html = browser.content(page("primary/internal"))
    cells = [cell for cell in re.sub(r"<[^>]+>", "\n", html).splitlines() if cell.strip()]
    at = cells.index("lunchbox_servo")
    assert cells[at + 1 : at + 3] == ["0", "1"]
    assert "No rows" not in html
