"""`lunchbox doctor`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import typer

from lunchbox.console import Config, DataRoot, Json, app, print_json
from lunchbox.finding import Finding, Findings

_MARKS = {"ok": "ok     ", "warning": "warning", "broken": "BROKEN "}


@app.command(epilog="Example: lunchbox doctor --config bench.yml")
def doctor(config: Config = None, data_root: DataRoot = None, json_: Json = False) -> None:
    """Look for what is wrong, and say what to do about it.

    Installation, configuration, PVs, camera, serial line, disk, clock, catalogue. The exit status is 1 if something is
    broken. Nothing is changed, nothing moves, and the laser stays as it is.
    """
    findings = []
    for finding in examine(config, data_root):
        findings.append(finding)
        if not json_:
            typer.echo(f"{_MARKS[finding.status]}  {finding.check:<15}{finding.found}")
            if finding.remedy:
                typer.echo(f"{'':9}-> {finding.remedy}")
    broken = [finding for finding in findings if finding.status == "broken"]
    if json_:
        print_json({"broken": len(broken), "findings": [asdict(finding) for finding in findings]})
    elif not broken:
        typer.echo("nothing is broken")
    raise typer.Exit(1 if broken else 0)


def examine(config: Config, data_root: DataRoot) -> Findings:
    """Each finding as it is made. A check that fails itself is a finding, too."""
    from lunchbox import installation

    for check in (installation.hidden_packages, installation.versions, installation.handlers):
        yield from _guarded(check.__name__, check)
    from config import ConfigurationError, load_settings

    try:
        settings = load_settings(config, **({} if data_root is None else {"data_root": data_root}))
    except ConfigurationError as error:
        for line in str(error).splitlines():
            yield Finding("configuration", "broken", line, "mend it; docs/reference/configuration.md has every key")
        return
    yield Finding("configuration", "ok", f"prefix {settings.prefix}, data root {settings.data_root}")
    from lunchbox import hardware, storage

    checks = (storage.disk, storage.clock, hardware.serial, hardware.pvs, hardware.camera)
    for examination in (*checks, storage.catalogue, storage.quarantine, storage.last_frames):
        yield from _guarded(examination.__name__, partial(examination, settings))


def _guarded(name: str, check: Callable[[], Findings]) -> Findings:
    try:
        yield from check()
    except Exception as error:
        yield Finding(name, "broken", f"the check itself failed: {type(error).__name__}: {error}", "tell us, please")
