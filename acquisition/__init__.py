"""Moves and records: the IOC, the simulated bench, cameras, the ophyd device, plans. Knows nothing of fits or Tiled."""

from __future__ import annotations

import os

# Before anything imports ophyd: pyepics has no library for a 64-bit Raspberry Pi.
os.environ.setdefault("OPHYD_CONTROL_LAYER", "caproto")
