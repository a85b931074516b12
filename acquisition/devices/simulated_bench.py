"""What the simulated camera looks at."""

from __future__ import annotations

from ophyd import Component as Cpt
from ophyd import Device, EpicsSignal, EpicsSignalRO


class SimulatedBench(Device):
    """PVs that only the simulated IOC has: what the simulated camera looks at."""

    shaft = Cpt(EpicsSignalRO, "SIM:SHAFT", kind="omitted")
    target = Cpt(EpicsSignal, "SIM:TARGET", put_complete=True, kind="omitted")
    laser = Cpt(EpicsSignalRO, "LASER:RBV", kind="omitted")
