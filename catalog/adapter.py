"""How Tiled reads frames: a data source of our media type, delegated to the handler registry."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

from fastapi import HTTPException
from tiled.adapters.core import Adapter
from tiled.ndslice import NDBlock, NDSlice
from tiled.structures.array import ArrayStructure
from tiled.structures.core import StructureFamily

from catalog.frames import FrameSequence
from catalog.handlers import FrameIntegrityError
from catalog.paths import DataNotAccessible, FrameRoots

_ALL = NDSlice(...)

#: Status of an answer whose file is missing or damaged; the client does not try again.
UNREADABLE = 422


class FrameAdapter(Adapter[ArrayStructure]):
    """Frames of a stream, (n, y, x, channel). Made for a server by `frame_adapter`."""

    structure_family = StructureFamily.array
    roots: ClassVar[FrameRoots]
    byte_limit: ClassVar[int]
    journals: ClassVar[Path]

    def __init__(self, frames: FrameSequence, structure: ArrayStructure, **kwargs: Any) -> None:
        super().__init__(structure, **kwargs)
        self._frames = frames

    @classmethod
    def from_catalog(cls, data_source: Any, node: Any, /, **parameters: Any) -> FrameAdapter:
        structure = data_source.structure
        frames = FrameSequence.from_parameters(
            [asset.data_uri for asset in sorted(data_source.assets, key=lambda asset: asset.num)],
            spec=parameters["spec"],
            resource_kwargs=parameters["resource_kwargs"],
            segments=parameters["segments"],
            roots=cls.roots,
            frame_shape=tuple(structure.shape[1:]),
            dtype=structure.data_type.to_numpy_dtype(),
        )
        return cls(frames, structure, metadata=node.metadata_, specs=node.specs)

    @property
    def dims(self) -> tuple[str, ...] | None:
        return self._structure.dims

    def read(self, slice: NDSlice = _ALL) -> Any:
        key = check_size(slice, self._structure, self.byte_limit)
        try:
            return self._frames.read(tuple(key))
        except (DataNotAccessible, FrameIntegrityError) as error:
            raise HTTPException(UNREADABLE, f"{type(error).__name__}: {error}") from error

    def read_block(self, block: NDBlock, slice: NDSlice = _ALL) -> Any:
        frames = self.read(block.slice_from_chunks(self._structure.chunks))
        return frames[tuple(slice)] if slice else frames


def check_size(slice: NDSlice, structure: ArrayStructure, byte_limit: int) -> NDSlice:
    """`slice` with an entry for each axis; 400 if what it takes of an array has more than `byte_limit` bytes."""
    key = slice.expand_for_shape(structure.shape) if slice else NDSlice()
    shape = key.shape_after_slice(structure.shape) if key else structure.shape
    # Before anything is read: Tiled compares with its limit when the memory is spent.
    if math.prod(shape) * structure.data_type.to_numpy_dtype().itemsize > byte_limit:
        raise HTTPException(400, f"The answer would have more than {byte_limit} bytes; ask for a slice.")
    return key


def frame_adapter(roots: FrameRoots, *, byte_limit: int, journals: Path) -> type[FrameAdapter]:
    """The adapter of a server that reads from `roots`, and whose runs are in `journals`."""
    return type("LunchBoxAdapter", (FrameAdapter,), {"roots": roots, "byte_limit": byte_limit, "journals": journals})
