"""The contract between the one who writes data and the one who reads it, and the catalogue that stands on it.

`layout`, `paths`, `handlers`, `journal`, `setup` and `errors` load no Tiled; `ingest`, `adapter`, `server` and
`client` do, and are imported only when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from catalog.client import open_catalog as open_catalog

__all__ = ["open_catalog"]


def __getattr__(name: str) -> Any:
    # `import catalog` must stay light: a Raspberry Pi that only scans has no Tiled.
    if name == "open_catalog":
        from catalog.client import open_catalog

        return open_catalog
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
