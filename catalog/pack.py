"""A run to take along: one archive of its documents, its frames, its fits and its calibration, with checksums.

The archive is a bag (RFC 8493) in a zip file that compresses nothing, so other tools can check it too::

    lunchbox-3f2a91c2/
        bagit.txt, bag-info.txt
        manifest-sha256.txt         of each file below data/
        tagmanifest-sha256.txt      of the three above
        data/journal/YYYY/MM/DD/*.jsonl
        data/frames/<number of the root>/<resource_path>

`catalog.unpack` takes it in elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

from catalog.errors import LunchBoxError
from catalog.journal_files import file_name
from catalog.layout import FRAMES_DIR, JOURNAL_DIR, date_folder
from catalog.recorded import RecordedRun

MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
TAGS = ("bagit.txt", "bag-info.txt", MANIFEST)
BLOCK = 1 << 20


class BadPack(LunchBoxError, ValueError):
    """An archive that was altered, is not complete, or would write where it must not."""


def to_pack(run: RecordedRun, fits: Sequence[RecordedRun], folder: Path) -> list[Path]:
    """One archive; gives back its path. The calibration comes along if the journal beside has it."""
    name = f"lunchbox-{run.uid[:8]}"
    path = folder / f"{name}.zip"
    runs = [*_calibration_of(run), run, *fits]
    if any(one.stop is None for one in runs):
        raise BadPack(f"run {run.uid[:8]} is in progress; pack it when it has ended.")
    roots = sorted({resource["root"] for one in runs for resource in one.resources.values()})
    sums: dict[str, str] = {}
    with path.open("xb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED) as archive:
        for one in runs:
            member = f"data/{JOURNAL_DIR}/{date_folder(one.start['time'])}/{file_name(one.start)}"
            _add_file(archive, name, member, one.journal, sums)
            for uid, file in one.files().items():
                resource = one.resources[uid]
                relative = resource["resource_path"].lstrip("/")
                member = f"data/{FRAMES_DIR}/{roots.index(resource['root'])}/{relative}"
                if member not in sums:
                    _add_file(archive, name, member, file, sums)
        size = sum(info.file_size for info in archive.infolist())
        tags = {
            "bagit.txt": "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": f"External-Identifier: {run.uid}\nPayload-Oxum: {size}.{len(sums)}\n"
            f"LunchBox-Roots: {json.dumps(roots)}\n",
            MANIFEST: "".join(f"{digest}  {member}\n" for member, digest in sums.items()),
        }
        digests = {tag: hashlib.sha256(text.encode()).hexdigest() for tag, text in tags.items()}
        tags[TAG_MANIFEST] = "".join(f"{digest}  {tag}\n" for tag, digest in digests.items())
        for tag, text in tags.items():
            archive.writestr(zipfile.ZipInfo(f"{name}/{tag}"), text)
    return [path]


def _calibration_of(run: RecordedRun) -> list[RecordedRun]:
    uid = run.start.get("calibration_uid")
    directory = run.journal.parents[3]
    found = (
        list(directory.glob(f"*/*/*/*-{uid}.jsonl")) if isinstance(uid, str) and re.fullmatch(r"[\w-]+", uid) else []
    )
    return [RecordedRun(path, run.roots) for path in found[:1]]


def _add_file(archive: zipfile.ZipFile, name: str, member: str, file: Path, sums: dict[str, str]) -> None:
    digest = hashlib.sha256()
    info = zipfile.ZipInfo(f"{name}/{member}")
    info.external_attr = 0o644 << 16
    with file.open("rb") as source, archive.open(info, "w", force_zip64=True) as target:
        while block := source.read(BLOCK):
            digest.update(block)
            target.write(block)
    sums[member] = digest.hexdigest()
