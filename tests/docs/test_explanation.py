"""The page on geometry tells what the model of the fit says, and shows pictures that are there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "geometry.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def explanation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("explanation", ROOT / "docs" / "explanation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_of_what_is_identifiable_is_current(explanation: ModuleType) -> None:
    assert explanation.identifiability() in PAGE, "run: python docs/explanation.py"


def test_distance_and_offsets_cost_what_the_design_found(explanation: ModuleType) -> None:
    # Cramer-Rao bounds of 46 angles: knowing nothing of e and b costs 600/mm a hundred times, 300/mm twenty times.
    fine = {"groove_density": 600e3, "orders": (-1, 0, 1), "mount": "classical", "low": 0}
    coarse = {"groove_density": 300e3, "orders": (-2, -1, 0, 1, 2), "mount": "classical", "low": 0}
    for grating, ratio in ((fine, 100), (coarse, 15)):
        known = explanation.stderr_of_g(free=(), **grating)
        unknown = explanation.stderr_of_g(free=explanation.PRIORS, **grating)
        assert unknown > ratio * known


def test_pictures_of_the_page_are_drawings(explanation: ModuleType) -> None:
    names = re.findall(r"\{image\} \.\./images/([\w-]+\.svg)", PAGE)
    assert set(names) == {"geometry.svg", "mounts.svg", "budget.svg"}
    for name in names:
        text = (ROOT / "docs" / "images" / name).read_text(encoding="utf-8")
        assert text.rstrip().endswith("</svg>")
        assert len(text) < 150_000
    for figure in (explanation.drawing(), explanation.tracks()):
        assert len(figure.axes[0].lines) > 5
