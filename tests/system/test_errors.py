"""What goes wrong is said in one line: what, where, remedy; the exit status tells, and nothing is lost."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import h5py
import pytest
from channel_access import value
from command import CommandLine

from acquisition.ioc.ports import free_port
from acquisition.ioc.process import IOCProcess
from catalog import layout


def refused(command: CommandLine, *arguments: str) -> str:
    """The one line that a command which must fail prints."""
    done = command.run(*arguments)
    assert done.returncode == 1, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr.strip().splitlines()[-1]


def test_unknown_key_in_the_configuration(command: CommandLine) -> None:
    wrong = CommandLine(command.home, command.environment, config="setup: {wavelenght: 650e-9}")
    said = refused(wrong, "count")
    assert said.startswith("ConfigurationError: ")
    assert "lunchbox.yml: setup.wavelenght" in said


def test_the_default_data_root_is_said_when_it_is_used(command: CommandLine) -> None:
    plain = CommandLine(command.home, {**command.environment, "XDG_DATA_HOME": str(command.home / "share")})
    plain.environment["LUNCHBOX_DATA_ROOT"] = str(command.home / "share" / "lunchbox")
    done = plain.run("count", "--json")
    assert done.returncode == 0
    assert done.stderr.startswith(f"data root   {command.home}/share/lunchbox   (the default;")


def test_missing_configuration(command: CommandLine) -> None:
    assert "nowhere.yml: No such file" in refused(command, "scan", "--config", "nowhere.yml")


def test_no_ioc_lists_each_dead_pv_and_how_to_start_one(command: CommandLine) -> None:
    nobody = {"EPICS_CA_SERVER_PORT": str(free_port())}
    said = refused(CommandLine(command.home, command.environment | nobody), "count")
    assert said.startswith("IOCUnreachable: ")
    for pv in ("SERVO", "SERVO:RBV", "SERVO:DMOV", "LASER:RBV", "HEARTBEAT"):
        assert f"LUNCHBOX:{pv}" in said
    assert "lunchbox ioc --simulated" in said


def test_angle_outside_the_limits_moves_nothing(command: CommandLine, ioc: IOCProcess) -> None:
    before = value(ioc, "SERVO")
    said = refused(command, "scan", "--start", "0", "--stop", "400", "--points", "3")
    assert "AngleLimitError: LUNCHBOX:SERVO: 200 deg is outside -90 .. 90 deg" in said
    assert value(ioc, "SERVO") == before
    assert value(ioc, "LASER:RBV") == 0.0


def test_second_ioc_on_a_taken_port(command: CommandLine) -> None:
    said = refused(command, "ioc", "--simulated")
    assert said.startswith("IOCRunning: ")
    assert "EPICS_CA_SERVER_PORT" in said


def test_server_on_a_taken_port(command: CommandLine) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        said = refused(command, "serve", "--port", str(other.getsockname()[1]))
    assert said.startswith("PortTaken: ")
    assert "--port" in said


def test_data_root_that_cannot_be_made(command: CommandLine) -> None:
    (command.home / "file").write_text("")
    for arguments in (("count",), ("show",)):
        said = refused(command, *arguments, "--data-root", str(command.home / "file" / "data"))
        assert said.startswith("DataRootError: ")
        assert "data_root" in said


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self/status").exists(), reason="needs /proc")
def test_full_disk_keeps_earlier_frames_and_closes_the_run(command: CommandLine, ioc: IOCProcess) -> None:
    # A limit on the size of a file is a disk that is full for the frames, and not for the stop document.
    import resource

    limit = 20 * 640 * 480 * 3
    scan = command.start(
        "scan",
        "--points",
        "40",
        "--stop",
        "4",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    _, err = scan.communicate(timeout=60)
    assert scan.returncode == 1
    assert "DataRootError" in err.splitlines()[-1]
    assert "MB free" in err
    assert value(ioc, "LASER:RBV") == 0.0
    (run,) = command.json("show")["runs"]
    assert run["status"] == "fail"
    assert 5 < run["events"] < 10
    with h5py.File(frame_file(command), "r") as file:
        images = file[layout.IMAGE][()]  # every frame, its checksum verified
    assert len(images) == run["events"]
    assert images.max(axis=(1, 2, 3)).min() > 100


def test_unknown_uid_names_the_nearest(command: CommandLine) -> None:
    uid = command.json("count")["uid"]
    said = refused(command, "show", uid[:7] + ("0" if uid[7] != "0" else "1"))
    assert said.startswith("RunNotFound: ")
    assert uid in said


def frame_file(command: CommandLine) -> Path:
    (path,) = (command.data_root / layout.FRAMES_DIR).rglob("*.h5")
    return path


def test_moved_file_is_named_with_run_and_remedy(command: CommandLine) -> None:
    uid = command.json("scan", "--points", "3")["uid"]
    (command.data_root / layout.FRAMES_DIR).rename(command.home / "moved")
    said = refused(command, "fit", uid)
    assert said.startswith("DataNotAccessible: ")
    assert "root_map" in said
    # One line of the root map restores all.
    roots = f"root_map: {{'{command.data_root / layout.FRAMES_DIR}': '{command.home / 'moved'}'}}"
    mapped = CommandLine(command.home, command.environment, config=command.config + roots)
    assert "DataNotAccessible" not in mapped.run("fit", uid).stderr


def test_truncated_file_is_an_error_and_other_runs_are_unaffected(command: CommandLine) -> None:
    uid = command.json("scan", "--points", "3")["uid"]
    path = frame_file(command)
    os.truncate(path, path.stat().st_size // 2)
    assert refused(command, "fit", uid).startswith("FrameIntegrityError: ")
    command.json("count")
    assert command.json("show", "-1")["status"] == "success"


def test_a_scan_without_light_is_an_error_not_a_number(command: CommandLine) -> None:
    dark = CommandLine(command.home, command.environment, config=command.config + "acquisition: {laser: {power: 0.0}}")
    dark.json("scan", "--points", "4")
    said = refused(dark, "fit")
    assert said.startswith("NoSpots: ")


def test_a_wrong_key_is_refused_with_the_remedy(served: tuple[CommandLine, str]) -> None:
    from catalog.client import CatalogUnavailable, open_catalog
    from config import load_settings

    command, uri = served
    with pytest.raises(CatalogUnavailable, match=r"refuses the key \(401\).*TILED_API_KEY"):
        open_catalog(uri, settings=load_settings(data_root=command.data_root), api_key="0" * 32)


def test_the_key_is_for_its_owner_only(served: tuple[CommandLine, str]) -> None:
    command, _ = served
    for path in (
        command.data_root / "catalog" / "api_key",
        command.home / ".config" / "tiled" / "profiles" / "lunchbox.yml",
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
