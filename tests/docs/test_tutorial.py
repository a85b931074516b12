"""The tutorial runs from scratch, and the notebook that is stored is this tutorial."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupytext import read as read_source

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "docs" / "tutorials" / "first_light.md"
NOTEBOOK = ROOT / "notebooks" / "first_light.ipynb"


def printed(notebook: Any) -> str:
    """All text that the cells of a notebook gave."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "\n".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


def images(notebook: Any) -> list[str]:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


@pytest.fixture(scope="module")
def stored() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_notebook_and_tutorial_are_the_same_text_and_code(stored: Any) -> None:
    source = read_source(SOURCE)
    wanted = [(cell.cell_type, cell.source) for cell in source.cells]
    found = [(cell.cell_type, cell.source) for cell in stored.cells]
    assert found == wanted, "run: python docs/notebook.py"


def test_tutorial_runs_from_scratch_and_all_roads_give_the_same_pixels(executed: Any) -> None:
    text = printed(nbformat.read(executed.notebook, as_version=4))
    assert "(True, True, True)" in text
    off = re.search(r"the fit is off by ([+-][\d.]+) of its standard errors", text)
    assert off is not None
    assert abs(float(off[1])) < 4


def test_stored_notebook_ran_to_its_end_and_shows_frame_scan_and_fit(stored: Any) -> None:
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(images(stored)) == 3


def test_stored_notebook_shows_no_warning_and_nothing_of_the_machine_that_ran_it(stored: Any) -> None:
    text = printed(stored)
    for unwanted in ("Warning", "Traceback", "site-packages", str(ROOT), str(Path.home()), "api_key"):
        assert unwanted not in text
    assert "'operator': 'Ada'" in text


def test_stored_notebook_is_small() -> None:
    assert NOTEBOOK.stat().st_size < 1_000_000


def test_readme_lines_run_after_the_demo(executed: Any) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert 'data_root="data"' in code
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=executed.folder,
        env=executed.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    plan, shape, result = done.stdout.splitlines()
    assert plan.startswith("angle_scan ")
    assert shape.startswith("(12, 960, 1280, 3) ")
    assert 0.3 < float(result.split()[0]) < 0.5
    assert (executed.folder / "fit.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", [0, 2], ids=["open_catalog", "filler"])
def test_apis_that_need_no_server_do_what_the_page_shows(executed: Any, number: int) -> None:
    page = (ROOT / "docs" / "how-to" / "which-api.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[number]
    name = ("dataset['lunchbox_image'].shape", "", "name")[number]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nprint({name})"],
        env=executed.environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == ("(12, 960, 1280, 3)", "", "stop")[number]
