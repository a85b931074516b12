"""Commands that take runs out and in: `export`, `import`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lunchbox.console import NEGATIVE_NUMBERS, Config, DataRoot, Json, Which, app, print_json, say, settings_of


class Form(StrEnum):
    """What `export` can write."""

    nexus = "nexus"
    hdf5 = "hdf5"
    csv = "csv"
    tiff = "tiff"
    jsonl = "jsonl"
    pack = "pack"


@app.command(
    context_settings=NEGATIVE_NUMBERS,
    epilog="Examples: lunchbox export -1 --to nexus;  lunchbox export 3f2a --to pack --output /media/stick",
)
def export(
    which: Which = "-1",
    to: Annotated[Form, typer.Option(help="nexus has the fit in it; pack is what `lunchbox import` takes.")] = (
        Form.nexus
    ),
    output: Annotated[Path, typer.Option(help="Folder to write to.")] = Path(),
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Write a run for other programs, or to take along.

    From journal and frames: it needs no server, and no catalogue.
    """
    from catalog.export import export
    from catalog.recorded import find_run, fits_of

    settings = settings_of(config, data_root)
    run = find_run(settings, which)
    fits = fits_of(settings, run.uid) if to in (Form.nexus, Form.hdf5, Form.csv, Form.pack) else []
    paths = export(run, fits, to.value, output)
    if json_:
        return print_json({"uid": run.uid, "files": [str(path) for path in paths], "fits": [fit.uid for fit in fits]})
    for path in paths:
        typer.echo(path)
    if not fits and to == Form.nexus:
        say(f"without a fit, as there is none yet: lunchbox fit {run.uid[:8]}")


@app.command("import", epilog="Example: lunchbox import lunchbox-3f2a91c2.zip")
def import_(
    archive: Annotated[Path, typer.Argument(help="What `lunchbox export --to pack` wrote.")],
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Take in a run that was packed elsewhere, with its fits and its calibration.

    An archive that was altered is refused. What is here already is left as it is.
    """
    from catalog.unpack import take_in

    done = take_in(settings_of(config, data_root), archive)
    if json_:
        return print_json({"imported": done.imported, "present": done.present})
    for uid in done.imported:
        typer.echo(f"imported    {uid}")
    for uid in done.present:
        typer.echo(f"was here    {uid}")
    if done.imported:
        say("a running lunchbox serve lists it in a moment; start it again if the frames cannot be read")
