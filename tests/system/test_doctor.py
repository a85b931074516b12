"""What can be wrong is found, by name, with the remedy; what is right is not called wrong."""

from __future__ import annotations

import json
import os
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from cameras import ArrayCamera
from command import SMALL_BENCH, CommandLine
from documents import write_run

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings, Pico
from catalog import layout
from catalog.journal_files import list_journals
from config import load_settings
from lunchbox import hardware, installation, storage
from lunchbox.finding import Finding, Findings


def found(findings: Findings) -> list[Finding]:
    return list(findings)


def the_broken(findings: Findings) -> Finding:
    """The one that is broken; it says a remedy."""
    (finding,) = (finding for finding in findings if finding.status == "broken")
    assert finding.remedy
    return finding


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Any]:
    def settings(text: str = "", **changes: Any) -> Any:
        path = tmp_path / "bench.yml"
        path.write_text(text or SMALL_BENCH)
        return load_settings(path, **{"data_root": tmp_path / "data", **changes})

    return settings


# -- installation ---------------------------------------------------------------------------------------------------


def test_a_file_beside_a_notebook_that_hides_a_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").write_text("")
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "__init__.py").write_text("")
    (tmp_path / "config").mkdir()  # a folder that is no package hides nothing
    named = [finding for finding in installation.hidden_packages(folders=[tmp_path]) if finding.status == "broken"]
    assert [finding.found.split(" hides ")[0] for finding in named] == [
        str(tmp_path / "analysis.py"),
        str(tmp_path / "catalog" / "__init__.py"),
    ]
    assert all(finding.remedy.startswith("rename it") for finding in named)


def test_a_package_that_python_takes_from_elsewhere_is_named(tmp_path: Path) -> None:
    named = found(installation.hidden_packages(folders=[], root=tmp_path))
    assert {finding.status for finding in named} == {"broken"}
    assert "not from" in named[0].found
    (fine,) = installation.hidden_packages(folders=[])
    assert fine.status == "ok"


def test_versions_that_were_not_tested_are_named(tmp_path: Path) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("numpy==0.0.1\nnot-installed==1\nh5py==0.0.2 ; python_version < '3'\nh5py==0.0.3\n")
    (finding,) = installation.versions(constraints=constraints)
    assert finding.status == "warning"
    assert "numpy" in finding.found
    assert "(tested: 0.0.2 or 0.0.3)" in finding.found
    assert "constraint" in finding.remedy
    constraints.write_text("caproto==0.0.1\n")
    assert "caproto" in the_broken(installation.versions(constraints=constraints)).found
    (absent,) = installation.versions(constraints=tmp_path / "nowhere.txt")
    assert absent.status == "ok"


def test_the_installed_versions_are_those_that_were_tested() -> None:
    (finding,) = installation.versions()
    assert finding.status == "ok", finding


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installation, "_required", lambda: ["numpy", "no-such-package"])
    broken = the_broken(installation.versions(constraints=tmp_path / "nowhere.txt"))
    assert broken.found == "not installed: no-such-package"


class Point:
    """An entry point."""

    def __init__(self, name: str, load: Callable[[], Any]) -> None:
        self.name, self.value, self.load = name, "somewhere:Handler", load
        self.dist = type("Distribution", (), {"name": "another-package"})()


def test_readers_are_listed_with_the_package_they_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = found(installation.handlers())
    assert {finding.status for finding in listed} == {"ok"}
    assert any("LUNCHBOX_HDF5 -> catalog.handlers:LunchBoxHDF5Handler (of lunchbox)" in f.found for f in listed)

    def absent() -> Any:
        raise ImportError("no module named gone")

    monkeypatch.setattr(installation.importlib.metadata, "entry_points", lambda group: [Point("OTHER", absent)])
    missing, other = installation.handlers()
    assert (missing.status, other.status) == ("broken", "warning")
    assert "LUNCHBOX_HDF5" in missing.found
    assert "no module named gone" in other.found
    monkeypatch.setattr(installation.importlib.metadata, "entry_points", lambda group: [Point(layout.SPEC, dict)])
    assert "another package reads our frames" in the_broken(installation.handlers()).found


# -- storage --------------------------------------------------------------------------------------------------------


def test_a_disk_without_room_for_a_scan_is_broken(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = 46 * 2 * 640 * 480 * 3
    usage = type("Usage", (), {"free": scan - 1})
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda _: usage)
    assert "0 scans of 46 points of 640 x 480" in the_broken(storage.disk(settings())).found
    usage.free = 2 * scan
    (few,) = storage.disk(settings())
    assert few.status == "warning"
    usage.free = 10 * scan
    (room,) = storage.disk(settings())
    assert room.status == "ok"


def test_a_data_root_that_cannot_be_written_is_broken(settings: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = the_broken(storage.disk(settings(data_root=tmp_path / "file" / "data")))
    assert broken.found == f"{tmp_path / 'file'} cannot be written"


def test_a_clock_that_was_never_set_or_goes_back_is_broken(settings: Callable[..., Any], tmp_path: Path) -> None:
    assert "it says" in the_broken(storage.clock(settings(), now=86_400.0)).found
    write_run(tmp_path / "data", points=1)
    (fine,) = storage.clock(settings())
    assert fine.status == "ok"
    (journal,) = list_journals(tmp_path / "data" / layout.JOURNAL_DIR)
    later = journal.path.stat().st_mtime + 3600
    os.utime(journal.path, (later, later))
    broken = the_broken(storage.clock(settings()))
    assert "the last run was written on" in broken.found
    assert "timedatectl" in broken.remedy


def test_a_damaged_catalogue_is_broken_and_none_is_not(settings: Callable[..., Any], tmp_path: Path) -> None:
    (none,) = storage.catalogue(settings())
    assert none.status == "ok"
    folder = tmp_path / "data" / "catalog"
    folder.mkdir(parents=True)
    (folder / "catalog.db").write_bytes(b"this is no database" * 100)
    broken = the_broken(storage.catalogue(settings()))
    assert "not a database" in broken.found
    assert "built again from the journals" in broken.remedy


def test_a_machine_without_tiled_is_told_what_it_cannot_do(
    settings: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.importlib.util, "find_spec", lambda name: None)
    (finding,) = storage.catalogue(settings())
    assert (finding.status, finding.remedy) == ("warning", "pip install 'lunchbox[catalog]'")


def test_a_journal_in_quarantine_is_named_with_the_reason(settings: Callable[..., Any], tmp_path: Path) -> None:
    from catalog.journal_lines import JournalError
    from catalog.quarantine import Quarantine

    write_run(tmp_path / "data", points=1)
    (journal,) = list_journals(tmp_path / "data" / layout.JOURNAL_DIR)
    folder = Quarantine(tmp_path / "data" / "catalog" / "quarantine")
    folder.add(journal.path, JournalError("line 3 is no document"))
    broken = the_broken(storage.quarantine(settings()))
    assert str(journal.path) in broken.found
    assert "line 3 is no document" in broken.found
    folder.release(journal.path)
    (fine,) = storage.quarantine(settings())
    assert fine.status == "ok"


def test_frames_of_the_last_run_that_moved_or_broke_are_named(settings: Callable[..., Any], tmp_path: Path) -> None:
    (none,) = storage.last_frames(settings())
    assert none.status == "ok"
    uid = write_run(tmp_path / "data", points=2)
    (fine,) = storage.last_frames(settings())
    assert (fine.status, uid[:8] in fine.found) == ("ok", True)
    (path,) = (tmp_path / "data" / layout.FRAMES_DIR).rglob("*.h5")
    os.truncate(path, path.stat().st_size // 2)
    assert uid[:8] in the_broken(storage.last_frames(settings())).found
    path.unlink()
    assert "missing" in the_broken(storage.last_frames(settings())).found


# -- hardware -------------------------------------------------------------------------------------------------------


def test_pvs_that_answer_are_fine_and_dead_ones_are_named(ioc: IOCProcess, settings: Callable[..., Any]) -> None:
    fine = found(hardware.pvs(settings()))
    assert [finding.status for finding in fine] == ["ok"]
    assert "servo at" in fine[0].found
    broken = the_broken(
        hardware.pvs(settings(SMALL_BENCH + "prefix: 'NOBODY:'\nacquisition: {connect_timeout: 0.3}\n"))
    )
    assert "NOBODY:SERVO:RBV" in broken.found
    assert "lunchbox ioc" in broken.remedy


def test_a_laser_that_somebody_left_on_is_said(ioc: IOCProcess, settings: Callable[..., Any]) -> None:
    from ophyd import EpicsSignal

    laser = EpicsSignal("LUNCHBOX:LASER", put_complete=True, name="laser")
    laser.wait_for_connection(timeout=5)
    laser.put(0.5, wait=True, use_complete=True)
    try:
        said = {finding.check: finding for finding in hardware.pvs(settings())}
    finally:
        laser.put(0.0, wait=True, use_complete=True)
        laser.destroy()
    assert said["laser"].status == "warning"


def test_a_serial_device_that_is_not_there_or_not_allowed_is_named(
    settings: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (unused,) = hardware.serial(settings())
    assert unused.status == "ok"
    (tmp_path / "ttyACM1").touch()
    device = tmp_path / "ttyACM0"
    mine = settings(f"ioc: {{link: pico, pico: {{device: {device}}}}}")
    assert f"others: {tmp_path / 'ttyACM1'}" in the_broken(hardware.serial(mine, devices=tmp_path)).found
    device.touch()
    (there,) = hardware.serial(mine, devices=tmp_path)
    assert there.status == "ok"
    monkeypatch.setattr(hardware.os, "access", lambda *_: False)  # root may do everything
    assert "dialout" in the_broken(hardware.serial(mine, devices=tmp_path)).remedy


def test_a_camera_that_is_not_there_is_broken(settings: Callable[..., Any], tmp_path: Path) -> None:
    mine = settings(f"acquisition: {{camera: {{kind: opencv, source: {tmp_path}/none.mkv}}}}")
    broken = the_broken(hardware.camera(mine))
    assert "none.mkv does not open" in broken.found
    assert "plugged in" in broken.remedy


@pytest.mark.parametrize(("level", "complaint"), [(0, "black"), (255, "saturated with the laser off"), (60, "")])
def test_a_black_or_full_frame_is_said(
    settings: Callable[..., Any], tmp_path: Path, level: int, complaint: str
) -> None:
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), np.full((48, 64, 3), level, np.uint8))
    mine = settings(f"acquisition: {{camera: {{kind: opencv, source: '{tmp_path}/%03d.png'}}}}")
    seen, *more = hardware.camera(mine)
    assert seen.status == "ok"
    assert "64 x 48" in seen.found
    assert [complaint in finding.found for finding in more] == [True] * bool(complaint)


def test_a_setting_that_the_camera_did_not_take_is_said() -> None:
    class Wilful(ArrayCamera):
        def settings(self) -> dict[str, Any]:
            wanted = {"gain_wanted": 64, "exposure_wanted": 300.0, "pixel_format_wanted": "YUYV"}
            return {"model": "wilful", **wanted, "gain": 10.0, "exposure": 301.0, "pixel_format": "MJPG"}

    camera = Wilful((16, 16, 3))
    said = [finding.found for finding in hardware.frame_of(camera) if " was asked for" in finding.found]
    assert said == ["gain is 10.0, and 64 was asked for", "pixel_format is MJPG, and YUYV was asked for"]
    assert not camera.is_open


# -- the command ----------------------------------------------------------------------------------------------------


def test_it_says_that_nothing_is_broken_and_its_status_is_0(command: CommandLine) -> None:
    found = command.json("doctor")
    assert found["broken"] == 0
    checks = {finding["check"] for finding in found["findings"]}
    assert checks >= {"packages", "versions", "handlers", "configuration", "disk", "clock", "serial", "pvs", "camera"}
    assert checks >= {"catalogue", "quarantine", "frames"}


def test_a_wrong_configuration_is_a_finding_and_the_status_is_1(command: CommandLine) -> None:
    wrong = CommandLine(command.home, command.environment, config="setup: {wavelenght: 1}\nprefix: ''")
    done = wrong.run("doctor")
    assert done.returncode == 1
    assert "BROKEN   configuration" in done.stdout
    assert "setup.wavelenght" in done.stdout
    assert "-> mend it" in done.stdout


@pytest.fixture
def unplugged(tmp_path: Path) -> Iterator[IOCProcess]:
    """An IOC whose Pico answered once, and was pulled."""
    import threading

    near, far = os.openpty()
    tty.setraw(far)
    cable = tmp_path / "ttyACM0"
    cable.symlink_to(os.ttyname(far))

    def answer() -> None:
        buffer = b""
        try:
            while chunk := os.read(near, 256):
                buffer += chunk
                while b"\r\n" in buffer:
                    order, buffer = buffer.split(b"\r\n", 1)
                    os.write(near, b"OK " + order + b"\r\n")
        except OSError:
            return

    threading.Thread(target=answer, daemon=True).start()
    pico = Pico(device=str(cable), timeout=0.3, travel_time=0, settle_time=0)
    with IOCProcess(IOCSettings(link="pico", pico=pico, refresh_period=0.1)) as ioc:
        cable.unlink()
        os.close(far)
        os.close(near)
        yield ioc


def test_a_pulled_cable_is_found_by_the_pvs_alarm(unplugged: IOCProcess, tmp_path: Path) -> None:
    config = f"ioc: {{link: pico, pico: {{device: {tmp_path}/ttyACM0}}}}\nacquisition: {{camera: {{kind: opencv}}}}\n"
    command = CommandLine(tmp_path, unplugged.environment, config=config)
    done = command.run("doctor", "--json")
    assert done.returncode == 1, done.stderr
    said = {
        finding["check"]: finding for finding in json.loads(done.stdout)["findings"] if finding["status"] == "broken"
    }
    assert said.keys() == {"serial", "pvs", "camera"}
    assert "Check the USB cable" in said["pvs"]["found"]


def test_the_doctor_reads_files_that_hdf5_itself_would_refuse(settings: Callable[..., Any], tmp_path: Path) -> None:
    uid = write_run(tmp_path / "data", points=1)
    (path,) = (tmp_path / "data" / layout.FRAMES_DIR).rglob("*.h5")
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_group("entry")
    assert uid[:8] in the_broken(storage.last_frames(settings())).found
