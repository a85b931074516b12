"""What all commands share: the application, its options, and how they print."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from acquisition.session import Session
    from catalog.client import Run, RunCatalog
    from config import LunchBoxSettings

app = typer.Typer(
    help="A bench-top diffraction beamline: record, catalogue and analyse, from a laser to a grating period.",
    epilog="Nothing attached? `lunchbox demo` does everything once, on the simulated bench.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: `-1` is a run, not an option.
NEGATIVE_NUMBERS = {"ignore_unknown_options": True}

#: Where `print_json` prints.
_answers: ContextVar[TextIO] = ContextVar("answers")


def _json_alone(context: typer.Context, json_: bool) -> bool:
    """What else is printed, by bluesky for one, goes to standard error."""
    if json_:
        _answers.set(sys.stdout)
        context.with_resource(contextlib.redirect_stdout(sys.stderr))
    return json_


Config = Annotated[Path | None, typer.Option(help="YAML file of what differs from the shipped settings.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of frames, journals and catalogue.")]
JSON_HELP = "One JSON object, and nothing else, on standard output."
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP, callback=_json_alone)]
Documents = Annotated[bool, typer.Option("--documents", help="Print every document as it is emitted.")]
Which = Annotated[str, typer.Argument(help="uid, its first characters, scan_id, or -1 for the last run.")]


def settings_of(config: Path | None, data_root: Path | None) -> LunchBoxSettings:
    from config import load_settings
    from config.settings import default_data_root

    settings = load_settings(config, **({} if data_root is None else {"data_root": data_root}))
    if settings.data_root == default_data_root():
        say(f"data root   {settings.data_root}   (the default; --data-root or LUNCHBOX_DATA_ROOT name another)")
    return settings


def open_session(settings: LunchBoxSettings) -> Session:
    from acquisition.session import open_session

    return open_session(settings)


def open_catalog(settings: LunchBoxSettings) -> contextlib.AbstractContextManager[RunCatalog]:
    from catalog import open_catalog

    return contextlib.closing(open_catalog(settings=settings))


def run_of(catalog: RunCatalog, which: str) -> Run:
    """`-1` and scan_ids are numbers; all else, and a number that no run has, is the beginning of a uid."""
    if re.fullmatch(r"-?\d{1,15}", which):
        with contextlib.suppress(KeyError):
            return catalog[int(which)]
    return catalog[which]


def say(line: str) -> None:
    typer.echo(line, err=True)


def print_json(value: dict[str, Any]) -> None:
    typer.echo(json.dumps(value, default=str), file=_answers.get())


def print_table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not rows:
        return typer.echo("no runs yet: `lunchbox scan` makes one, `lunchbox demo` shows how")
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=200).print(table)
