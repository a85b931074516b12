"""databroker's tree of a MongoDB, with LunchBox's handlers: for a Tiled server beside an existing installation.

In Tiled's configuration::

    trees:
      - path: /
        tree: catalog.mongo:from_uri
        args:
          uri: mongodb://localhost:27017/lunchbox
          frames: [/data/lunchbox/frames]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catalog.handlers import handler_registry, use_handlers
from catalog.paths import FrameRoots


def from_uri(
    uri: str,
    *,
    frames: Sequence[str],
    root_map: Mapping[str, str] | None = None,
    handlers: Mapping[str, str] | None = None,
) -> Any:
    """databroker's MongoAdapter on the database of `uri`.

    Parameters
    ----------
    frames : folders that files may be read from.
    root_map : recorded root -> where it is now, as in LunchBox's configuration.
    handlers : spec -> "package.module:Class", as in LunchBox's configuration.
    """
    from databroker.mongo_normalized import MongoAdapter

    return MongoAdapter.from_uri(uri, handler_registry=_registry(frames, root_map, handlers))


def in_memory(
    *, frames: Sequence[str], root_map: Mapping[str, str] | None = None, handlers: Mapping[str, str] | None = None
) -> Any:
    """The same on mongomock, which forgets: to try a configuration."""
    from databroker.mongo_normalized import MongoAdapter

    return MongoAdapter.from_mongomock(handler_registry=_registry(frames, root_map, handlers))


def _registry(
    frames: Sequence[str], root_map: Mapping[str, str] | None, handlers: Mapping[str, str] | None
) -> dict[str, Any]:
    use_handlers(handlers or {})
    return handler_registry(FrameRoots(allowed=tuple(map(Path, frames)), root_map=dict(root_map or {})))
