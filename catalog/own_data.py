"""How Tiled reads what the catalogue itself keeps, and why it reads nothing else.

Tiled has a reader for many kinds of file, and compares a path with the folders that it may read from as a text: a link
and a `..` lead out. Here rows of events are read from the catalogue's own tables, large values from its own arrays,
frames by `catalog.adapter`; a file of any other kind is refused, whoever registered it.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from tiled.adapters.sql import SQLAdapter
from tiled.adapters.zarr import ZarrAdapter, ZarrArrayAdapter
from tiled.mimetypes import DEFAULT_ADAPTERS_BY_MIMETYPE, TILED_SQL_TABLE_MIMETYPE, ZARR_MIMETYPE
from tiled.ndslice import NDBlock, NDSlice
from tiled.utils import path_from_uri

from catalog.adapter import UNREADABLE, check_size

_BYTES_PER_CELL = 8


class Refused:
    """In the place of Tiled's readers of files."""

    @classmethod
    def from_catalog(cls, data_source: Any, node: Any, /, **parameters: Any) -> Any:
        raise HTTPException(
            UNREADABLE,
            f"DataNotAccessible: this server reads no {data_source.mimetype}.",
        )


def adapters(arrays: Path, *, byte_limit: int) -> dict[str, Any]:
    """media type -> adapter of a server whose large values are in the folder `arrays`; frames come beside."""

    class OwnArray(ZarrArrayAdapter):
        def read(self, slice: NDSlice = NDSlice(...)) -> Any:  # noqa: B008
            check_size(slice, self.structure(), byte_limit)
            return super().read(slice)

        def read_block(self, block: NDBlock, slice: NDSlice = NDSlice(...)) -> Any:  # noqa: B008
            check_size(block.slice_from_chunks(self.structure().chunks), self.structure(), byte_limit)
            return super().read_block(block, slice)

    class OwnArrays:
        init_storage = OwnArray.init_storage
        supported_storage = OwnArray.supported_storage

        @classmethod
        def from_catalog(cls, data_source: Any, node: Any, /, **parameters: Any) -> Any:
            for asset in data_source.assets:
                try:
                    inside = path_from_uri(asset.data_uri).resolve(strict=True).is_relative_to(arrays.resolve())
                except (OSError, ValueError, RuntimeError):
                    inside = False
                if not inside:
                    raise HTTPException(UNREADABLE, "DataNotAccessible: this array is not one of the catalogue's own.")
            found = ZarrAdapter.from_catalog(data_source, node, **parameters)
            if not isinstance(found, ZarrArrayAdapter):
                raise HTTPException(UNREADABLE, "DataNotAccessible: the catalogue keeps arrays, not groups of them.")
            return OwnArray(found._array, found.structure(), metadata=node.metadata_, specs=node.specs)

    class OwnTable(SQLAdapter):
        @classmethod
        def from_catalog(cls, data_source: Any, node: Any, /, **parameters: Any) -> Any:
            # Tiled puts these into its SQL as they are.
            names = [parameters["table_name"], *data_source.structure.columns]
            if not re.fullmatch(r"\w+", str(names[0]), re.ASCII) or any('"' in name for name in names):
                raise HTTPException(UNREADABLE, "DataNotAccessible: this table is not one of the catalogue's own.")
            data_source.parameters["dataset_id"] = int(parameters["dataset_id"])
            return super().from_catalog(data_source, node, **parameters)

        def _read_full_table_or_partition(self, fields: Any = None, partition: int | None = None) -> Any:
            columns = len(fields or self.structure().columns)
            most = byte_limit // (_BYTES_PER_CELL * max(1, columns))
            with closing(self.storage.connect()) as connection:
                with connection.cursor() as cursor:
                    # Stops counting at the limit: a table of any length is asked in the same time.
                    cursor.execute(
                        f'SELECT count(*) FROM (SELECT 1 FROM "{self.table_name}" '
                        f"WHERE _dataset_id={self.dataset_id} LIMIT {most + 1}) AS counted"
                    )
                    (count,) = cursor.fetchone()
                connection.commit()
            if count > most:
                raise HTTPException(400, f"The answer would have more than {byte_limit} bytes; ask for fewer columns.")
            return super()._read_full_table_or_partition(fields=fields, partition=partition)

    return {
        **dict.fromkeys(DEFAULT_ADAPTERS_BY_MIMETYPE, Refused),
        ZARR_MIMETYPE: OwnArrays,
        TILED_SQL_TABLE_MIMETYPE: OwnTable,
    }
