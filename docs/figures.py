"""Make the pictures of the README and of the pages, and show in the README what the demo printed.

    python docs/figures.py

Runs `lunchbox demo` in a folder that is removed, and writes docs/images/frame.png, fit.png and budget.svg, what
docs/explanation.py makes, and the part of README.md between `<!-- demo -->` and `<!-- end -->`. The simulated bench has
its default seed: `make demo` gives the same numbers.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import explanation
import h5py
import numpy as np
from matplotlib.figure import Figure

from analysis import GratingFit, fit_grating, load_scan
from catalog import open_catalog
from config import load_settings

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
README = DOCS.parent / "README.md"
IMAGE = "/entry/data/image"
SERVO = "/entry/data/servo"


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        data_root = Path(folder, "data")
        command = [str(Path(sys.executable).with_name("lunchbox")), "demo", "--data-root", str(data_root)]
        demo = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        (figure,) = data_root.glob("figures/*.png")
        shutil.copyfile(figure, IMAGES / "fit.png")
        (scan,) = (path for path in data_root.glob("frames/*/*/*/*.h5") if _points(path) > 1)
        draw_frame(scan, IMAGES / "frame.png")
        explanation.draw_budget(fit_of(data_root))
    explanation.main()
    quote(demo.stdout.replace(folder, "..."))


def fit_of(data_root: Path) -> GratingFit:
    """The fit of the last scan of a data root."""
    with contextlib.closing(open_catalog(settings=load_settings(data_root=data_root))) as catalog:
        return fit_grating(load_scan(catalog[-1].start["uid"], catalog))


def _points(path: Path) -> int:
    with h5py.File(path) as file:
        return len(file[IMAGE])


def draw_frame(path: Path, picture: Path, *, angle: float = 15.0) -> None:
    """The frame nearest to `angle` (deg), as the camera saw it but brighter, its empty rows cut off."""
    with h5py.File(path) as file:
        index = int(np.argmin(np.abs(file[SERVO][:] - angle)))
        frame, servo = file[IMAGE][index], file[SERVO][index]
    rows, _ = np.unravel_index(np.argsort(frame[..., 0].ravel())[-200:], frame.shape[:2])
    middle = int(np.median(rows))
    top, bottom = max(0, middle - 150), min(len(frame), middle + 150)
    figure = Figure(figsize=(9, 2.9), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow((frame[top:bottom] / 255) ** 0.5, extent=(-0.5, frame.shape[1] - 0.5, bottom - 0.5, top - 0.5))
    axes.set(xlabel="x (px)", ylabel="y (px)")
    axes.set_title(f"Frame {index + 1}, servo at {servo:.2f}°, brightened", loc="left", fontsize=10)
    figure.savefig(picture)


def quote(printed: str) -> None:
    """What the demo printed, without the middle of its tables, between the marks in the README."""
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    rows = [i for i, line in enumerate(lines) if re.match(r"\|\s+\d", line)]
    lines[rows[2] : rows[-1]] = ["|       ... |"]
    parameters = next(i for i, line in enumerate(lines) if line.startswith("parameter "))
    end = next(i for i, line in enumerate(lines) if line.startswith("figure "))
    lines[parameters + 3 : end] = ["..."]
    readme = README.read_text(encoding="utf-8")
    block = "<!-- demo -->\n\n```console\n$ make demo\n" + "\n".join(lines) + "\n```\n\n<!-- end -->"
    README.write_text(
        re.sub(r"<!-- demo -->.*?<!-- end -->", lambda _: block, readme, flags=re.DOTALL), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
