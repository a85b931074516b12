"""Checks of what is kept: disk, clock, journals, catalogue, and the frames of the last run."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.errors import LunchBoxError
from lunchbox.finding import Finding, Findings

if TYPE_CHECKING:
    from catalog.journal_files import JournalEntry
    from config import LunchBoxSettings

POINTS = 46
#: Before this no LunchBox was written: a clock that says so was never set.
_EPOCH = 1_735_689_600.0  # 2025-01-01


def disk(settings: LunchBoxSettings) -> Findings:
    """Whether a scan can be written, and how many of them fit."""
    root = settings.data_root
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        yield Finding(
            "disk",
            "broken",
            f"{existing} cannot be written",
            "set data_root (LUNCHBOX_DATA_ROOT) to a folder that can, or change who may write it",
        )
        return
    width, height = settings.acquisition.camera.width, settings.acquisition.camera.height
    if width is None or height is None:
        width, height = settings.bench.width, settings.bench.height
    scan = POINTS * 2 * width * height * 3
    free = shutil.disk_usage(existing).free
    said = f"{free / 1e9:.1f} GB free in {existing}: {free // scan} scans of {POINTS} points of {width} x {height}"
    remedy = "free some space, or set data_root to another disk"
    if free < scan:
        yield Finding("disk", "broken", said, remedy)
    else:
        yield Finding("disk", "warning" if free < 5 * scan else "ok", said, remedy if free < 5 * scan else "")


def clock(settings: LunchBoxSettings, *, now: float | None = None) -> Findings:
    """Runs are sorted by their time: a clock that was never set, or that goes back, mixes them up."""
    now = time.time() if now is None else now
    journals = _journals(settings)
    remedy = "set the clock: sudo timedatectl set-ntp true (a Raspberry Pi without network has no clock of its own)"
    said = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    if now < _EPOCH:
        yield Finding("clock", "broken", f"it is {said}, it says", remedy)
    elif journals and (last := journals[-1].path.stat().st_mtime) > now + 60:
        then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last))
        yield Finding("clock", "broken", f"it is {said}, it says, but the last run was written on {then}", remedy)
    else:
        yield Finding("clock", "ok", said)


def catalogue(settings: LunchBoxSettings) -> Findings:
    """Whether the index can be opened, and which journals are not in it."""
    from catalog.store import CatalogStore

    if importlib.util.find_spec("tiled") is None:
        yield Finding(
            "catalogue",
            "warning",
            "tiled is not installed: this machine records, and cannot list or fit",
            "pip install 'lunchbox[catalog]'",
        )
        return
    from catalog.keys import without_password

    store = CatalogStore.of(settings)
    if uri := store.databases.get("catalog"):
        said = f"{without_password(uri)}, not looked into; {len(_journals(settings))} journals"
        yield Finding("catalogue", "ok", said)
        return
    if not store.database.exists():
        yield Finding("catalogue", "ok", f"none yet in {store.directory}; it is made when it is first opened")
        return
    for database in (store.database, store.tables):
        if fault := _fault_of(database):
            yield Finding(
                "catalogue",
                "broken",
                f"{database}: {fault}",
                f"stop `lunchbox serve`, and move {store.directory} away: it is built again from the journals",
            )
            return
    yield Finding("catalogue", "ok", f"{store.directory}, of {len(_journals(settings))} journals")


def quarantine(settings: LunchBoxSettings) -> Findings:
    """Journals that could not be taken in, each with the reason."""
    from catalog.quarantine import Quarantine
    from catalog.store import CatalogStore

    try:
        notes = Quarantine(CatalogStore.of(settings).quarantine).notes()
    except ValueError as error:
        yield Finding("quarantine", "warning", f"a note cannot be read ({error})", "open the catalogue again")
        return
    there = [note for note in notes if Path(note["journal"]).exists()]
    for note in there:
        yield Finding(
            "quarantine",
            "broken",
            f"{note['journal']} is not in the catalogue: {note['reason']}",
            "mend that line or restore the file, then open the catalogue again; other runs are not affected",
        )
    if not there:
        yield Finding("quarantine", "ok", "no journal is in quarantine")


def last_frames(settings: LunchBoxSettings) -> Findings:
    """Whether the frames of the last run can be read where its documents say that they are."""
    from catalog.handlers import handler_for
    from catalog.journal_files import read_journal
    from catalog.paths import FrameRoots

    journals = _journals(settings)
    if not journals:
        yield Finding("frames", "ok", "no run yet")
        return
    entry, roots = journals[-1], FrameRoots.from_settings(settings)
    try:
        resources = [document for name, document in read_journal(entry.path) if name == "resource"]
        for resource in resources:
            path = roots.resolve(resource["root"], resource["resource_path"])
            reader = handler_for(resource["spec"])(path, **resource["resource_kwargs"])
            if len(reader.shape) and reader.shape[0]:
                reader(frame=0)
    except LunchBoxError as error:
        yield Finding("frames", "broken", f"run {entry.uid[:8]}: {error}", "see docs/how-to/move-data.md")
    else:
        yield Finding("frames", "ok", f"run {entry.uid[:8]}, the last, can be read")


def _journals(settings: LunchBoxSettings) -> list[JournalEntry]:
    from catalog import layout
    from catalog.journal_files import list_journals

    return list_journals(settings.data_root / layout.JOURNAL_DIR)


def _fault_of(database: Path) -> str:
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        connection.close()
    except sqlite3.Error as error:
        return str(error)
    return "" if verdict == "ok" else str(verdict)
