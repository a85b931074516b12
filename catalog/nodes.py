"""Nodes looked up by one question to the database for each, which is written once.

Tiled looks up each part of a path by three questions, four for the last, and puts each of them together anew: half of
the time of a small answer. Nothing is kept between requests: each sees what is in the database.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from sqlalchemy import bindparam, select
from sqlalchemy.orm import joinedload
from tiled.catalog import orm
from tiled.catalog.adapter import STRUCTURES, CatalogArrayAdapter, CatalogContainerAdapter
from tiled.server import schemas
from tiled.structures.core import StructureFamily

# Each with all that Tiled reads together with it.
_CHILD = (
    select(orm.Node)
    .where(orm.Node.parent == bindparam("parent"), orm.Node.key == bindparam("key"))
    .options(
        joinedload(orm.Node.data_sources).joinedload(orm.DataSource.structure),
        joinedload(orm.Node.access_tags),
    )
)
_SOURCES = (
    select(orm.DataSource)
    .where(orm.DataSource.node_id == bindparam("node"))
    .options(
        joinedload(orm.DataSource.structure),
        joinedload(orm.DataSource.asset_associations).joinedload(orm.DataSourceAssetAssociation.asset),
    )
)

#: Classes of what Tiled answers: pydantic forgets one that nobody holds, and would make it again for each answer.
ANSWERS = (
    schemas.Resource[schemas.NodeAttributes, schemas.ContainerLinks, schemas.ContainerMeta],
    *(
        schemas.Resource[schemas.NodeAttributes, links, schemas.EmptyDict]
        for links in schemas.resource_links_type_by_structure_family.values()
    ),
)


class Container(CatalogContainerAdapter):
    """Tiled's container of a catalogue; what is below it is found as Tiled would find it."""

    async def lookup_adapter(self, segments: list[str]) -> Any:
        if len(segments) == 1 and not self.conditions and not self.access_filters:
            async with self.context.session() as session:
                found = await session.execute(_CHILD, {"parent": self.node.id, "key": segments[0]})
            if (node := found.unique().scalar_one_or_none()) is not None:
                return _FAMILIES[node.structure_family](self.context, node)
        # Below conditions, inside a file, or not there.
        return await super().lookup_adapter(segments)


class Array(CatalogArrayAdapter):
    """Tiled's array of a catalogue, with its files."""

    async def data_sources(self, include_assets: bool = False) -> list[Any]:
        if not include_assets:
            return list(await super().data_sources())
        async with self.context.session() as session:
            found = await session.execute(_SOURCES, {"node": self.node.id})
        return [schemas.DataSource.from_orm(source, include_assets=True) for source in found.unique().scalars()]


_FAMILIES = {**STRUCTURES, StructureFamily.container: Container, StructureFamily.array: Array}


def look_nodes_up_at_once(app: FastAPI) -> None:
    """Have the requests of `app` begin at a `Container`."""
    tree = app.state.root_tree
    app.state.root_tree = Container(tree.context, tree.node)
