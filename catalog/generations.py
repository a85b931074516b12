"""The catalogues of one data root, one after the other: `lunchbox rebuild` makes a new one beside the one that is read.

A new one becomes current by the replacement of one small file. A server goes on with the one that it began with, and
holds a lock on it, so that it is not removed under it.
"""

from __future__ import annotations

import fcntl
import shutil
from dataclasses import replace
from typing import IO

from catalog.disk import fsync_folder
from catalog.store import CatalogStore, write_private

_IN_USE = "in-use.lock"


def hold(store: CatalogStore) -> tuple[CatalogStore, IO[str]]:
    """The generation that is current now, and what keeps it from being removed until it is closed."""
    while True:
        pinned = store.pinned()
        pinned.index.mkdir(parents=True, exist_ok=True)
        lock = (pinned.index / _IN_USE).open("a")
        fcntl.flock(lock, fcntl.LOCK_SH)
        # It may have been replaced, and removed, before it was held.
        if store.pinned() == pinned:
            return pinned, lock
        lock.close()


def begin_next(store: CatalogStore) -> CatalogStore:
    """The generation after the current one: a new one, or one that was begun and not finished."""
    number = 1 + _number(store.pinned().generation)
    return replace(store, generation=f"index-{number}")


def make_current(new: CatalogStore) -> None:
    """From now on, `new` is what is opened."""
    write_private(new.pointer, f"{new.generation}\n")
    fsync_folder(new.directory)


def remove_unused(store: CatalogStore) -> list[str]:
    """Remove what was current before, and nobody uses any more; gives back what a server still reads."""
    current = store.pinned().generation
    earlier = ["", *(path.name for path in store.directory.glob("index-*"))]
    used = []
    for generation in earlier:
        if _number(generation) < _number(current) and not _remove(replace(store, generation=generation)):
            used.append(generation or "the first one")
    return used


def _remove(old: CatalogStore) -> bool:
    if not old.database.exists():
        return True
    with (old.index / _IN_USE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if old.generation:
            shutil.rmtree(old.index)
            return True
        # The first one shares its folder with what all have in common.
        shutil.rmtree(old.arrays, ignore_errors=True)
        for path in old.index.glob("*.db*"):
            path.unlink()
    return True


def _number(generation: str | None) -> int:
    return int(generation.rpartition("-")[2]) if generation else 0
