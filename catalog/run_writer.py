"""TiledWriter for one run, that writes when it is told and not at every document."""

from __future__ import annotations

from typing import Any

from bluesky_tiled_plugins import TiledWriter
from event_model import Filler

from catalog.consolidator import FrameNormalizer, spec_to_mimetype

# Never reached: what has come is written by `flush`, and by the stop document.
_BATCH = 1_000_000


class _NoFiller(Filler):
    """Fills nothing and keeps nothing: RunRouter's own would keep every datum of a run, which may be very long."""

    def datum_page(self, doc: Any) -> Any:
        return doc

    def event_page(self, doc: Any) -> Any:
        return doc


class RunWriter:
    """Writes a run below `container`.

    Events and frames are collected until `flush`: one event costs three requests, and so do a thousand that were
    waiting. A run that is behind catches up in one step.
    """

    def __init__(self, container: Any, *, normalizer: type[FrameNormalizer] = FrameNormalizer) -> None:
        self._inner: Any = None

        class Introducing(normalizer):  # type: ignore[valid-type,misc]
            """Tells which of TiledWriter's parts it is that keeps what was collected."""

            def subscribe(introducing, func: Any, name: str = "all") -> Any:  # noqa: N805
                self._inner = func
                return super().subscribe(func, name)

        # No array in a table, however small: SQLite has no column for it.
        self._writer = TiledWriter(
            container,
            normalizer=Introducing,
            spec_to_mimetype=spec_to_mimetype(),
            batch_size=_BATCH,
            max_array_size=0,
        )
        self._writer._run_router.filler_class = _NoFiller

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        self._writer(name, doc)

    def flush(self) -> None:
        """Write what was collected: rows first, then the frames that they name, as TiledWriter does at the stop."""
        inner = self._inner
        for name, rows in inner._internal_data_cache.items():
            if rows:
                inner._write_internal_data(rows, desc_node=inner._desc_nodes[name])
                rows.clear()
        for stream_datum in inner._external_data_cache.values():
            inner._write_external_data(stream_datum)
        inner._external_data_cache.clear()
