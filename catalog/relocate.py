"""Frames that move: copied and compared, or found copied and read through; then one line in the root map.

`survey` only looks. `relocate` does it: first every file, then the map, which is replaced at once. Whatever goes wrong
before that, the catalogue reads the old files as it did.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from catalog.disk import fsync_folder, written_whole
from catalog.errors import LunchBoxError
from catalog.handlers import handler_for
from catalog.journal_files import list_journals, read_journal
from catalog.layout import FRAMES_DIR, JOURNAL_DIR, date_folder
from catalog.paths import ROOT_MAP_FILE, FrameRoots, stored_root_map
from catalog.recovery import has_writer
from catalog.store import write_private


class CannotRelocate(LunchBoxError, ValueError):
    """A folder of frames that cannot move: it is in use, or its files are not all there, or not the same."""


@dataclass(frozen=True)
class Survey:
    """What would move.

    to_copy : files that are in the old folder only.
    to_compare : files that are in both.
    to_read : files that are in the new folder only.
    missing : files that are in neither.
    """

    old: Path
    new: Path
    to_copy: list[PurePosixPath] = field(default_factory=list)
    to_compare: list[PurePosixPath] = field(default_factory=list)
    to_read: list[PurePosixPath] = field(default_factory=list)
    missing: list[PurePosixPath] = field(default_factory=list)
    resources: dict[PurePosixPath, list[dict[str, Any]]] = field(default_factory=dict)
    bytes_to_copy: int = 0

    def __len__(self) -> int:
        return len(self.resources)


def survey(settings: Any, old: Path, new: Path) -> Survey:
    """What the documents of `settings.data_root` name in the folder `old`, and where it is now.

    CannotRelocate if new frames are written to `old`, or none of its files is known.
    """
    if not old.is_absolute():
        raise CannotRelocate(f"{old} is not the whole path of a folder; write it as the documents have it.")
    new = new.expanduser().absolute()
    if new == old or new.is_relative_to(old) or old.is_relative_to(new):
        raise CannotRelocate(f"{new} and {old} are one inside the other; choose a folder elsewhere.")
    data_root = Path(settings.data_root).expanduser().absolute()
    if (data_root / FRAMES_DIR / date_folder(time.time())).is_relative_to(old):
        raise CannotRelocate(
            f"{old} is where new frames are written. Relocate a part of it that is finished, like "
            f"{data_root / FRAMES_DIR}/2025, or give new frames another data_root first."
        )
    if str(old) in {str(mapped) for mapped in settings.root_map}:
        raise CannotRelocate(f"root_map in the configuration maps {old} already, and wins; change it there.")
    roots = FrameRoots.from_settings(settings)
    now = roots.mapped(old)  # relocated before, perhaps
    found: dict[PurePosixPath, list[dict[str, Any]]] = {}
    for path, resource in _resources(data_root):
        file = Path(resource["root"]) / resource["resource_path"].lstrip("/")
        if ".." in file.parts or not file.is_relative_to(old):
            continue
        if roots.mapped(file) != now / file.relative_to(old):
            continue  # a folder inside has a place of its own
        if has_writer(path):
            raise CannotRelocate(f"a run that is in progress writes to {file}; wait for its end.")
        found.setdefault(PurePosixPath(file.relative_to(old)), []).append(resource)
    if not found:
        raise CannotRelocate(f"no document in {data_root / JOURNAL_DIR} names a file in {old}.")
    result = Survey(now, new, resources=found)
    size = 0
    for name in sorted(found):
        is_old, is_new = (now / name).is_file(), (new / name).is_file()
        place = (result.missing, result.to_read, result.to_copy, result.to_compare)[2 * is_old + is_new]
        place.append(name)
        size += (now / name).stat().st_size if is_old and not is_new else 0
    return Survey(**{**vars(result), "bytes_to_copy": size})


def relocate(
    settings: Any, old: Path, new: Path, *, on_file: Callable[[PurePosixPath], object] = lambda _: None
) -> int:
    """Bring the files that documents name in `old` to `new`, prove each, and map `old` to `new`.

    The old files are left as they are. Gives back the number of files; CannotRelocate, and nothing is mapped, if one is
    missing or is not what it was.
    """
    found = survey(settings, old, new)
    if found.missing:
        names = ", ".join(map(str, found.missing[:3]))
        raise CannotRelocate(
            f"{len(found.missing)} of {len(found)} files are neither in {found.old} nor in {found.new}: {names}. "
            f"Copy them there first; nothing was changed."
        )
    for name in found.to_copy:
        _copy(found.old / name, found.new / name)
        on_file(name)
    inside = FrameRoots(allowed=(found.new,))
    for name in found.to_compare:
        if _digest(found.old / name) != _digest(inside.contained(found.new / name)):
            raise CannotRelocate(
                f"{found.new / name} differs from {found.old / name}. Remove the wrong one; nothing was changed."
            )
        on_file(name)
    for name in found.to_read:
        _read_through(inside.contained(found.new / name), found.resources[name])
        on_file(name)
    file = Path(settings.data_root).expanduser().absolute() / ROOT_MAP_FILE
    write_private(file, json.dumps({**stored_root_map(file), str(old): str(found.new)}, indent=1) + "\n")
    fsync_folder(file.parent)
    return len(found)


def _resources(data_root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for entry in list_journals(data_root / JOURNAL_DIR):
        for name, doc in read_journal(entry.path):
            if name == "resource":
                yield entry.path, doc


def _copy(source: Path, target: Path) -> None:
    """A copy that is there whole or not at all, and is what the source is."""
    with written_whole(target) as temporary:
        shutil.copy2(source, temporary)
        if _digest(source) != _digest(temporary):
            raise CannotRelocate(f"the copy of {source} differs from it: is the disk of {target.parent} failing?")


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _read_through(path: Path, resources: list[dict[str, Any]]) -> None:
    """Read every frame, whose checksums tell whether it is what was written."""
    for resource in resources:
        handler = handler_for(resource["spec"])(path, **resource["resource_kwargs"])
        for frame in range(handler.shape[0] if hasattr(handler, "shape") else 0):
            handler(frame=frame)
