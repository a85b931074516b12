"""Routes of our own on the Tiled server: runs by scan_id or by the beginning of their uid, and which are whole.

Tiled's search reads the metadata of every run for the first, and gives them a page at a time for the second.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Security
from sqlalchemy import text
from tiled.server.authentication import (
    check_scopes,
    get_current_access_tags,
    get_current_principal,
    get_current_scopes,
    get_session_state,
)
from tiled.server.dependencies import get_entry, get_root_tree

from catalog.indexes import run_of_scan_id, runs_between, states_of_runs

router = APIRouter()

_BEYOND = "\N{LATIN SMALL LETTER Z}"  # sorts behind every character of a uid


async def container(
    request: Request,
    path: str,
    principal: Any = Depends(get_current_principal),
    authn_access_tags: Any = Depends(get_current_access_tags),
    authn_scopes: Any = Depends(get_current_scopes),
    root_tree: Any = Depends(get_root_tree),
    session_state: dict[str, Any] = Depends(get_session_state),
    _: Any = Security(check_scopes, scopes=["read:metadata"]),
) -> Any:
    """The container `path`, if all of it may be read."""
    entry = await get_entry(
        path,
        ["read:metadata"],
        principal,
        authn_access_tags,
        authn_scopes,
        root_tree,
        session_state,
        request.state.metrics,
        None,
        getattr(request.app.state, "access_policy", None),
    )
    if getattr(entry, "context", None) is None or entry.conditions or entry.access_filters:
        # Only a search knows what this client may see.
        raise HTTPException(404, "This container has no index of runs; search it.")
    return entry


@router.get("/runs/{path:path}")
async def find_runs(
    entry: Any = Depends(container),
    beginning: str | None = Query(None, pattern="^[0-9a-f-]{1,36}$"),
    scan_id: int | None = Query(None, ge=0, lt=2**63),
    limit: int = Query(4, ge=1, le=100),
) -> dict[str, list[str]]:
    """uids of runs in the container `path`: the newest with `scan_id`, or some with the `beginning`."""
    dialect = entry.context.engine.dialect.name
    parameters: dict[str, Any] = {"parent": entry.node.id}
    if scan_id is not None:
        statement = run_of_scan_id(dialect)
        parameters["scan_id"] = scan_id
    elif beginning is not None:
        statement = runs_between(dialect)
        parameters |= {"first": beginning, "last": beginning + _BEYOND, "limit": limit}
    else:
        raise HTTPException(400, "Ask for a scan_id or for the beginning of a uid.")
    async with entry.context.session() as session:
        return {"uids": list((await session.execute(text(statement), parameters)).scalars())}


@router.get("/states/{path:path}")
async def states(
    entry: Any = Depends(container), after: int = Query(-1, ge=-1), limit: int = Query(10_000, ge=1, le=50_000)
) -> dict[str, Any]:
    """[uid, exit_status or null] of runs in the container `path`; `next` is the `after` of the next page, or null."""
    statement = states_of_runs(entry.context.engine.dialect.name)
    parameters = {"parent": entry.node.id, "after": after, "limit": limit}
    async with entry.context.session() as session:
        rows = (await session.execute(text(statement), parameters)).all()
    return {"runs": [[uid, state] for _, uid, state in rows], "next": rows[-1][0] if len(rows) == limit else None}
