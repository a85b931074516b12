"""`lunchbox repair`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lunchbox.console import Json, app, print_json


@app.command(epilog="Example: lunchbox repair data/frames/2026/11/25/5f0c.h5")
def repair(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A frame file whose writer was killed.")],
    output: Annotated[
        Path | None, typer.Option(help="The copy; by itself NAME.repaired.h5 beside the original.")
    ] = None,
    json_: Json = False,
) -> None:
    """Copy what is whole of a frame file, for programs that do not open the original.

    The original is kept, and runs go on naming it: nothing in LunchBox needs the copy.
    """
    from acquisition.repair import repair

    done = repair(file, output)
    if json_:
        fields = {"original": done.original, "copy": done.copy, "frames": done.frames, "found": done.found}
        return print_json({**fields, "reason": done.reason})
    typer.echo(f"{done.frames} of {done.found} frames are whole; they are in {done.copy}")
    if done.reason:
        typer.echo(f"then: {done.reason}")
