"""Journals whose writer died.

A writer holds an `flock` on its journal from before the start document to its end, and the kernel drops it whatever
way the process ends. So a journal with a start, no stop and no lock has lost its writer.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from catalog.journal_files import has_start, is_finished
from catalog.journal_lines import JournalError, decode, encode

DIED = "the process that wrote the journal ended without a stop document"


def has_writer(path: Path) -> bool:
    """Whether a living process holds the journal open for writing."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def is_over(path: Path) -> bool:
    """Whether a journal is as long as it will ever be; one whose writer died is closed for it."""
    if is_finished(path):
        return True
    if not has_start(path) or has_writer(path):
        return False
    close_dead(path, reason=DIED)
    return True


def close_dead(path: Path, *, reason: str) -> bool:
    """Give a journal whose writer died a stop document; False if nothing is missing or its writer lives.

    A torn last line is cut off: it was never acknowledged. Doing it twice changes nothing.
    """
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        start: dict[str, Any] | None = None
        streams: dict[str, str] = {}
        num_events: dict[str, int] = {}
        end = 0
        last_time = 0.0
        for name, doc, offset in _whole_lines(file, path):
            end = offset
            times = doc.get("time", 0.0)
            last_time = max(last_time, *times) if isinstance(times, list) else max(last_time, times)
            if name == "start":
                start = doc
            elif name == "stop":
                return _terminate(file, end)
            elif name == "descriptor":
                streams[doc["uid"]] = doc["name"]
                num_events.setdefault(doc["name"], 0)
            elif name in ("event", "event_page"):
                stream = streams.get(doc["descriptor"], "")
                num_events[stream] = num_events.get(stream, 0) + (1 if name == "event" else len(doc["seq_num"]))
        if start is None:
            return False
        stop = {
            "uid": _uid_of_stop(start["uid"]),
            "time": last_time,  # the last sign of life
            "run_start": start["uid"],
            "exit_status": "abort",
            "reason": reason,
            "num_events": num_events,
        }
        file.truncate(end)
        _terminate(file, end)
        file.write(encode("stop", stop))
        file.flush()
        os.fsync(file.fileno())
    return True


def _whole_lines(file: IO[bytes], path: Path) -> Iterator[tuple[str, dict[str, Any], int]]:
    """(name, document, offset behind it) of every line that is whole."""
    offset = 0
    for number, line in enumerate(file, start=1):
        offset += len(line)
        try:
            yield *decode(line, where=f"{path}, line {number}"), offset
        except JournalError:
            if line.endswith(b"\n"):
                raise


def _terminate(file: IO[bytes], end: int) -> bool:
    """Give the last whole line its line feed; False if it has one."""
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return False
    file.write(b"\n")
    return True


def _uid_of_stop(run_uid: str) -> str:
    # Derived from the run's, so that recovery on two copies of a journal gives the same document.
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"abort {run_uid}"))
