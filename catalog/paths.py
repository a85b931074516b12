"""The only way from a path in a document to a file that is opened.

A document is data: its path may be wrong, moved, or hostile. `FrameRoots` maps a recorded root to where it is now
(`root_map`), follows every link, and gives back only a regular file inside a root.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

from catalog.errors import LunchBoxError
from catalog.layout import FRAMES_DIR

#: Below the data root: what `lunchbox relocate` moved. The configuration's `root_map` wins over it.
ROOT_MAP_FILE = "root_map.json"


class DataNotAccessible(LunchBoxError, OSError):
    """A file that documents name cannot be reached."""


def regular_file(path: str | os.PathLike[str]) -> Path:
    """`path` with every link followed; DataNotAccessible unless it is a regular file."""
    text = os.fspath(path)
    if "\0" in text:
        raise DataNotAccessible(f"{text!r} holds a NUL character; the document that names it is not to be trusted.")
    try:
        resolved = Path(text).resolve(strict=True)
        mode = resolved.stat().st_mode
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise DataNotAccessible(_why_missing(Path(text), error)) from error
    if not stat.S_ISREG(mode):
        raise DataNotAccessible(f"{text} is not a regular file, so no frames can be read from it.")
    return resolved


def _why_missing(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{path} may not be read by this user. Give it read permission (and search permission on its folders)."
    present = next((parent for parent in path.parents if parent.exists()), Path("/"))
    return (
        f"{path} is missing; the last folder of its path that exists is {present}. If the data moved, map its old "
        f"root to the new one with root_map in config/lunchbox.yml, e.g. root_map: {{{_example_root(path)}: NEW}}."
    )


def _example_root(path: Path) -> str:
    return next((str(parent) for parent in path.parents if parent.name == FRAMES_DIR), str(path.parent))


def stored_root_map(file: Path) -> dict[str, str]:
    """The root map that `lunchbox relocate` keeps in the data root, recorded root -> folder; {} if there is none."""
    try:
        root_map = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataNotAccessible(
            f"{file} cannot be read ({error}); restore it, or delete it and relocate again."
        ) from error
    if not isinstance(root_map, dict) or not all(isinstance(new, str) for new in root_map.values()):
        raise DataNotAccessible(
            f'{file} is not a mapping {{"OLD": "NEW"}}; restore it, or delete it and relocate again.'
        )
    return root_map


@dataclass(frozen=True)
class FrameRoots:
    """Folders that frames may be read from.

    allowed : folders that exist on this machine and hold frames.
    root_map : root as recorded in documents -> folder where it is now. Its values are allowed too.
    """

    allowed: tuple[Path, ...]
    root_map: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_settings(cls, settings: Any) -> FrameRoots:
        """Roots of a configuration that has `data_root` and `root_map`, and of the data root's own root map."""
        data_root = Path(settings.data_root).expanduser().absolute()
        root_map = {**stored_root_map(data_root / ROOT_MAP_FILE), **settings.root_map}
        return cls(
            allowed=(data_root / FRAMES_DIR,),
            root_map={str(old): str(Path(new).expanduser().absolute()) for old, new in root_map.items()},
        )

    def folders(self) -> tuple[Path, ...]:
        """Every folder that frames may be read from, links not followed."""
        return (*self.allowed, *(Path(new) for new in self.root_map.values()))

    def recorded_roots(self) -> tuple[str, ...]:
        """Every folder that a document may name: those that exist and those that were mapped away."""
        return (*(str(folder) for folder in self.folders()), *self.root_map)

    def resolve(self, root: str, resource_path: str) -> Path:
        """File that a resource document with this `root` and `resource_path` names."""
        # A leading slash would make os.path.join drop the root; in a resource it can only mean "below the root".
        relative = PurePosixPath(resource_path.lstrip("/"))
        if ".." in relative.parts:
            raise DataNotAccessible(f"resource_path {resource_path!r} leaves its root {root!r}; it is refused.")
        return self.contained(Path(root) / relative)

    def resolve_uri(self, uri: str) -> Path:
        """File that a `file://localhost/...` URI names."""
        parsed = urlparse(uri)
        if parsed.scheme != "file" or parsed.netloc not in {"", "localhost"}:
            raise DataNotAccessible(f"{uri!r} is not a file on this machine; read it through its server instead.")
        return self.contained(Path(unquote(parsed.path)))

    def contained(self, path: Path) -> Path:
        """`path`, its root mapped and its links followed; DataNotAccessible unless it lies in a root."""
        if ".." in path.parts:
            raise DataNotAccessible(f"{path} climbs out of its folder by '..'; it is refused.")
        resolved = regular_file(self.mapped(path))
        # Compare after links were followed: a link inside a root that points outside is outside.
        if not any(resolved.is_relative_to(folder.resolve()) for folder in self.folders()):
            roots = ", ".join(map(str, self.folders()))
            raise DataNotAccessible(
                f"{path} lies outside the folders that frames are read from ({roots}). "
                f"If it is yours, add its root to root_map in config/lunchbox.yml."
            )
        return resolved

    def mapped(self, path: Path) -> Path:
        """Where a recorded `path` is now."""
        # The longest recorded root wins, so that a folder inside a mapped one can have a place of its own.
        for old in sorted(self.root_map, key=len, reverse=True):
            if path.is_relative_to(old):
                return Path(self.root_map[old]) / path.relative_to(old)
        return path
