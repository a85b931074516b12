"""One stage's frames: the file that they are in, and the documents that refer to it. No ophyd here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from event_model import compose_resource

from acquisition.camera import Exposure
from acquisition.frame_file import Background, FrameFile, new_frame_path
from acquisition.settings import FileSettings
from catalog import layout
from catalog.errors import LunchBoxError
from catalog.handlers import LunchBoxHDF5Handler
from catalog.setup import Setup

Document = tuple[str, dict[str, Any]]


class ContractError(LunchBoxError, RuntimeError):
    """What was declared, what was written and what reads back differ: the run would not be readable."""


def fields_of(background: Background) -> dict[str, str]:
    """Those of `layout.FIELDS` that a run with such backgrounds has."""
    return {
        key: dataset for key, dataset in layout.FIELDS.items() if background != "none" or dataset != layout.BACKGROUND
    }


class Recording:
    """A new frame file and its resources, one for each of `fields`.

    Parameters
    ----------
    frames_dir
        Root of the resources; the file goes into a date folder below it.
    shape
        (y, x, channel) of every frame, as it is declared to the readers.
    setup
        Recorded in the file.
    background, points
        See `acquisition.frame_file.FrameFile`. With one background for all images, every event names that one.

    Raises
    ------
    catalog.errors.DataRootError
        The file cannot be made, or has no room for `points`.
    """

    def __init__(
        self,
        frames_dir: Path,
        *,
        shape: tuple[int, int, int],
        setup: Setup,
        files: FileSettings,
        background: Background = "each",
        points: int = 0,
    ) -> None:
        self.shape = shape
        #: {data key: its dataset}
        self.fields = fields_of(background)
        #: {data key: datum id} of the last pair
        self.datum_ids: dict[str, str] = {}
        path = new_frame_path(frames_dir)
        self._file = FrameFile(
            path,
            shape=shape,
            setup=setup,
            background=background,
            points=points,
            compression=files.compression,
            checksum=files.checksum,
            fsync=files.fsync,
        )
        self._resources = {
            key: compose_resource(
                spec=layout.SPEC,
                root=str(frames_dir),
                resource_path=path.relative_to(frames_dir).as_posix(),
                resource_kwargs={"dataset": dataset, "chunk_shape": [1, *shape]},
            )
            for key, dataset in self.fields.items()
        }
        self._unsent_resources = dict(self._resources)
        self._unsent_datums: dict[str, dict[str, Any]] = {}

    def append(self, image: Exposure, background: Exposure | None = None, *, servo: float) -> None:
        """Write an image, and the background if one was taken for it.

        When this returns, another process can read them, and `collect` has the documents about them.

        Raises
        ------
        ContractError
            A frame is not what was declared, or the first pair does not read back as it was sent.
        catalog.errors.DataRootError
            The disk refused it.
        """
        taken = {"lunchbox_image": image} | ({} if background is None else {"lunchbox_background": background})
        for exposure in taken.values():
            self._check(exposure)
        index = self._file.append(image, background, servo=servo)
        if index == 0:
            self._read_back(taken)
        # They are on disk; only now may documents name them. An image that nobody read is not named.
        frames = {"lunchbox_image": index, "lunchbox_background": self._file.n_backgrounds - 1}
        for key in taken:
            datum = self._resources[key].compose_datum(datum_kwargs={"frame": frames[key]}, validate=False)
            self._unsent_datums[key] = datum
            self.datum_ids[key] = datum["datum_id"]

    def collect(self) -> Iterator[Document]:
        """Documents about the last pair, each once; a resource comes before its first datum."""
        datums, self._unsent_datums = self._unsent_datums, {}
        for key, datum in datums.items():
            if resource := self._unsent_resources.pop(key, None):
                document = dict(resource.resource_doc)
                document.pop("run_start", None)  # the RunEngine fills it
                yield "resource", document
            yield "datum", datum

    def shortage(self) -> str:
        """As `acquisition.frame_file.FrameFile` has it."""
        return self._file.shortage()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()

    def _check(self, exposure: Exposure) -> None:
        if exposure.data.shape != self.shape or exposure.data.dtype != np.uint8:
            raise ContractError(
                f"the camera gave a frame of shape {exposure.data.shape}, {exposure.data.dtype}, and {self.shape}, "
                "uint8 was declared. Something changed its size after it was opened; stage again."
            )

    def _read_back(self, taken: Mapping[str, Exposure]) -> None:
        for key, exposure in taken.items():
            found = LunchBoxHDF5Handler(self._file.path, dataset=layout.FIELDS[key])(frame=0)
            if not np.array_equal(exposure.data, found):
                raise ContractError(f"{self._file.path}: {key}, frame 0: the pixels that read back are not those sent.")
