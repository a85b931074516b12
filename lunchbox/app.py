"""The console script: the commands of all families, and what becomes of their errors."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import Annotated

import typer

# isort: off
# Each adds its commands; `--help` lists them in this order.
from lunchbox import record, aligning, queueing, fitting, validating, catalogue, maintenance, exporting  # noqa: F401
from lunchbox import moving, keys, repairing, camera, doctor, demo  # noqa: F401

# isort: on
from lunchbox.console import app


@app.callback()
def main_options(
    traceback: Annotated[bool, typer.Option("--traceback", help="After an error, show where it came from.")] = False,
) -> None:
    """Read by `main`, wherever it stands on the line."""


def main() -> None:
    """The console script: errors in one line with the remedy, and an exit status that tells."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--traceback"]
    show_traceback = len(arguments) < len(sys.argv) - 1
    if not show_traceback:
        # What these libraries log on the way is said again, better, by the error that ends the command.
        for name in ("bluesky", "ophyd", "caproto", "tiled", "httpx"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    from catalog.errors import LunchBoxError

    try:
        app(args=arguments)
    except LunchBoxError as error:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is cleaned up: an impatient Ctrl-C must not hide why
        if show_traceback:
            raise
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read what is printed has enough; what Python itself would still say of it goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if show_traceback:
            raise
        said = " ".join(str(error).split()) or "no more is known"
        typer.echo(f"{type(error).__name__}: {said} (lunchbox --traceback tells where)", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
