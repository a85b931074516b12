"""Whole runs into a catalogue's database, without a server: for `lunchbox rebuild`.

This module writes the tables that Tiled's server writes, by Tiled's own description of them (`tiled.catalog.orm`), as
Tiled's server would have filled them. They are no public interface of Tiled. So it works with the one version and the
one revision of the tables that it was compared with, and refuses every other: `lunchbox rebuild` then goes by a server.
`tests/catalog/test_bulk.py` makes the comparison, row by row.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from tiled.adapters.sql import SQLAdapter
from tiled.adapters.zarr import ZarrAdapter, ZarrArrayAdapter
from tiled.catalog import orm
from tiled.catalog.adapter import ZARR_MIMETYPE
from tiled.catalog.core import REQUIRED_REVISION
from tiled.catalog.utils import compute_structure_id
from tiled.server.connection_pool import json_serializer
from tiled.storage import FileStorage, acquire_storage, parse_storage, release_storage
from tiled.structures.array import ArrayStructure
from tiled.structures.core import StructureFamily
from tiled.structures.data_source import DataSource, Management
from tiled.structures.table import TableStructure
from tiled.utils import ensure_specified_sql_driver, path_from_uri

from catalog.blueprint import PlannedNode, PlannedSource
from catalog.contents import CATALOG_SPECS, PROCESSED_METADATA
from catalog.errors import LunchBoxError
from catalog.layout import PROCESSED

#: What this module was compared with.
TILED = "0.2.20"
REVISION = "917dbbcfc4b1"

_ROOT = 0  # id of the root node, in every catalogue


class BulkRefused(LunchBoxError, RuntimeError):
    """The tables are not those that the bulk path knows."""


class BulkWriter:
    """Writes planned runs; one transaction for each call.

    Parameters
    ----------
    catalog : URI of the database of nodes, as Tiled's configuration has it.
    tables : URI of the database of event rows.
    arrays : folder of arrays of events.
    """

    def __init__(self, *, catalog: str, tables: str, arrays: Path) -> None:
        self._runner = asyncio.Runner()
        self._engine = create_async_engine(ensure_specified_sql_driver(catalog), json_serializer=json_serializer)
        self._tables = acquire_storage(parse_storage(tables))
        self._arrays = FileStorage(arrays.as_uri())
        self._known_tables: set[str] = set()
        self._written = self._described = 0  # runs; of them, those that the planner of queries knows of

    def __enter__(self) -> BulkWriter:
        try:
            self._check()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._runner.run(self._engine.dispose())
        self._runner.close()
        release_storage(self._tables)

    def states(self) -> dict[str, str | None]:
        """Exit status of each run that is in the catalogue; None if it is there in part."""
        containers = select(orm.Node.id).where(orm.Node.parent == _ROOT, orm.Node.key == PROCESSED)
        state = orm.Node.metadata_[("stop", "exit_status")].as_string()
        query = select(orm.Node.key, state).where(orm.Node.parent.in_([_ROOT, containers.scalar_subquery()]))
        found = dict(self._run(lambda connection: connection.execute(query).tuples().all()))
        found.pop(PROCESSED, None)
        return found

    def write(self, runs: Sequence[PlannedNode]) -> None:
        """Put `runs` into the catalogue, in this order; all of them or, after an error, none."""
        # Rows first: what is left of an interruption is rows that no node names, and never a node without its rows.
        self._write_rows(runs)
        for run in runs:
            self._write_arrays(run, [*filter(None, [run.container]), run.key])
        self._run(lambda connection: _insert_runs(connection, runs))
        self._written += len(runs)
        # PostgreSQL would go on to check each foreign key as is best in an empty table, through all that there is.
        if self._engine.dialect.name == "postgresql" and self._written >= 2 * self._described:
            self._run(lambda connection: connection.execute(text("ANALYZE nodes")))
            self._described = self._written

    def _check(self) -> None:
        if (found := version("tiled")) != TILED:
            raise BulkRefused(f"the bulk path was compared with Tiled {TILED}; this is {found}.")
        query = text("SELECT version_num FROM alembic_version")
        revision = self._run(lambda connection: connection.execute(query).scalar())
        if not revision == REVISION == REQUIRED_REVISION:
            raise BulkRefused(f"the bulk path knows revision {REVISION} of Tiled's tables; these are {revision}.")

    def _run(self, function: Any) -> Any:
        async def run() -> Any:
            async with self._engine.begin() as connection:
                return await connection.run_sync(function)

        return self._runner.run(run())

    def _write_rows(self, runs: Iterable[PlannedNode]) -> None:
        nodes: dict[bytes, list[PlannedNode]] = defaultdict(list)
        for node in _all_nodes(runs):
            if node.rows is not None:
                assert node.source is not None
                nodes[node.source.structure].append(node)
        for group in nodes.values():
            self._write_table(group)

    def _write_table(self, nodes: list[PlannedNode]) -> None:
        """Rows of the nodes whose tables have one schema, and so are kept in one table of the database."""
        assert nodes[0].source is not None
        source = _data_source(nodes[0].source, TableStructure)
        table = SQLAdapter.get_table_name(source)
        first: list[int] = []
        if table not in self._known_tables:
            # Makes the table if it is missing, and counts one data set.
            first = [SQLAdapter.init_storage(self._tables, source).parameters["dataset_id"]]
            self._known_tables.add(table)
        with closing(self._tables.connect()) as connection:
            numbers = [*first, *self._numbers(connection, len(nodes) - len(first))]
            for number, node in zip(numbers, nodes, strict=True):
                assert node.source is not None
                node.source.parameters |= {"table_name": table, "dataset_id": number}
                node.source.assets = [_asset(self._tables.uri, is_directory=False)]
            with connection.cursor() as cursor:
                cursor.adbc_ingest(table, _stored([node.rows for node in nodes], numbers, source), mode="append")
            connection.commit()

    def _numbers(self, connection: Any, count: int) -> Iterable[int]:
        """`count` new numbers of data sets."""
        if not count:
            return []
        with connection.cursor() as cursor:
            if self._tables.dialect == "sqlite":
                cursor.execute(f"UPDATE _dataset_id_counter SET value = value + {count} RETURNING value")
                (last,) = cursor.fetchone()
                return range(last - count + 1, last + 1)
            cursor.execute(f"SELECT nextval('_dataset_id_counter') FROM generate_series(1, {count})")
            return [number for (number,) in cursor.fetchall()]

    def _write_arrays(self, node: PlannedNode, path: list[str]) -> None:
        for child in node.children:
            self._write_arrays(child, [*path, child.key])
        if node.array is None:
            return
        assert node.source is not None
        source = _data_source(node.source, ArrayStructure)
        # Left by an interruption: no node names it.
        shutil.rmtree(Path(path_from_uri(self._arrays.uri)).joinpath(*path), ignore_errors=True)
        stored = ZarrArrayAdapter.init_storage(self._arrays, source, path)
        ZarrAdapter.from_catalog(stored, orm.Node(metadata_={}, specs=[])).write(node.array)
        node.source.mimetype = ZARR_MIMETYPE
        node.source.assets = [_asset(asset.data_uri, is_directory=True) for asset in stored.assets]


def _stored(rows: Sequence[Any], numbers: Sequence[int], source: DataSource[Any]) -> Any:
    """Rows of the data sets of these numbers, as the database has them."""
    schema = source.structure.arrow_schema_decoded
    table = pyarrow.concat_tables([part.cast(schema) for part in rows])
    of_each = np.repeat(numbers, [len(part) for part in rows])
    for name, values, kind in (
        ("_partition_id", np.zeros(len(table)), pyarrow.int16()),
        ("_dataset_id", of_each, pyarrow.int32()),
    ):
        table = table.add_column(0, pyarrow.field(name, kind), [pyarrow.array(values, kind)])
    return table.rename_columns([name.lower() for name in table.column_names])


def _all_nodes(nodes: Iterable[PlannedNode]) -> Iterable[PlannedNode]:
    for node in nodes:
        yield node
        yield from _all_nodes(node.children)


def _asset(uri: str, *, is_directory: bool) -> dict[str, Any]:
    return {"data_uri": uri, "is_directory": is_directory, "parameter": "data_uri", "num": None, "size": None}


@lru_cache(maxsize=1024)
def _structure(text: bytes) -> tuple[str, dict[str, Any]]:
    """Id and contents of a structure; most runs have those of the run before."""
    structure = orjson.loads(text)
    return compute_structure_id(structure), structure


def _data_source(source: PlannedSource, structure: Any) -> DataSource[Any]:
    return DataSource(
        structure_family=StructureFamily(source.structure_family),
        structure=structure.from_json(_structure(source.structure)[1]),
        mimetype=source.mimetype,
        parameters=dict(source.parameters),
    )


def _insert_runs(connection: Connection, runs: Sequence[PlannedNode]) -> None:
    parents = {"": _ROOT, PROCESSED: _processed(connection)}
    level = [(parents[run.container], run) for run in runs]
    sources: list[tuple[int, PlannedSource]] = []
    while level:
        ids = _insert_nodes(connection, level)
        sources += [(id_, node.source) for id_, (_, node) in zip(ids, level, strict=True) if node.source is not None]
        level = [(id_, child) for id_, (_, node) in zip(ids, level, strict=True) for child in node.children]
    if sources:
        _insert_sources(connection, sources)


def _processed(connection: Connection) -> int:
    query = select(orm.Node.id).where(orm.Node.parent == _ROOT, orm.Node.key == PROCESSED)
    found = connection.execute(query).scalar()
    if found is not None:
        return int(found)
    node = PlannedNode(PROCESSED, "container", PROCESSED_METADATA, CATALOG_SPECS)
    return _insert_nodes(connection, [(_ROOT, node)])[0]


def _insert_nodes(connection: Connection, nodes: Sequence[tuple[int, PlannedNode]]) -> Sequence[int]:
    """Ids of the new nodes, in the order of `nodes`."""
    rows = [
        {
            "parent": parent,
            "key": node.key,
            "structure_family": StructureFamily(node.structure_family),
            "metadata": node.metadata,
            "specs": node.specs,
        }
        for parent, node in nodes
    ]
    table = orm.Node.__table__
    return _insert_numbered(connection, table, rows)


def _insert_sources(connection: Connection, sources: Sequence[tuple[int, PlannedSource]]) -> None:
    structures = dict(_structure(source.structure) for _, source in sources)
    known = _known(connection, orm.Structure.id, orm.Structure.id, list(structures))
    if new := [{"id": id_, "structure": structure} for id_, structure in structures.items() if id_ not in known]:
        connection.execute(insert(orm.Structure), new)
    rows = [
        {
            "node_id": node,
            "structure_id": _structure(source.structure)[0],
            "mimetype": source.mimetype,
            "parameters": source.parameters,
            "properties": source.properties,
            "management": Management(source.management),
            "structure_family": StructureFamily(source.structure_family),
        }
        for node, source in sources
    ]
    ids = _insert_numbered(connection, orm.DataSource.__table__, rows)
    assets = _insert_assets(connection, [asset for _, source in sources for asset in source.assets])
    connection.execute(
        insert(orm.DataSourceAssetAssociation),
        [
            {
                "data_source_id": id_,
                "asset_id": assets[asset["data_uri"]],
                "parameter": asset["parameter"],
                "num": asset["num"],
            }
            for id_, (_, source) in zip(ids, sources, strict=True)
            for asset in source.assets
        ],
    )


def _insert_assets(connection: Connection, assets: Iterable[dict[str, Any]]) -> dict[str, int]:
    """URI -> id; a file that two nodes are about is there once."""
    by_uri = {asset["data_uri"]: asset for asset in assets}
    known = _known(connection, orm.Asset.data_uri, orm.Asset.id, list(by_uri))
    rows = [
        {name: asset[name] for name in ("data_uri", "is_directory", "size")}
        for uri, asset in by_uri.items()
        if uri not in known
    ]
    ids = _insert_numbered(connection, orm.Asset.__table__, rows)
    return known | {row["data_uri"]: id_ for row, id_ in zip(rows, ids, strict=True)}


def _known(connection: Connection, column: Any, value: Any, keys: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for begin in range(0, len(keys), 500):  # SQLite takes no more than some thousand parameters
        query = select(column, value).where(column.in_(keys[begin : begin + 500]))
        found |= dict(connection.execute(query).tuples().all())
    return found


def _insert_numbered(connection: Connection, table: Any, rows: list[dict[str, Any]]) -> Sequence[int]:
    """Insert `rows` under ids that are chosen here, in their order: to be told them row by row is slow."""
    ids = _new_ids(connection, table, len(rows))
    if rows:
        connection.execute(insert(table), [{"id": id_, **row} for id_, row in zip(ids, rows, strict=True)])
    return ids


def _new_ids(connection: Connection, table: Any, count: int) -> Sequence[int]:
    if connection.dialect.name == "sqlite":
        # Nobody else writes: `lunchbox rebuild` fills a catalogue that no server knows yet.
        last = connection.execute(select(func.max(table.c.id))).scalar() or 0
        return range(last + 1, last + 1 + count)
    sequence = func.nextval(func.pg_get_serial_sequence(table.name, "id"))
    return connection.execute(select(sequence).select_from(func.generate_series(1, count))).scalars().all()
