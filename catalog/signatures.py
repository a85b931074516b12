"""FastAPI's look at the signatures of a request's dependencies: once, instead of at each request.

While an application overrides any dependency, and Tiled's always does, FastAPI takes the signature of each dependency
of each request apart again: two thirds of the time of a small answer.
"""

from __future__ import annotations

from functools import lru_cache, wraps
from typing import Any

from fastapi.dependencies import utils

_MOST = 4096


def read_signatures_once() -> None:
    """Have FastAPI remember what it found; for every application of this process, as none changes a signature."""
    if not hasattr(utils.get_dependant, "__wrapped__"):
        utils.get_dependant = _remembering(utils.get_dependant)


def _remembering(get_dependant: Any) -> Any:
    @lru_cache(_MOST)
    def remembered(own: tuple[str, ...] | None, parent: tuple[str, ...] | None, **others: Any) -> Any:
        return get_dependant(
            own_oauth_scopes=None if own is None else list(own),
            parent_oauth_scopes=None if parent is None else list(parent),
            **others,
        )

    @wraps(get_dependant)
    def get_dependant_once(
        *, own_oauth_scopes: list[str] | None = None, parent_oauth_scopes: list[str] | None = None, **others: Any
    ) -> Any:
        own = None if own_oauth_scopes is None else tuple(own_oauth_scopes)
        parent = None if parent_oauth_scopes is None else tuple(parent_oauth_scopes)
        return remembered(own, parent, **others)

    return get_dependant_once
