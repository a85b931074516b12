"""The EPICS process that owns the servo and the laser: `python -m acquisition.ioc`.

`pvs` holds the PVs (their table is its docstring) and `server` the process that serves them; `link` says what a servo
and a laser must be able to do, and `simulated` and `pico` do it. `process` runs the whole as a child process for those
who need an IOC for a while.
"""
