"""The IOC as a child process, on free ports of the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import IO, Self

from acquisition.ioc.link import LinkError
from acquisition.ioc.ports import answers, free_port
from acquisition.ioc.settings import IOCSettings

COMMAND = (sys.executable, "-P", "-m", "acquisition.ioc")


class IOCProcess:
    """An IOC that lives as long as this process, at most.

    ::

        with IOCProcess(settings) as ioc:
            os.environ.update(ioc.environment)   # before ophyd is imported

    The laser is off when `stop` returns, and the IOC ends by itself, laser off, when this process dies.

    Parameters
    ----------
    settings : IOCSettings
    prefix : str
        Of every PV's name.
    command : sequence of str
        What runs the IOC; the options are added to it.

    Attributes
    ----------
    environment : dict
        What a client's environment must hold to find this IOC and no other.
    """

    def __init__(
        self, settings: IOCSettings | None = None, *, prefix: str = "LUNCHBOX:", command: Sequence[str] = COMMAND
    ) -> None:
        self.prefix = prefix
        self.port = free_port()
        self.environment = {
            "EPICS_CA_ADDR_LIST": "127.0.0.1",
            "EPICS_CA_AUTO_ADDR_LIST": "NO",
            "EPICS_CA_SERVER_PORT": str(self.port),
            "EPICS_CA_REPEATER_PORT": str(free_port()),
        }
        self._settings = IOCSettings() if settings is None else settings
        self._command = command
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the child process."""
        if self._process is None:
            raise RuntimeError("the IOC was not started")
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status of the child process, None while it lives."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> str:
        """What the IOC wrote so far."""
        if self._log is None:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    @property
    def _last_words(self) -> str:
        return (self.log.strip().splitlines() or ["it said nothing"])[-1]

    def start(self) -> None:
        """Start the child and return at once."""
        options = ["--prefix", self.prefix, "--settings", self._settings.model_dump_json(), "--until-eof"]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by stop)
        self._process = subprocess.Popen(
            [*self._command, *options],
            # Its own process group: a Ctrl-C in the terminal is for the scan, which still needs its IOC to clean up.
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=os.environ | self.environment,
        )

    def wait_until_ready(self, timeout: float = 15.0) -> None:
        """Return when the IOC answers; raise `LinkError` with what it said when it ends or is late."""
        deadline = time.monotonic() + timeout
        while not answers(f"{self.prefix}SERVO", port=self.port, timeout=0.05):
            if (status := self.poll()) is not None:
                raise LinkError(f"the IOC ended with status {status} before it answered: {self._last_words}")
            if time.monotonic() > deadline:
                raise LinkError(f"the IOC does not answer after {timeout:g} s: {self._last_words}")

    def stop(self, timeout: float = 5.0) -> None:
        """End the child; kill it when it takes longer than `timeout` seconds."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None
