"""One thread that does what may hang, so that nobody else does: a camera's driver."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from catalog.errors import LunchBoxError

_Result = TypeVar("_Result")


class CameraError(LunchBoxError, RuntimeError):
    """There is no camera, or no frame came in time."""


class Worker:
    """Does one thing after the other, for a caller who does not wait longer than he wants.

    `idle`, where it is set, is called over and over while there is nothing to do; it ends that by returning False.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.idle: Callable[[], bool] | None = None
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._late: Future[Any] | None = None
        # A daemon: a driver that never returns must not keep the process alive.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def do(self, function: Callable[[], _Result], timeout: float) -> _Result:
        if self._late is not None and not self._late.done():
            raise CameraError(f"{self._name} still hangs. Unplug it, plug it in again and start anew.")
        future: Future[_Result] = Future()

        def task() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        self._tasks.put(task)
        try:
            return future.result(timeout)
        except TimeoutError:
            if future.done():  # its own, of something else that it waited for
                raise
            self._late = future
            raise CameraError(
                f"{self._name} hangs: nothing in {timeout:g} s. Check its cable, and that the exposure is shorter than "
                "acquisition.camera.timeout."
            ) from None

    def end(self) -> None:
        self._tasks.put(None)

    def _work(self) -> None:
        while True:
            idle = self.idle
            try:
                task = self._tasks.get(block=idle is None)
            except queue.Empty:
                if idle is not None and not idle():
                    self.idle = None
                continue
            if task is None:
                return
            task()
