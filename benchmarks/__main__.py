"""`python -m benchmarks [ROOM ...]` (see ROOMS): a table of ours, the peer or floor, and their ratio."""

from __future__ import annotations

import argparse
from importlib import import_module

from rich.console import Console
from rich.table import Table

ROOMS = ("acquisition", "reading", "frames", "ingest", "load", "scale", "analysis", "adaptive", "demo")


def main() -> None:
    """Measure the rooms that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"one of {', '.join(ROOMS)}; by itself all")
    rooms = parser.parse_args().rooms or ROOMS
    if unknown := set(rooms) - set(ROOMS):
        parser.error(f"no such room: {', '.join(sorted(unknown))}; there are {', '.join(ROOMS)}")
    console = Console(width=120, markup=False)
    table = Table(title="LunchBox, against a peer or a floor measured in the same run")
    for name in ("what", "unit", "ours", "against", "theirs", "ratio"):
        table.add_column(name, justify="right" if name in ("ours", "theirs", "ratio") else "left", no_wrap=True)
    for room in rooms:
        with console.status(f"measuring {room}"):
            for row in import_module(f"benchmarks.{room}").rows():
                theirs, ratio = (f"{value:.3g}" if value is not None else "" for value in (row.theirs, row.ratio))
                table.add_row(row.what, row.unit, f"{row.ours:.3g}", row.against, theirs, ratio)
    console.print(table)


if __name__ == "__main__":
    main()
