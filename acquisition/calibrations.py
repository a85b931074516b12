"""Which calibrations the runs of a bench are linked to: of the screen by its target, of the lens by a chessboard.

They are remembered in one small file of the data root, for one bench: another camera, or another simulated world, has
calibrations of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

#: Keys of a start document: uid of the target's run; the lens and the uid of its run.
KEYS = ("calibration_uid", "lens", "lens_uid")


class Calibrations:
    """What the next run's start document says of calibrations.

    `bench` names what a calibration is true for (`acquisition.session.calibrations_of`).
    """

    def __init__(self, data_root: Path, *, bench: str) -> None:
        self._path = data_root / "calibration.json"
        self._bench = bench

    def read(self) -> dict[str, Any]:
        """The `KEYS` that are known."""
        try:
            last = json.loads(self._path.read_text(encoding="utf-8"))
            if last["bench"] != self._bench:
                return {}
            return {key: last[key] for key in KEYS if last.get(key) is not None}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError) as error:
            print(f"{self._path} is not readable ({error}): calibrate again", file=sys.stderr)
            return {}

    def use(self, **values: Any) -> dict[str, Any]:
        """Remember some of the `KEYS`, None to forget one; returns all that are known now."""
        now = self.read() | values
        known = {key: now[key] for key in KEYS if now.get(key) is not None}
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        new.write_text(json.dumps({"bench": self._bench, **known}), encoding="utf-8")
        new.replace(self._path)
        return known
