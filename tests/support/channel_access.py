"""A PV's value, asked or written by a client that shares nothing with the one under test."""

from __future__ import annotations

import os
import time
from typing import Any
from unittest.mock import patch

from acquisition.ioc.process import IOCProcess


def _read(ioc: IOCProcess, name: str) -> Any:
    from caproto.sync.client import read

    with patch.dict(os.environ, ioc.environment):
        return read(f"{ioc.prefix}{name}", timeout=2, repeater=False).data


def value(ioc: IOCProcess, name: str) -> Any:
    """The PV `<prefix><name>` now."""
    return _read(ioc, name)[0]


def text(ioc: IOCProcess, name: str) -> str:
    """The same, of a character waveform."""
    return bytes(_read(ioc, name)).rstrip(b"\0").decode()


def put(ioc: IOCProcess, name: str, value: Any) -> None:
    """Write the PV, and wait until the IOC has done what that means."""
    from caproto.sync.client import write

    with patch.dict(os.environ, ioc.environment):
        write(f"{ioc.prefix}{name}", value, timeout=5, notify=True, repeater=False)


def wait_for(ioc: IOCProcess, name: str, wanted: Any, *, timeout: float) -> float:
    """Seconds until the PV has the value; TimeoutError with the last one if it does not."""
    started = time.monotonic()
    while (found := value(ioc, name)) != wanted:
        if time.monotonic() - started > timeout:
            raise TimeoutError(f"{name} is {found} after {timeout} s, not {wanted}")
        time.sleep(0.005)
    return time.monotonic() - started
