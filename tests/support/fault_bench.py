"""A bench on which scans come to grief: a Pico on a cable, its IOC, and the oracle, which is the laser's pin."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from pico import Pico
from victim import CAMERA_TIMEOUT, POINTS, is_whole
from zygote import Child, Zygote

from acquisition.ioc.process import IOCProcess
from acquisition.ioc.settings import IOCSettings
from acquisition.ioc.settings import Pico as PicoSettings
from catalog import layout
from catalog.handlers import FrameIntegrityError, LunchBoxHDF5Handler
from catalog.journal import list_journals, read_journal
from catalog.recovery import close_dead

#: s until the laser is off, by what has to notice: a plan that ends, the IOC's watchdog (2 s), the firmware (2 s).
PLAN, WATCHDOG, FIRMWARE = 1.0, 3.0, 3.0
DISK = 24 << 20


@dataclass(frozen=True)
class Case:
    """What happens to a scan, how soon the laser must be off then, and how its run must end."""

    name: str
    bound: float
    exit_status: tuple[str, ...]
    happen: Callable[[Bench, Child, Path], None] | None = None
    #: What the scan's own error begins with.
    said: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Trial:
    case: str
    delay: float
    seconds_to_off: float = float("nan")
    lost: int = 0
    events: int = 0
    stall: float = 0.0
    problems: tuple[str, ...] = field(default=())


def _signals(number: signal.Signals, times: int) -> Callable[[Bench, Child, Path], None]:
    def happen(bench: Bench, child: Child, folder: Path) -> None:
        for _ in range(times):
            child.send(number)
            time.sleep(0.03)

    return happen


def _kill_ioc(bench: Bench, child: Child, folder: Path) -> None:
    os.kill(bench.ioc.pid, signal.SIGKILL)


def _unplug(bench: Bench, child: Child, folder: Path) -> None:
    bench.pico.unplug()


def _fill_disk(bench: Bench, child: Child, folder: Path) -> None:
    with (folder / "junk").open("wb", buffering=0) as junk:
        try:
            while True:
                junk.write(b"\0" * 4096)
        except OSError:
            pass


CASES = (
    Case("success", PLAN, ("success",)),
    Case("exception", PLAN, ("fail",), said=("CameraError: watching: the lens cap",)),
    Case("hung camera", CAMERA_TIMEOUT + 1.5, ("fail",), said=("CameraError: watching hangs",)),
    Case("SIGINT x1", PLAN, ("abort",), _signals(signal.SIGINT, 1), ("Interrupted: ",)),
    Case("SIGINT x3", PLAN, ("abort",), _signals(signal.SIGINT, 3), ("Interrupted: ",)),
    Case("SIGINT x10", PLAN, ("abort",), _signals(signal.SIGINT, 10), ("Interrupted: ",)),
    Case("SIGTERM", PLAN, ("abort",), _signals(signal.SIGTERM, 1), ("Interrupted: ",)),
    Case("pause", PLAN, ("success",)),
    Case("abort", PLAN, ("abort",)),
    Case("stop", PLAN, ("success",)),
    Case("halt", PLAN, ("abort",)),
    Case("kill -9 of the scan", WATCHDOG, ("abort",), lambda bench, child, folder: child.send(signal.SIGKILL)),
    Case("kill -9 of the IOC", FIRMWARE, ("fail",), _kill_ioc, ("LaserError: ", "IOCUnreachable: ", "ServoError: ")),
    Case("serial unplugged", FIRMWARE, ("fail",), _unplug, ("LaserError: ", "ServoError: ")),
    Case("disk full", PLAN, ("fail",), _fill_disk, ("DataRootError: ",)),
)  # fmt: skip


class Bench:
    """Pico, IOC, and one scan after another."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder = folder
        folder.mkdir()
        self._zygote = zygote
        self._trials = 0
        self.pico = Pico(folder)
        settings = IOCSettings(
            link="pico", pico=PicoSettings(device=str(self.pico.device), travel_time=0, settle_time=0.01)
        )
        self.ioc = IOCProcess(settings)
        self.ioc.start()

    def close(self) -> None:
        self.ioc.stop()
        self.pico.__exit__()

    def run(self, case: Case, random_: random.Random) -> Trial:
        self._trials += 1
        folder = self.folder / str(self._trials)
        folder.mkdir()
        delay, lit = random_.uniform(0, 0.5), random_.random() < 0.75
        try:
            self.ioc.wait_until_ready()
            disk = small_disk(folder) if case.name == "disk full" else nullcontext()
            with disk, _stalls() as stall:
                trial = self._run(case, delay, lit, folder)
            return Trial(**{**vars(trial), "stall": stall[0]})
        except Exception as error:
            return Trial(case.name, delay, problems=(f"{type(error).__name__}: {error}",))
        finally:
            self._mend()
            shutil.rmtree(folder, ignore_errors=True)

    def _run(self, case: Case, delay: float, lit: bool, folder: Path) -> Trial:
        arguments = (case.name, delay, lit, folder, self.pico.pins)
        child = self._zygote.fork("victim:scan", self.folder / f"{self._trials}.out", self.ioc.environment, *arguments)
        problems: list[str] = []
        end = math.inf
        try:
            _wait_for(child, "scanning", 30)
            if case.happen is not None:
                time.sleep(delay)
                if lit:
                    self.pico.wait_for_laser(True, 10)
                    time.sleep(0.1 * delay)
                fault = time.monotonic()
                case.happen(self, child, folder)
            else:
                fault = _wait_for(child, "over" if case.name == "success" else "fault", 30)
            if case.name == "pause":
                end = self._check_pause(child, fault, problems)
            if not child.wait(30):
                problems.append("the scan did not end")
            # The laser's own story, to the end of what any layer has to do.
            time.sleep(max(0.0, fault + (case.bound if case.happen else 0) + 0.3 - time.monotonic()))
        finally:
            child.close()
        off = [moment for moment, duty in self.pico.changes(since=fault) if not duty and moment < end]
        if self.pico.laser:
            problems.append("the laser is on")
        took = off[-1] - fault if off else 0.0
        if not any(said.get("error", "").startswith(case.said) for said in child.said()) and case.said != ("",):
            problems.append(f"the scan said {[said['error'] for said in child.said() if 'error' in said]}")
        if case.name.startswith("kill -9 of the scan"):
            for journal in list_journals(folder / layout.JOURNAL_DIR):
                close_dead(journal.path, reason="killed by a test")
        events, lost = _audit(folder, case, problems)
        return Trial(case.name, delay, took, lost, events, problems=tuple(problems))

    def _check_pause(self, child: Child, fault: float, problems: list[str]) -> float:
        """The laser is off through the pause and on after it; returns when that was over."""
        paused, resumed = _wait_for(child, "paused", 10), _wait_for(child, "resumed", 10)
        _wait_for(child, "over", 30)
        lit = [moment for moment, duty in self.pico.changes(since=fault) if duty]
        if any(paused < moment < resumed for moment in lit):
            problems.append("the laser shone while the plan was paused")
        if not any(moment > resumed for moment in lit):
            problems.append("the laser did not come back")
        return resumed

    def _mend(self) -> None:
        if not self.pico.plugged:
            self.pico.plug()
        if self.ioc.poll() is not None:
            self.ioc.stop()
            self.ioc.start()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Within it, the folder is on a disk of `DISK` bytes."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def can_mount(folder: Path) -> bool:
    """Whether a small disk can be made here."""
    try:
        with small_disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextmanager
def _stalls() -> Iterator[list[float]]:
    """The longest that this machine let a thread wait, s: what it may also have let the parts under test wait."""
    worst, over = [0.0], threading.Event()

    def watch() -> None:
        last = time.monotonic()
        while not over.wait(0.02):
            now = time.monotonic()
            worst[0], last = max(worst[0], now - last - 0.02), now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield worst
    finally:
        over.set()
        thread.join()


def _wait_for(child: Child, what: str, timeout: float) -> float:
    """CLOCK_MONOTONIC when the child told it."""
    deadline = time.monotonic() + timeout
    while True:
        for said in child.said():
            if what in said:
                return float(said["at"])
        if time.monotonic() > deadline or child.wait(0.02):
            for said in child.said():
                if what in said:
                    return float(said["at"])
            errors = [said["error"] for said in child.said() if "error" in said]
            raise TimeoutError(f"the scan did not say {what!r}: {errors or child.output[-2000:]}")


def _audit(folder: Path, case: Case, problems: list[str]) -> tuple[int, int]:
    """(events, frames that an event names and that are not there as the camera gave them)."""
    journals = list_journals(folder / layout.JOURNAL_DIR)
    if len(journals) != 1:
        problems.append(f"{len(journals)} journals")
        return 0, 0
    documents = list(read_journal(journals[0].path))
    name, stop = documents[-1]
    if name != "stop" or stop["exit_status"] not in case.exit_status:
        problems.append(f"the run ended with {name} {json.dumps(stop)[:300]}")
    resources = {document["uid"]: document for name, document in documents if name == "resource"}
    datums = {document["datum_id"]: document for name, document in documents if name == "datum"}
    events = [d["data"] for n, d in documents if n == "event" and "lunchbox_image" in d["data"]]
    expected = POINTS.get(case.name)
    if expected and len(events) != expected:
        problems.append(f"{len(events)} events of {expected}")
    lost = 0
    for event in events:
        for key, lit in (("lunchbox_image", True), ("lunchbox_background", False)):
            datum = datums[event[key]]
            resource = resources[datum["resource"]]
            handler = LunchBoxHDF5Handler(
                Path(resource["root"]) / resource["resource_path"], **resource["resource_kwargs"]
            )
            try:
                whole = is_whole(handler(**datum["datum_kwargs"]), lit=lit)
            except FrameIntegrityError as error:
                whole = False
                problems.append(str(error))
            if not whole:
                lost += 1
                problems.append(f"{key} of {datum['datum_kwargs']} is not what the camera saw with the laser {lit=}")
    return len(events), lost


def table(trials: list[Trial]) -> list[str]:
    """The matrix of faults as lines of text."""
    lines = [f"{'case':22} {'trials':>6} {'worst s to off':>14} {'bound s':>8} {'events':>7} {'frames lost':>11}"]
    for case in CASES:
        own = [trial for trial in trials if trial.case == case.name]
        if own:
            worst = max(trial.seconds_to_off for trial in own)
            events, lost = sum(trial.events for trial in own), sum(trial.lost for trial in own)
            lines.append(f"{case.name:22} {len(own):6} {worst:14.3f} {case.bound:8.1f} {events:7} {lost:11}")
    return lines
