"""An archive that `catalog.pack` made, taken into another data root: proved first, whole or not at all, repeatable."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from catalog.disk import fsync_folder, written_whole
from catalog.errors import LunchBoxError
from catalog.journal_files import file_name
from catalog.journal_lines import decode
from catalog.layout import FRAMES_DIR, JOURNAL_DIR, RAW_RUN_UID, date_folder
from catalog.pack import BLOCK, MANIFEST, TAG_MANIFEST, TAGS, BadPack
from catalog.paths import ROOT_MAP_FILE, FrameRoots, stored_root_map
from catalog.scan_id import scan_id_counter
from catalog.store import write_private
from catalog.validation import RunValidator


@dataclass(frozen=True)
class TakenIn:
    """What an import did: uids of the runs that came, and of those that were there already."""

    imported: list[str]
    present: list[str]


def take_in(settings: Any, path: Path) -> TakenIn:
    """Bring the runs of an archive into `settings.data_root`; BadPack, and nothing is written, if it is not as packed.

    Documents stay as they are: the root that they name is mapped to the frames of this data root.
    """
    data_root = Path(settings.data_root).expanduser().absolute()
    try:
        with path.open("rb") as raw, zipfile.ZipFile(raw) as archive:
            bag = _Bag(archive, path)
            return _write(bag, bag.runs(), settings, data_root)
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != str(path):
            raise
        raise BadPack(f"{path} cannot be read: {error.strerror}.") from error
    except (zipfile.BadZipFile, EOFError, UnicodeDecodeError, NotImplementedError, zipfile.LargeZipFile) as error:
        raise BadPack(f"{path} is no archive that lunchbox made, or it was altered: {error}.") from error


class _Bag:
    """An archive, proved when it is made."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        self._archive = archive
        self._path = path
        self._members = self._checked_members()
        self.sums = self._verified()
        self.roots = self._recorded_roots()

    def open(self, member: str) -> IO[bytes]:
        return self._archive.open(self._members[member])

    def runs(self) -> list[tuple[str, list[tuple[str, dict[str, Any]]]]]:
        """(member, documents) of each run, the scan before its fits."""
        found = []
        for member in self.sums:
            if not member.startswith(f"data/{JOURNAL_DIR}/"):
                continue
            lines = list(self.open(member))
            found.append((member, list(_documents(lines, f"{self._path}: {member}"))))
        return sorted(found, key=lambda run: RAW_RUN_UID in run[1][0][1])

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in self._archive.infolist():
            top, _, name = info.filename.partition("/")
            kind = stat.S_IFMT(info.external_attr >> 16)
            parts = PurePosixPath(name).parts
            is_safe = (
                re.fullmatch(r"lunchbox-[0-9a-zA-Z-]+", top)
                and name == "/".join(parts)
                and ".." not in parts
                and not re.search(r"[\\\0:]", name)
                and (name in (*TAGS, TAG_MANIFEST) or re.match(rf"data/({JOURNAL_DIR}|{FRAMES_DIR})/", name))
                and kind in {0, stat.S_IFREG}
                and not info.flag_bits & 0x1  # encrypted
                and info.compress_type == zipfile.ZIP_STORED
                and info.file_size == info.compress_size
            )
            if not is_safe or name in members:
                raise BadPack(f"{self._path} holds {info.filename!r}, which no archive of lunchbox has; it is refused.")
            members[name] = info
        missing = [tag for tag in (*TAGS, TAG_MANIFEST) if tag not in members]
        if missing:
            raise BadPack(f"{self._path} is no archive that lunchbox made: {missing[0]} is missing.")
        return members

    def _verified(self) -> dict[str, str]:
        sums = self._sums(MANIFEST)
        named = {**self._sums(TAG_MANIFEST), **sums}
        wrong = set(named) ^ (set(self._members) - {TAG_MANIFEST})
        for member, digest in named.items():
            if member in wrong:
                continue
            with self.open(member) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                    wrong.add(member)
        if wrong:
            raise BadPack(f"{self._path} was altered or is not complete: {sorted(wrong)[0]}. Nothing was imported.")
        return sums

    def _sums(self, tag: str) -> dict[str, str]:
        lines = self._archive.read(self._members[tag]).decode().splitlines()
        pairs = [line.split("  ", 1) for line in lines]
        if not all(len(pair) == 2 for pair in pairs):
            raise BadPack(f"{self._path} was altered: {tag} is no list of checksums.")
        return {member: digest for digest, member in pairs}

    def _recorded_roots(self) -> list[str]:
        info = self._archive.read(self._members["bag-info.txt"]).decode()
        found = re.search(r"^LunchBox-Roots: (.*)$", info, re.MULTILINE)
        roots = json.loads(found[1]) if found else []
        return [str(root) for root in roots]


def _documents(lines: list[bytes], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    validator = RunValidator()
    name = ""
    try:
        for number, line in enumerate(lines, start=1):
            name, doc = decode(line, where=f"{where}, line {number}")
            validator.accepts(name, doc)
            yield name, doc
    except LunchBoxError as error:
        raise BadPack(f"{where}: {error}") from error
    if name != "stop":
        raise BadPack(f"{where}: the run has no end.")


def _write(bag: _Bag, runs: list[Any], settings: Any, data_root: Path) -> TakenIn:
    root_map = _mapping(bag, settings, data_root)
    known_roots = FrameRoots.from_settings(settings)
    roots = FrameRoots(allowed=known_roots.allowed, root_map={**root_map, **known_roots.root_map})
    places: dict[str, Path] = {}
    for member, docs in runs:
        start = docs[0][1]
        if not re.fullmatch(r"[\w-]+", start["uid"]):
            raise BadPack(f"{member}: {start['uid']!r} cannot be the uid of a run.")
        places[member] = data_root / JOURNAL_DIR / date_folder(start["time"]) / file_name(start)
        for name, doc in docs:
            if name == "resource":
                frames, target = _place(bag, doc, roots)
                places[frames] = target
    unnamed = set(bag.sums) - set(places)
    if unnamed:
        raise BadPack(f"no document names {sorted(unnamed)[0]}; the archive is refused.")
    new = {member: place for member, place in places.items() if not _is_there(bag, member, place)}
    # Frames first: a journal never names a file that is not there.
    for member in sorted(new, key=lambda member: member.startswith(f"data/{JOURNAL_DIR}/")):
        if member.startswith(f"data/{FRAMES_DIR}/"):
            _put(bag, member, new[member])
    stored = data_root / ROOT_MAP_FILE
    known = stored_root_map(stored)
    if root_map.keys() - known.keys():
        write_private(stored, json.dumps({**known, **root_map}, indent=1) + "\n")
        fsync_folder(data_root)
    for member, _ in runs:
        if member in new:
            _put(bag, member, new[member])
    scan_ids = [docs[0][1].get("scan_id") for _, docs in runs]
    with scan_id_counter(data_root / JOURNAL_DIR) as counter:
        counter.raise_to(max((number for number in scan_ids if isinstance(number, int)), default=0))
    uids = {member: docs[0][1]["uid"] for member, docs in runs}
    return TakenIn(
        imported=[uid for member, uid in uids.items() if member in new],
        present=[uid for member, uid in uids.items() if member not in new],
    )


def _mapping(bag: _Bag, settings: Any, data_root: Path) -> dict[str, str]:
    """Recorded roots that this data root does not know yet -> its frames."""
    roots = FrameRoots.from_settings(settings)
    frames = data_root / FRAMES_DIR
    new: dict[str, str] = {}
    for root in bag.roots:
        recorded = Path(root)
        if recorded == frames or root in roots.root_map:
            continue
        others = [frames, *map(Path, roots.root_map)]
        inside_of = [other for other in others if recorded.is_relative_to(other) or other.is_relative_to(recorded)]
        if not recorded.is_absolute() or ".." in recorded.parts or "\0" in root or inside_of:
            raise BadPack(
                f"the archive's frames were recorded in {root!r}, which "
                f"{'overlaps with ' + str(inside_of[0]) if inside_of else 'is no whole path'}; map it by hand with "
                f"root_map in config/lunchbox.yml."
            )
        new[root] = str(frames)
    return new


def _place(bag: _Bag, resource: dict[str, Any], roots: FrameRoots) -> tuple[str, Path]:
    """Member of the archive that holds a resource's file, and where it goes."""
    relative = PurePosixPath(resource["resource_path"].lstrip("/"))
    if resource["root"] not in bag.roots or ".." in relative.parts:
        raise BadPack(f"resource {resource['uid']} is outside the folders that the archive tells of; it is refused.")
    member = f"data/{FRAMES_DIR}/{bag.roots.index(resource['root'])}/{relative}"
    if member not in bag.sums:
        raise BadPack(f"the archive lacks {member}, which resource {resource['uid']} names; it is refused.")
    target = roots.mapped(Path(resource["root"]) / relative)
    folder = next((one for one in roots.folders() if target.is_relative_to(one)), None)
    # A link in the way would lead out.
    if folder is None or not target.parent.resolve().is_relative_to(folder.resolve()):
        raise BadPack(f"{target} is outside the folders that frames are read from; it is not written.")
    return member, target


def _is_there(bag: _Bag, member: str, place: Path) -> bool:
    if not os.path.lexists(place):
        return False
    if place.is_file() and not place.is_symlink():
        with place.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == bag.sums[member]:
                return True
    raise BadPack(f"{place} is there, with other contents than {member} of the archive. Nothing was imported.")


def _put(bag: _Bag, member: str, place: Path) -> None:
    """Write a member, whole or not at all."""
    with written_whole(place) as temporary, bag.open(member) as source, temporary.open("xb") as target:
        while block := source.read(BLOCK):
            target.write(block)
