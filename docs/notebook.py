"""Run the tutorial and store it, with what it prints and draws, as a notebook.

    python docs/notebook.py

The source is docs/tutorials/first_light.md; the result is notebooks/first_light.ipynb. Edit the source, never the
notebook. The run has a simulated bench, a data root and Tiled profiles of its own, in a folder that is removed.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent
SOURCE = DOCS / "tutorials" / "first_light.md"
NOTEBOOK = DOCS.parent / "notebooks" / "first_light.ipynb"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, help="angles of the scan, instead of the tutorial's")
    parser.add_argument("--output", type=Path, default=NOTEBOOK, help="the notebook to write")
    parser.add_argument("--data-root", type=Path, help="keep the data here")
    options = parser.parse_args()

    notebook = jupytext.read(SOURCE)
    if options.points is not None:
        (parameters,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
        parameters.source = f"points = {options.points}"
    with tempfile.TemporaryDirectory(prefix="lunchbox-") as folder:
        data_root = Path(folder, "data") if options.data_root is None else options.data_root.absolute()
        run(notebook, folder=Path(folder), data_root=data_root)
    stored(notebook)
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def run(notebook: Any, *, folder: Path, data_root: Path) -> None:
    """Execute all cells in a new kernel; the first error ends it."""
    profiles = folder / "config"
    os.environ["LUNCHBOX_DATA_ROOT"] = str(data_root)
    os.environ["XDG_CONFIG_HOME"] = str(profiles)  # where the tutorial's server writes its Tiled profile
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    # The kernel of this Python, whatever kernels are installed on this machine.
    kernel = folder / "share" / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    command = ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    os.environ["JUPYTER_PATH"] = str(folder / "share" / "jupyter")
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def stored(notebook: Any) -> None:
    """Leave out what changes from run to run and tells the reader nothing."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.pop("execution", None)
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"], "language_info": {"name": "python"}}


if __name__ == "__main__":
    main()
