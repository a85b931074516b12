"""Sphinx: `make docs`."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

DOCS = Path(__file__).parent

project = "LunchBox"
author = "the LunchBox authors"
release = importlib.metadata.version("lunchbox")

extensions = ["myst_nb"]
# The tutorial is shown as the notebook that was made from it.
shutil.copy(DOCS.parent / "notebooks" / "first_light.ipynb", DOCS / "tutorials")
exclude_patterns = ["_build", "tutorials/first_light.md"]
nb_execution_mode = "off"  # docs/notebook.py has run it; a build of the pages starts no bench
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = "LunchBox"
html_copy_source = False
html_show_copyright = False
