"""Serializers: what makes the web page that comes with Tiled show our data right, and keeps an answer in bounds."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tiled.utils import safe_json_dump

from catalog.journal_files import file_name, read_journal
from catalog.layout import MIMETYPE, date_folder
from catalog.recorded import start_of


def table_rows(mimetype: str, table: Any, metadata: Any) -> Iterator[bytes]:
    """A table as one JSON object a line; the page cannot parse the separators of RFC 7464 that Tiled puts first."""
    for row in table.to_dict(orient="records"):
        yield safe_json_dump(row) + b"\n"


def png(mimetype: str, array: Any, metadata: Any) -> bytes:
    """A frame as it is; Tiled would stretch the noise of a dark one over the full range."""
    from PIL import Image
    from tiled.utils import UnsupportedShape

    pixels = np.squeeze(np.asarray(array))
    if pixels.ndim not in {2, 3} or (pixels.ndim == 3 and pixels.shape[-1] not in {3, 4}):
        raise UnsupportedShape(array.shape)
    if pixels.dtype != np.uint8:
        low, high = (float(limit) for limit in (np.nanmin(pixels), np.nanmax(pixels)))
        pixels = ((pixels - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


async def run_documents(mimetype: str, node: Any, metadata: Any, filter_for_access: Any) -> Any:
    """The documents of a run as they were emitted: resources, datums and all."""
    from tiled.utils import SerializationError

    await filter_for_access(node)
    journal = _journal_of(node, metadata)
    if journal is None:
        raise SerializationError("the journal of this run is not on this machine")
    return _lines(journal)


def _journal_of(node: Any, metadata: Any) -> Path | None:
    start = metadata.get("start", {})
    # Not from the metadata alone, which a writer may have made up: the journal says itself which run it is of.
    if not isinstance(start.get("time"), float | int) or not re.fullmatch(r"[\w-]+", str(start.get("uid"))):
        return None
    directory: Path = node.context.adapters_by_mimetype[MIMETYPE].journals
    path = directory / date_folder(start["time"]) / file_name(start)
    return path if path.is_file() and start_of(path) == start else None


def _lines(journal: Path) -> Iterator[bytes]:
    for name, doc in read_journal(journal):
        yield json.dumps({"name": name, "doc": doc}).encode() + b"\n"


async def run_hdf5(mimetype: str, node: Any, metadata: Any, filter_for_access: Any) -> Any:
    """A run, or a part of it, as HDF5."""
    from tiled.serialization.container import serialize_hdf5

    await _check_size(node, filter_for_access)
    return await serialize_hdf5(mimetype, node, metadata, filter_for_access)


async def run_json(mimetype: str, node: Any, metadata: Any, filter_for_access: Any) -> Any:
    """The metadata of a run, or of a part of it, as JSON."""
    from tiled.serialization.container import serialize_json

    await _check_size(node, filter_for_access, of_data=False)
    return await serialize_json(mimetype, node, metadata, filter_for_access)


async def _check_size(node: Any, filter_for_access: Any, *, of_data: bool = True) -> None:
    """Answer 400, before anything is read, if what is asked for has more bytes than an answer may have."""
    from fastapi import HTTPException
    from tiled.serialization.container import walk

    if "CatalogOfBlueskyRuns" in {spec.name for spec in node.specs}:
        raise HTTPException(400, "A catalogue of runs has no end; ask for one run.")
    byte_limit, size = node.context.adapters_by_mimetype[MIMETYPE].byte_limit, 0
    if of_data:
        async for _, part in walk(node, filter_for_access):
            if part.structure_family == "array":
                structure = part.structure()
                size += math.prod(structure.shape) * structure.data_type.to_numpy_dtype().itemsize
            if size > byte_limit:
                raise HTTPException(400, f"The answer would have more than {byte_limit} bytes; ask for a part of it.")
