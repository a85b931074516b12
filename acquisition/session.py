"""A ready RunEngine for IPython, notebooks and scripts.

::

    from acquisition.session import RE, lunchbox, angle_scan
    RE(angle_scan(lunchbox, num=10))

The first use of `RE`, `lunchbox` or `bench` opens the session that the configuration describes; `open_session` does so
with settings of your own. Acquisition writes the journal and frames, and knows nothing of the catalogue: that follows
by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from bluesky.preprocessors import SupplementalData
from bluesky.run_engine import RunEngine
from bluesky.utils import DefaultDuringTask, FailedStatus, RunEngineInterrupted, TransitionError
from ophyd.utils import DisconnectedError
from pydantic import ValidationError

from acquisition.calibrations import KEYS, Calibrations
from acquisition.camera import Camera, SimulatedCamera
from acquisition.cameras import real_camera
from acquisition.devices import IOCUnreachable, LunchBox, SimulatedBench, connect, dead_pvs
from acquisition.plans import Plan, angle_scan, calibrate, count
from acquisition.scan_table import ScanTable
from acquisition.settings import MetadataSettings
from catalog import layout
from catalog.errors import DataRootError, LunchBoxError
from catalog.journal import Journal

if TYPE_CHECKING:
    from config import LunchBoxSettings

    RE: RunEngine
    lunchbox: LunchBox
    bench: SimulatedBench | None

__all__ = ["RE", "Interrupted", "Session", "angle_scan", "bench", "calibrate", "count", "lunchbox", "open_session"]

Document = Mapping[str, Any]
Subscriber = Callable[[str, dict[str, Any]], Any]


_TURN = 0.1  # s, between two looks for a signal


class MetadataError(LunchBoxError, ValueError):
    """Metadata of a run are refused before anything moves."""


class Interrupted(LunchBoxError):
    """The run was ended by a signal: it is closed, its frames are kept, the laser is off."""


@dataclass(frozen=True, eq=False, repr=False)
class Session:
    """What one bench needs to record: RunEngine, devices, journal.

    Use it as a context manager, or call `close`.
    """

    settings: LunchBoxSettings
    RE: RunEngine
    lunchbox: LunchBox
    bench: SimulatedBench | None
    journal: Journal

    def __repr__(self) -> str:
        return f"Session(prefix={self.settings.prefix!r}, data_root={str(self.settings.data_root)!r})"

    def run(self, plan: Plan, *subscribers: Subscriber, **md: Any) -> str:
        """Run a plan to its end and return its run's uid ("" if it has none); SIGINT and SIGTERM abort it calmly.

        Raises
        ------
        Interrupted
            By a signal; the run has its stop document.
        acquisition.devices.IOCUnreachable
            The IOC was lost on the way.
        """
        with _SignalsAbort(self.RE) as signals:
            try:
                uids = self.RE(plan, [_Harmless(subscriber) for subscriber in subscribers], **md)
            except (FailedStatus, TimeoutError, DisconnectedError) as error:
                # bluesky wraps what a device said in an error that says nothing.
                cause = error.__cause__ if isinstance(error, FailedStatus) and error.__cause__ else error
                if not isinstance(cause, TimeoutError | DisconnectedError):
                    raise cause from None
                names = ", ".join(dead_pvs(self.lunchbox)) or str(cause)
                raise IOCUnreachable(
                    f"the IOC stopped answering: {names}. Its watchdog turns the laser off; what was recorded is kept. "
                    "Start it again with `lunchbox ioc`."
                ) from cause
            except RunEngineInterrupted:
                # Still within: a second signal must not end the process in the middle of this.
                self.RE.abort(reason="interrupted by a signal" if signals.received else "paused by the plan")
                raise Interrupted("the run is closed and its frames are kept; the laser was turned off.") from None
        return str(uids[0]) if uids else ""

    def use_calibration(self, uid: str | None) -> None:
        """Name the calibration run that later runs are linked to; None for none. The last one is, by itself."""
        _link_calibrations(self.RE, calibrations_of(self.settings).use(calibration_uid=uid))

    def close(self) -> None:
        """Laser off, and the camera and file closed."""
        self.lunchbox.unstage()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The abort has unstaged already; a further signal must find nothing that it could cut short.
        if kind is None or not issubclass(kind, Interrupted):
            self.close()


def open_session(settings: LunchBoxSettings | None = None, *, interactive: bool = False) -> Session:
    """Connect to the IOC and make a RunEngine whose documents go to the journal first.

    Parameters
    ----------
    settings
        Default: `config.load_settings()`.
    interactive
        Keep bluesky's Ctrl-C (pause, then `RE.resume()` or `RE.abort()`), and show a live table with each run.

    Raises
    ------
    acquisition.devices.IOCUnreachable
        No IOC: each dead PV by name.
    catalog.errors.DataRootError
        The data root cannot be written.
    """
    if settings is None:
        from config import load_settings

        settings = load_settings()
    root = _writable(settings.data_root)
    camera, bench_device = camera_of(settings)
    lunchbox_device = LunchBox(
        settings.prefix,
        name="lunchbox",
        camera=camera,
        frames_dir=root / layout.FRAMES_DIR,
        setup=settings.setup,
        settings=settings.acquisition,
    )
    devices = [lunchbox_device] if bench_device is None else [lunchbox_device, bench_device]
    connect(*devices, timeout=settings.acquisition.connect_timeout)
    journal = Journal(root / layout.JOURNAL_DIR)
    engine = RunEngine(_start_metadata(settings), scan_id_source=journal.next_scan_id, during_task=_InTurns())
    engine.md_validator = _validate_metadata
    # First, so that no other subscriber can come between a document and the disk.
    engine.subscribe(journal)
    engine.preprocessors.append(SupplementalData(baseline=[lunchbox_device.servo, lunchbox_device.laser.watchdog]))
    _link_calibrations(engine, calibrations_of(settings).read())
    if interactive:
        engine.subscribe(_Harmless(ScanTable()))
    session = Session(settings=settings, RE=engine, lunchbox=lunchbox_device, bench=bench_device, journal=journal)
    engine.subscribe(_Harmless(_CalibrationsFollow(session)))
    return session


def camera_of(settings: LunchBoxSettings) -> tuple[Camera, SimulatedBench | None]:
    """The camera that the settings name, not yet open; of a simulated bench, also the PVs by which it sees it."""
    if settings.acquisition.camera.kind != "simulated":
        return real_camera(settings.acquisition.camera), None
    from acquisition.bench.scene import BenchState, Scene

    bench = SimulatedBench(settings.prefix, name="bench")

    def state() -> BenchState:
        return BenchState(
            shaft_deg=float(bench.shaft.get(use_monitor=False)),
            laser=float(bench.laser.get(use_monitor=False)),
            target=bool(bench.target.get(use_monitor=False)),
        )

    return SimulatedCamera(Scene(settings.bench), state, count_time=settings.acquisition.camera.count_time), bench


@cache
def _default_session() -> Session:
    return open_session(interactive=True)


def __getattr__(name: str) -> Any:
    if name in ("RE", "lunchbox", "bench"):
        return getattr(_default_session(), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Harmless:
    """A subscriber that cannot end a scan: when it raises, that is said, and it is not called again."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber: Subscriber | None = subscriber

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        if self._subscriber is None:
            return
        try:
            self._subscriber(name, document)
        except Exception as error:
            print(f"{self._subscriber!r} is left out: {type(error).__name__}: {error}", file=sys.stderr)
            self._subscriber = None


class _CalibrationsFollow:
    """Links the runs that follow a successful `calibrate` to it, whoever ran it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._running: set[str] = set()

    def __call__(self, name: str, document: Document) -> None:
        if name == "start" and document.get("plan_name") == "calibrate":
            self._running.add(document["uid"])
        elif name == "stop" and document["run_start"] in self._running:
            self._running.discard(document["run_start"])
            if document["exit_status"] == "success":
                self._session.use_calibration(document["run_start"])


def _start_metadata(settings: LunchBoxSettings) -> dict[str, Any]:
    who = settings.acquisition.metadata
    packages = ("lunchbox", "bluesky", "ophyd", "caproto", "event-model", "h5py", "numpy", "opencv-python-headless")
    return {
        **who.model_dump(),
        "instrument": settings.prefix.rstrip(":"),
        "simulated": settings.acquisition.camera.kind == "simulated",
        "setup": settings.setup.model_dump(),
        "config_hash": settings.config_hash(),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }


def _validate_metadata(md: Mapping[str, Any]) -> None:
    known = {key: md[key] for key in MetadataSettings.model_fields if key in md}
    try:
        MetadataSettings(**known)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg'].lower()}" for e in error.errors()]
        raise MetadataError(
            f"metadata refused before anything moved: {'; '.join(lines)}. Pass it to RE(plan, key=value) or set "
            "acquisition.metadata in the configuration."
        ) from None


def _writable(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        probe = root / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DataRootError(
            f"{root}: cannot be written ({error.strerror}). Set data_root in the configuration, or LUNCHBOX_DATA_ROOT, "
            "to a folder that can."
        ) from error
    return root


def calibrations_of(settings: LunchBoxSettings) -> Calibrations:
    """Those of this camera, at this bench, of this simulated world if it is one."""
    camera = settings.acquisition.camera
    world = settings.bench.model_dump_json() if camera.kind == "simulated" else ""
    name = f"{settings.prefix} {camera.kind} {camera.source} {world}"
    return Calibrations(settings.data_root, bench=hashlib.sha256(name.encode()).hexdigest()[:16])


def _link_calibrations(engine: RunEngine, known: Mapping[str, Any]) -> None:
    for key in KEYS:
        engine.md.pop(key, None)
    engine.md.update(known)


class _InTurns(DefaultDuringTask):
    """Waits for a plan in turns: the kernel may give a signal to another thread, which wakes nobody who only waits."""

    def block(self, blocking_event: threading.Event) -> None:
        matplotlib = sys.modules.get("matplotlib")
        if matplotlib is not None and "qt" in matplotlib.get_backend().lower():
            super().block(blocking_event)  # Qt's loop has turns of its own
        while not blocking_event.wait(_TURN):
            pass


class _SignalsAbort:
    """Within it, SIGINT and SIGTERM pause the RunEngine at once, so that the caller can abort the run."""

    def __init__(self, engine: RunEngine) -> None:
        self._engine = engine
        self._before: dict[int, Any] = {}
        self.received = False

    def __enter__(self) -> _SignalsAbort:
        self._managers = self._engine.context_managers
        self._engine.context_managers = []
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._abort)
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.context_managers = self._managers
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _abort(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        # In a thread: the RunEngine's lock may be held by the very frame that the signal interrupted.
        threading.Thread(target=self._request_pause, daemon=True).start()

    def _request_pause(self) -> None:
        # Between the question and the request another signal may have paused it already.
        with contextlib.suppress(TransitionError):
            if self._engine.state == "running":
                self._engine.request_pause(defer=False)
