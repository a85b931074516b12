"""TiledWriter for one run, that writes when it is told and not at every document."""

from __future__ import annotations

from typing import Any

from bluesky_tiled_plugins import TiledWriter

from catalog.consolidator import FrameNormalizer, spec_to_mimetype

# Never reached: what has come is written by `flush`, and by the stop document.
_BATCH = 1_000_000


class RunWriter:
    """Writes a run below `container`.

    Events and frames are collected until `flush`: one event costs three requests, and so do a thousand that were
    waiting. A run that is behind catches up in one step.
    """

    def __init__(self, container: Any, *, normalizer: type[FrameNormalizer] = FrameNormalizer) -> None:
        writer = TiledWriter(
            container,
            normalizer=normalizer,
            spec_to_mimetype=spec_to_mimetype(),
            batch_size=_BATCH,
            # No array in a table, however small: SQLite has no column for it.
            max_array_size=0,
        )
        # What TiledWriter makes for each run. Its router, which tells runs apart, would turn every event into a page
        # and back, and keep every datum of a run, which may be very long.
        (self._normalizer,), _ = writer._factory("start", {})

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        getattr(self._normalizer, name)(doc)

    def flush(self) -> None:
        """Write what was collected: rows first, then the frames that they name, as TiledWriter does at the stop."""
        inner = self._normalizer.run_writer
        for name, rows in inner._internal_data_cache.items():
            if rows:
                inner._write_internal_data(rows, desc_node=inner._desc_nodes[name])
                rows.clear()
        for stream_datum in inner._external_data_cache.values():
            inner._write_external_data(stream_datum)
        inner._external_data_cache.clear()
