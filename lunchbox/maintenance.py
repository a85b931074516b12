"""Commands about the catalogue as a whole: `rebuild`, `ingest`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lunchbox.console import Config, DataRoot, Json, app, print_json, say, settings_of


@app.command(epilog="Example: lunchbox rebuild")
def rebuild(
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Make the catalogue again, from journals and frames.

    The old one is read until the new one is complete. After an interruption it goes on where it was. A catalogue in
    PostgreSQL is filled: runs that it has stay, those that it lacks are put in.
    """
    from catalog.rebuild import rebuild as rebuild_catalogue

    settings = settings_of(config, data_root)
    with _progress("runs") as progress:
        done = rebuild_catalogue(settings, progress=progress)
    if json_:
        return print_json({**asdict(done), "runs_per_second": done.runs_per_second})
    typer.echo(f"catalogue   {done.catalogue}")
    typer.echo(f"in it       {_runs(done.runs)}, {done.seconds:.1f} s, {done.runs_per_second:.0f} runs/s")
    if done.there_before:
        typer.echo(f"            {done.there_before} of them were there before, and stay as they are")
    if done.in_progress:
        typer.echo(f"not yet     {_runs(done.in_progress)} in progress")
    if done.quarantined:
        typer.echo(f"bad         {_runs(done.quarantined)}; {settings.data_root}/catalog/quarantine tells why")
    if done.still_read:
        say("A running server goes on with the old catalogue: stop `lunchbox serve`, and start it again.")


@app.command(epilog="Example: lunchbox ingest --to http://archive.example.org:8000 --key-file archive.key")
def ingest(
    to: Annotated[str, typer.Option("--to", help="Address of a Tiled server that has a catalogue of runs.")],
    key_file: Annotated[
        Path | None, typer.Option(help="File that holds the key; default: the variable TILED_API_KEY.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what is recorded, until Ctrl-C.")] = False,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Send runs to a Tiled server elsewhere.

    A run is there once, however often it is sent. That server must see the files of the frames, too.
    """
    from catalog.sending import follow_runs, send_runs

    settings, key = settings_of(config, data_root), _key(key_file)
    if follow:
        return _until_interrupted(lambda stop: follow_runs(settings, to, api_key=key, stop=stop))
    with _progress("runs") as progress:
        done = send_runs(settings, to, api_key=key, progress=progress)
    if json_:
        print_json(asdict(done))
    else:
        typer.echo(f"sent        {_runs(done.sent)}")
        typer.echo(f"there       {_runs(done.there_before)} before")
        if done.in_progress:
            typer.echo(f"not yet     {_runs(done.in_progress)} in progress")
    for journal, reason in done.refused.items():
        say(f"refused     {journal}: {reason}")
    if done.refused:
        raise typer.Exit(1)


def _key(file: Path | None) -> str:
    from catalog.client import CatalogUnavailable

    if file is None:
        key = os.environ.get("TILED_API_KEY", "")
        if not key:
            raise CatalogUnavailable("no key: put it into TILED_API_KEY, or name its file with --key-file.")
        return key
    try:
        return file.read_text().strip()
    except OSError as error:
        raise CatalogUnavailable(f"{file}: {error.strerror}. Give --key-file the file that holds the key.") from None


def _until_interrupted(work: Callable[[threading.Event], None]) -> None:
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        work(stop)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, and nothing elsewhere."""
    from tqdm import tqdm

    with tqdm(unit=f" {what}", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress
