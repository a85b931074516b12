"""A packed run arrives elsewhere whole, once, or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import Run, frame, make_settings, write_analysis, write_run

from catalog import open_catalog
from catalog.embedded import close_embedded
from catalog.export import export
from catalog.journal import Journal
from catalog.pack import BadPack
from catalog.recorded import find_run, fits_of
from catalog.unpack import take_in

POINTS = 3


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(archive, uid, calibration, fit), made in a data root of its own."""
    folder = tmp_path_factory.mktemp("packed")
    calibration = write_run(folder / "data", points=1, seed=40, plan_name="calibrate")
    uid = write_run(folder / "data", points=POINTS, seed=50, calibration_uid=calibration)
    write_run(folder / "data", points=1, seed=60)
    fit = write_analysis(folder / "data", uid)
    settings = make_settings(folder / "data")
    (archive,) = export(find_run(settings, uid), fits_of(settings, uid), "pack", folder)
    return archive, uid, calibration, fit


def files(data_root: Path) -> dict[str, bytes]:
    kept = (path for path in data_root.rglob("*") if path.is_file() and path.suffix in {".h5", ".jsonl"})
    return {str(path.relative_to(data_root)): path.read_bytes() for path in kept}


def test_it_arrives_with_fits_and_calibration_and_a_second_time_changes_nothing(packed: Any, tmp_path: Path) -> None:
    archive, uid, calibration, fit = packed
    settings = make_settings(tmp_path / "there")
    own = write_run(tmp_path / "there", points=1, seed=90, scan_id=1)
    first = take_in(settings, archive)
    assert set(first.imported) == {uid, calibration, fit}
    before = files(tmp_path / "there")
    second = take_in(settings, archive)
    assert (second.imported, set(second.present)) == ([], {uid, calibration, fit})
    assert files(tmp_path / "there") == before
    with Journal(tmp_path / "there" / "journal") as journal:
        assert journal.next_scan_id() == 3
    catalog = open_catalog(settings=settings)
    data = catalog[uid].primary.read()
    np.testing.assert_array_equal(data["lunchbox_image"], [frame(50, index) for index in range(POINTS)])
    assert catalog[calibration].primary["lunchbox_image"].shape[0] == 1
    assert list(catalog.fits(uid)) == [fit]
    assert set(catalog) == {own, uid, calibration}
    catalog.close()
    close_embedded()


def test_it_goes_on_from_there(packed: Any, tmp_path: Path) -> None:
    archive, uid, _, _ = packed
    settings = make_settings(tmp_path / "there")
    take_in(settings, archive)
    (again,) = export(find_run(settings, uid), fits_of(settings, uid), "pack", tmp_path)
    third = make_settings(tmp_path / "third")
    assert uid in take_in(third, again).imported
    assert set(files(tmp_path / "third")) == set(files(tmp_path / "there"))


def test_any_flipped_byte_is_refused_and_nothing_is_written(packed: Any, tmp_path: Path) -> None:
    whole = packed[0].read_bytes()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    choose = random.Random(seed)
    for _ in range(60):
        position = choose.randrange(len(whole))
        altered = bytearray(whole)
        altered[position] ^= 1 << choose.randrange(8)
        path = tmp_path / "altered.zip"
        path.write_bytes(altered)
        settings = make_settings(tmp_path / "there")
        try:
            done = take_in(settings, path)
        except BadPack:
            assert files(tmp_path / "there") == {}
            continue
        # What no member holds (a time stamp of the zip file, say) may differ; what arrived is what was packed.
        assert len(done.imported) == 3
        arrived = files(tmp_path / "there")
        clean = make_settings(tmp_path / f"clean-{position}")
        take_in(clean, packed[0])
        assert arrived == files(clean.data_root)
        settings.data_root.rename(tmp_path / f"done-{position}-{choose.random()}")


@pytest.mark.parametrize("length", [0, 10, 1000, -1, -100])
def test_a_cut_archive_is_refused(packed: Any, tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.zip"
    path.write_bytes(packed[0].read_bytes()[:length])
    with pytest.raises(BadPack):
        take_in(make_settings(tmp_path / "there"), path)
    assert files(tmp_path / "there") == {}


def repacked(archive: Path, target: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The archive with its members changed, and its checksums right again."""
    with zipfile.ZipFile(archive) as source:
        members = {name: source.read(name) for name in source.namelist()}
    top = next(iter(members)).split("/")[0]
    extra = change(members) or []
    payload = {name: data for name, data in members.items() if name.startswith(f"{top}/data/")}
    prefix = len(top) + 1

    def sums(names: Any) -> bytes:
        return b"".join(f"{hashlib.sha256(members[n]).hexdigest()}  {n[prefix:]}\n".encode() for n in names)

    members[f"{top}/manifest-sha256.txt"] = sums(payload)
    members[f"{top}/tagmanifest-sha256.txt"] = sums(
        f"{top}/{tag}" for tag in ("bagit.txt", "bag-info.txt", "manifest-sha256.txt")
    )
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data)
        for info, data in extra:
            file.writestr(info, data)
    return target


@pytest.mark.parametrize(
    "name",
    [
        "data/frames/0/../../../../evil.h5",
        "/etc/evil",
        "data/frames/0/c:evil.h5",
        "data/frames/0/a\\..\\evil.h5",
        "data/elsewhere/evil.h5",
        "data/frames/0//evil.h5",
        "../evil",
    ],
)
def test_an_unsafe_name_is_refused(packed: Any, tmp_path: Path, name: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        top = next(iter(members)).split("/")[0]
        members[name if name.startswith(("/", "..")) else f"{top}/{name}"] = b"evil"

    path = repacked(packed[0], tmp_path / "evil.zip", change)
    with pytest.raises(BadPack, match="refused"):
        take_in(make_settings(tmp_path / "there"), path)
    assert not list(tmp_path.rglob("evil.h5"))
    assert files(tmp_path / "there") == {}


def link(members: dict[str, bytes]) -> Any:
    info = zipfile.ZipInfo(f"{next(iter(members)).split('/')[0]}/data/frames/0/link.h5")
    info.external_attr = 0o120777 << 16
    return [(info, "/etc/passwd")]


def inflated(members: dict[str, bytes]) -> Any:
    info = zipfile.ZipInfo(f"{next(iter(members)).split('/')[0]}/data/frames/0/big.h5")
    info.compress_type = zipfile.ZIP_DEFLATED
    return [(info, bytes(10_000_000))]


def unnamed(members: dict[str, bytes]) -> None:
    members[f"{next(iter(members)).split('/')[0]}/data/frames/0/nobody.h5"] = b"x"


def without_a_frame_file(members: dict[str, bytes]) -> None:
    del members[next(name for name in members if name.endswith(".h5"))]


def in_documents(old: str, new: str) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        for name in members:
            if name.endswith((".jsonl", "bag-info.txt")):
                members[name] = members[name].replace(old.encode(), new.encode())

    return change


def out_of_order(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith(".jsonl"))
    members[name] = b"\n".join(reversed(members[name].splitlines())) + b"\n"


def unfinished(members: dict[str, bytes]) -> None:
    name = next(name for name in members if name.endswith(".jsonl"))
    members[name] = b"".join(members[name].splitlines(keepends=True)[:-1])


@pytest.mark.parametrize(
    "change",
    [
        link,
        inflated,
        unnamed,
        without_a_frame_file,
        out_of_order,
        unfinished,
        in_documents('"resource_path": "', '"resource_path": "../'),
    ],
)
def test_what_no_archive_of_ours_has_is_refused(
    packed: Any, tmp_path: Path, change: Callable[[dict[str, bytes]], Any]
) -> None:
    path = repacked(packed[0], tmp_path / "evil.zip", change)
    with pytest.raises(BadPack):
        take_in(make_settings(tmp_path / "there"), path)
    assert files(tmp_path / "there") == {}


@pytest.mark.parametrize("root", ["/", "{there}", "{there}/frames/2026", "relative", "/a/../b"])
def test_an_archive_cannot_map_a_folder_that_is_in_use(packed: Any, tmp_path: Path, root: str) -> None:
    recorded = str(packed[0].parent / "data" / "frames")
    change = in_documents(recorded, root.format(there=tmp_path / "there"))
    path = repacked(packed[0], tmp_path / "evil.zip", change)
    with pytest.raises(BadPack, match=r"map it by hand|outside the folders"):
        take_in(make_settings(tmp_path / "there"), path)
    assert files(tmp_path / "there") == {}


def test_a_run_that_is_here_with_other_contents_is_left_alone(packed: Any, tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "there")
    take_in(settings, packed[0])
    victim = next((tmp_path / "there" / "frames").rglob("*.h5"))
    victim.write_bytes(b"mine")
    with pytest.raises(BadPack, match=rf"{victim.name} is there, with other contents"):
        take_in(settings, packed[0])
    assert victim.read_bytes() == b"mine"


def test_a_link_in_the_way_is_not_followed(packed: Any, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "frames").mkdir()
    year = next(iter((packed[0].parent / "data" / "frames").iterdir())).name
    (tmp_path / "there" / "frames" / year).symlink_to(tmp_path / "outside")
    with pytest.raises(BadPack, match="outside the folders"):
        take_in(make_settings(tmp_path / "there"), packed[0])
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_run_in_progress_is_not_packed(tmp_path: Path) -> None:
    run = Run(Journal(tmp_path / "journal"), tmp_path / "frames")
    run.begin()
    run.point()
    with pytest.raises(BadPack, match="in progress"):
        export(find_run(make_settings(tmp_path), run.uid), [], "pack", tmp_path / "out")
    run.end()


def test_an_archive_is_a_bag_that_other_tools_check(packed: Any) -> None:
    with zipfile.ZipFile(packed[0]) as archive:
        assert archive.testzip() is None
        (top,) = {name.split("/")[0] for name in archive.namelist()}
        for line in io.StringIO(archive.read(f"{top}/manifest-sha256.txt").decode()):
            digest, member = line.rstrip("\n").split("  ")
            assert hashlib.sha256(archive.read(f"{top}/{member}")).hexdigest() == digest
        info = archive.read(f"{top}/bag-info.txt").decode()
    assert json.loads(info.split("LunchBox-Roots: ")[1]) == [str(packed[0].parent / "data" / "frames")]
    assert f"External-Identifier: {packed[1]}" in info
