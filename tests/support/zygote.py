"""Processes that are there at once: forked from one that has imported what takes long.

    with Zygote() as zygote:
        child = zygote.fork("victim:scan", folder / "out", environment, "argument", ...)

The function runs in a process of its own, with its own Channel Access; it can be sent any signal.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self


class Child:
    """A process that a zygote forked."""

    def __init__(self, pid: int, out: Path) -> None:
        self.pid = pid
        self._out = out
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._pidfd = -1

    def said(self) -> list[dict[str, Any]]:
        """What it has told so far, one object a line."""
        lines = self._out.read_text().splitlines(keepends=True) if self._out.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    @property
    def output(self) -> str:
        return self._out.read_text() if self._out.exists() else ""

    def send(self, number: int) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, timeout: float) -> bool:
        """Whether it ended in time."""
        return self._pidfd < 0 or bool(select.select([self._pidfd], [], [], timeout)[0])

    def close(self) -> None:
        self.send(signal.SIGKILL)
        if self._pidfd >= 0:
            self.wait(5)
            os.close(self._pidfd)
            self._pidfd = -1


class Zygote:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPHYD_CONTROL_LAYER": "dummy"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def fork(self, target: str, out: Path, environment: Mapping[str, str], *arguments: Any) -> Child:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"target": target, "out": str(out), "environment": dict(environment), "arguments": arguments}
        with self._lock:
            self._process.stdin.write(json.dumps(order, default=str) + "\n")
            self._process.stdin.flush()
            return Child(int(self._process.stdout.readline()), out)


def _serve() -> None:
    # All that is heavy and starts no thread. ophyd starts some with its control layer, which is the child's to set: the
    # layer also finds the IOC of the child's own environment.
    for name in ("acquisition.plans", "acquisition.session", "caproto.threading.pyepics_compat", "config"):
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for here
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        print(pid, flush=True)


def _become(order: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    status = 1
    try:
        out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(ours, theirs)
        os.environ.update(order["environment"])
        importlib.import_module("ophyd").set_cl("caproto")
        module, function = order["target"].split(":")
        getattr(importlib.import_module(module), function)(*order["arguments"])
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _serve()
