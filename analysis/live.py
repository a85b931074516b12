"""The fit of a scan while it runs, from its documents: needs no catalogue, and reads each frame once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration, Lens, calibrate
from analysis.design import next_angle
from analysis.errors import AnalysisError, BadScan
from analysis.fit import fit_spots
from analysis.fitted import GratingFit
from analysis.scan import Scan
from analysis.spots import Spot, find_spots
from catalog.handlers import handler_for
from catalog.journal_files import list_journals, read_journal
from catalog.paths import FrameRoots
from catalog.setup import Setup

Document = Mapping[str, Any]


class FrameReader:
    """Frames by the id of their datum: feed it a run's documents as they come."""

    def __init__(self, roots: FrameRoots) -> None:
        self._roots = roots
        self._handlers: dict[str, Any] = {}
        self._datums: dict[str, Document] = {}

    def __call__(self, name: str, document: Document) -> None:
        if name == "resource":
            path = self._roots.resolve(document["root"], document["resource_path"])
            self._handlers[document["uid"]] = handler_for(document["spec"])(path, **document["resource_kwargs"])
        elif name == "datum":
            self._datums[document["datum_id"]] = document

    def read(self, datum_id: str) -> NDArray[Any]:
        """Shape (n_y, n_x, channel), counts."""
        datum = self._datums[datum_id]
        return np.asarray(self._handlers[datum["resource"]](**datum["datum_kwargs"]))


class LiveFit:
    """A subscriber that fits the scan anew after each of its events.

    Parameters
    ----------
    roots : FrameRoots, where frames may be read from
    journal : Path, folder of the journals, where the run of the target (`calibration_uid`) is looked up

    Attributes
    ----------
    fit : GratingFit of what there is so far; None while there is none
    why : str, why there is none
    """

    def __init__(self, roots: FrameRoots, journal: Path) -> None:
        self._roots, self._journal = roots, journal
        self._clear()

    def _clear(self) -> None:
        self.fit: GratingFit | None = None
        self.why = "no frame yet"
        self._spots: list[tuple[Spot, ...]] = []
        self._angles: list[float] = []
        self._pairs: list[tuple[str, str]] = []
        self._primary = ""

    def __call__(self, name: str, document: Document) -> None:
        if name == "start":
            self._clear()
            self._reader = FrameReader(self._roots)
            self._setup = Setup(**document.get("setup", {}))
            self._lens = Lens(**document["lens"]) if document.get("lens") else None
            self._calibration = self._calibration_of(document.get("calibration_uid"))
        elif name == "descriptor" and document["name"] == "primary":
            self._primary = document["uid"]
        elif name == "event" and document["descriptor"] == self._primary:
            self._add(document["data"])
        else:
            self._reader(name, document)

    @property
    def taken(self) -> int:
        """How many angles there are so far."""
        return len(self._angles)

    def next_angle(self, angles: Sequence[float] | NDArray[np.float64]) -> float:
        """Of the servo angles (deg), the one that would make lambda/d best known.

        Raises
        ------
        BadScan
            There is no fit yet that could tell.
        """
        if self.fit is None:
            raise BadScan(
                f"after {len(self._angles)} angles there is no fit that could choose the next one: {self.why}. "
                "Record a uniform scan instead, and look at its frames"
            )
        return next_angle(self.fit, angles)

    def _add(self, data: Document) -> None:
        pair = (data["lunchbox_image"], data["lunchbox_background"])
        image, background = map(self._reader.read, pair)
        self._pairs.append(pair)
        self._angles.append(float(data["lunchbox_servo"]))
        self._spots.append(find_spots(image, background))
        scan = Scan(
            images=_Read(self._reader, [image for image, _ in self._pairs]),
            backgrounds=_Read(self._reader, [background for _, background in self._pairs]),
            angles=self._angles,
            setup=self._setup,
            calibration=self._calibration,
            lens=self._lens,
        )
        try:
            self.fit = fit_spots(scan, list(self._spots), (image.shape[0], image.shape[1]))
        except AnalysisError as error:
            self.fit, self.why = None, str(error)

    def _calibration_of(self, uid: str | None) -> Calibration | None:
        if not uid:
            return None
        reader = FrameReader(self._roots)
        path = next(entry.path for entry in list_journals(self._journal) if entry.uid == uid)
        for name, document in read_journal(path):
            if name == "event" and "lunchbox_image" in document["data"]:
                return calibrate(reader.read(document["data"]["lunchbox_image"]), self._setup, lens=self._lens)
            reader(name, document)
        return None


class _Read(Sequence[NDArray[Any]]):
    """Frames of datums, each read when it is asked for."""

    def __init__(self, reader: FrameReader, datum_ids: list[str]) -> None:
        self._reader, self._datum_ids = reader, datum_ids

    def __len__(self) -> int:
        return len(self._datum_ids)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._reader.read(datum_id) for datum_id in self._datum_ids[index]]
        return self._reader.read(self._datum_ids[index])
