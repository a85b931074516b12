"""What TiledWriter would make of a whole run: its nodes and the rows of its tables, without a server.

TiledWriter's own code decides all of it. Here is only the client that it believes to write to, which keeps what it is
given. `catalog.bulk` puts it into a database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from tiled.client.container import Container
from tiled.client.utils import normalize_specs
from tiled.structures.data_source import DataSource
from tiled.utils import safe_json_dump

from catalog.consolidator import FrameNormalizer
from catalog.errors import LunchBoxError
from catalog.layout import PROCESSED, RAW_RUN_UID
from catalog.run_writer import RunWriter
from catalog.validation import RunValidator

#: Documents of which RunNormalizer makes several.
_KEPT = frozenset({"resource", "stream_resource"})


class Unplannable(LunchBoxError, NotImplementedError):
    """A run that only a server can take in."""


@dataclass
class PlannedSource:
    """A data source as the database keeps it."""

    mimetype: str | None
    structure_family: str
    management: str
    parameters: dict[str, Any]
    properties: dict[str, Any]
    structure: bytes  # JSON
    assets: list[dict[str, Any]]


@dataclass
class PlannedNode:
    """A node, what is below it, and the table or array that a server would store for it."""

    key: str
    structure_family: str
    metadata: dict[str, Any]
    specs: list[dict[str, Any]]
    children: list[PlannedNode] = field(default_factory=list)
    source: PlannedSource | None = None
    rows: Any = None
    array: Any = None

    @property
    def container(self) -> str:
        """Key of the container that a run belongs to; "" is the root."""
        return PROCESSED if RAW_RUN_UID in self.metadata["start"] else ""


def plan_run(uid: str, docs: Iterable[tuple[str, dict[str, Any]]]) -> PlannedNode:
    """The run of a finished journal.

    Raises
    ------
    BadDocument
        The documents do not make the run `uid`.
    Unplannable
        They do, and it needs what is not planned here. Other errors are TiledWriter's.
    """
    root = _Client(None, {"id": ""})
    writer = RunWriter(root, normalizer=_PlanningNormalizer)
    validator = RunValidator(uid)
    for name, doc in docs:
        if validator.accepts(name, doc):
            writer(name, doc if name in _KEPT else _Ours(doc))
    if not validator.stopped:
        raise Unplannable(f"run {uid} has no stop document.")
    (run,) = root.children
    return run.planned()


class _PlanningNormalizer(FrameNormalizer):
    """Neither validates what it made of valid documents, nor tells a server how a data source grew."""

    def emit(self, name: Any, doc: Any) -> None:
        getattr(self.run_writer, name.name)(doc)

    def subscribe(self, func: Any, name: Any = "all") -> Any:
        func._update_data_source_for_node = _update_data_source
        self.run_writer = func


def _update_data_source(node: _Client, data_source: DataSource[Any], patch: Any = None) -> None:
    node.data_source = data_source


class _Ours(dict[str, Any]):
    """A document that nobody else has: it may be changed, and RunNormalizer's copy of it is itself."""

    def __deepcopy__(self, memo: Any) -> _Ours:
        return self


class _Client:
    """As much of a Tiled client as TiledWriter uses."""

    # What Tiled's client makes of its arguments, before it sends it.
    _SUGGESTED_MAX_UPLOAD_SIZE = Container._SUGGESTED_MAX_UPLOAD_SIZE
    write_array = Container.write_array
    create_container = Container.create_container
    create_appendable_table = Container.create_appendable_table

    def __init__(self, data_source: Any, item: dict[str, Any]) -> None:
        self.data_source = data_source
        self.item = item
        self.children: list[_Client] = []
        self.metadata: dict[str, Any] = item.get("metadata", {})
        self._rows: list[Any] = []
        self._array: Any = None

    @property
    def base(self) -> _Client:
        return self

    @property
    def uri(self) -> str:
        return str(id(self))

    def include_data_sources(self) -> _Client:
        return self

    def new(
        self,
        structure_family: Any,
        data_sources: list[DataSource[Any]],
        *,
        key: str,
        metadata: Any = None,
        specs: Any = None,
        access_tags: Any = None,
    ) -> _Client:
        if access_tags:
            raise Unplannable(f"{key} has access tags.")
        item = {
            "id": key,
            "structure_family": str(getattr(structure_family, "value", structure_family)),
            "metadata": orjson.loads(safe_json_dump(metadata or {})),
            "specs": normalize_specs(specs or []),
        }
        child = _Client(data_sources[0] if data_sources else None, item)
        self.children.append(child)
        return child

    def update_metadata(self, *, metadata: dict[str, Any], drop_revision: bool) -> None:
        self.metadata.update(orjson.loads(safe_json_dump(metadata)))

    def append_partition(self, partition: int, table: Any) -> None:
        self._rows.append(table)

    def write(self, array: Any) -> None:
        self._array = array

    def write_block(self, *args: Any, **kwargs: Any) -> None:
        raise Unplannable(f"{self.item['id']} is too large for one block.")

    def write_ragged(self, *args: Any, key: str, **kwargs: Any) -> None:
        raise Unplannable(f"{key} has rows of different lengths.")

    def patch(self, *args: Any, **kwargs: Any) -> None:
        raise Unplannable(f"{self.item['id']} is written in parts.")

    def close_stream(self) -> None:
        pass

    def planned(self) -> PlannedNode:
        import pyarrow

        return PlannedNode(
            key=self.item["id"],
            structure_family=self.item["structure_family"],
            metadata=self.metadata,
            specs=self.item["specs"],
            children=[child.planned() for child in self.children],
            source=None if self.data_source is None else _planned_source(self.data_source),
            rows=pyarrow.concat_tables(self._rows) if self._rows else None,
            array=self._array,
        )


def _planned_source(source: DataSource[Any]) -> PlannedSource:
    return PlannedSource(
        mimetype=source.mimetype,
        structure_family=source.structure_family.value,
        management=source.management.value,
        parameters=orjson.loads(safe_json_dump(source.parameters)),
        properties=source.properties,
        structure=safe_json_dump(source.structure),
        assets=[dict(vars(asset)) for asset in source.assets],
    )
