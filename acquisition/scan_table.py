"""What a terminal shows of a scan: a line per event, and a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from bluesky.callbacks import LiveTable
from tqdm import tqdm

Document = Mapping[str, Any]
_FIELDS = ("lunchbox_servo", "lunchbox_peak", "lunchbox_laser")


class ScanTable:
    """A subscriber that prints one line per event of `primary`, under a progress bar where there is a terminal."""

    def __init__(self) -> None:
        self._table: LiveTable | None = None
        self._bar: tqdm[Any] | None = None
        self._primary = ""

    def __call__(self, name: str, document: Document) -> None:
        getattr(self, f"_{name}", lambda _: None)(document)

    def _start(self, document: Document) -> None:
        if sys.stderr.isatty():
            self._bar = tqdm(total=document.get("num_points"), unit="point", leave=False, dynamic_ncols=True)
        self._table = LiveTable(list(_FIELDS), default_prec=2, out=lambda line: tqdm.write(str(line)))
        self._table("start", document)

    def _descriptor(self, document: Document) -> None:
        if document["name"] == "primary":
            self._primary = document["uid"]
        if self._table is not None:
            self._table("descriptor", document)

    def _event(self, document: Document) -> None:
        if self._table is not None:
            self._table("event", document)
        if self._bar is not None and document["descriptor"] == self._primary:
            self._bar.update()

    def _stop(self, document: Document) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._table is not None:
            self._table("stop", document)
        self._table = self._bar = None
