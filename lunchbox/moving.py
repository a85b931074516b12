"""Commands about where data are: `relocate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lunchbox.console import Config, DataRoot, Json, app, print_json, say, settings_of


@app.command(epilog="Example: lunchbox relocate /data/lunchbox/frames/2025 /archive/2025 --apply")
def relocate(
    old: Annotated[Path, typer.Argument(help="Folder of frames, as the documents name it.")],
    new: Annotated[Path, typer.Argument(help="Where it shall be, or already is.")],
    apply: Annotated[bool, typer.Option("--apply", help="Do it; without, only say what would be done.")] = False,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Move frames to another folder, or tell where they were moved.

    Copies what is not there yet, compares checksums, reads through what is there only, and then maps OLD to NEW for
    this data root. The old files stay: delete them yourself. Documents are never changed.
    """
    from catalog import relocate as moving

    settings = settings_of(config, data_root)
    found = moving.survey(settings, old, new)
    numbers = {name: len(getattr(found, name)) for name in ("to_copy", "to_compare", "to_read", "missing")}
    result = {"files": len(found), **numbers, "bytes_to_copy": found.bytes_to_copy, "applied": apply}
    if apply:
        from tqdm import tqdm

        with tqdm(total=len(found), unit="file", disable=None if not json_ else True) as bar:
            moving.relocate(settings, old, new, on_file=lambda name: bar.update())
    if json_:
        return print_json(result)
    typer.echo(
        f"{len(found)} files in {old}: {numbers['to_copy']} to copy ({found.bytes_to_copy / 1e6:.1f} MB), "
        f"{numbers['to_compare']} to compare, {numbers['to_read']} to read through, {numbers['missing']} missing"
    )
    if not apply:
        say("nothing was changed: --apply does it")
    else:
        typer.echo(f"{old} is read from {new} now. Start lunchbox serve again; then {old} can be deleted.")
