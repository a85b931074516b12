"""Commands about recorded runs: `serve`, `show`."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import (
    NEGATIVE_NUMBERS,
    Config,
    DataRoot,
    Json,
    app,
    open_catalog,
    print_json,
    print_table,
    run_of,
    settings_of,
)

if TYPE_CHECKING:
    from catalog.server import Server

#: Of the server's process: a busy machine gives a scan ten times as much.
NICENESS = 10


@app.command(epilog="Example: lunchbox serve --port 8020, then open the printed address")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Serve the catalogue over HTTP (Tiled).

    Takes in runs as they are recorded, until Ctrl-C. Prints the address, and where the key is.
    """
    from catalog.server import serve as serve_catalog

    settings = settings_of(config, data_root)

    def ready(server: Server) -> None:
        if json_:
            return print_json({"uri": server.uri, "key_file": str(server.store.key_file)})
        typer.echo(
            f"catalogue   {server.uri}\n"
            f"key         in {server.store.key_file}\n"
            f"web page    {server.uri}/ui/?api_key=KEY   with the key in the place of KEY\n"
            "python      from catalog import open_catalog; open_catalog()[-1]\n"
            'databroker  from databroker import catalog; catalog["lunchbox"][-1]\n'
            "Runs appear here as they are recorded. Ctrl-C ends it; scans go on without it."
        )

    # A scan on this machine, whose points come when they come, goes before readers, who can wait.
    os.nice(NICENESS)
    serve_catalog(settings, host=host, port=port, on_ready=ready)


@app.command(context_settings=NEGATIVE_NUMBERS, epilog="Examples: lunchbox show;  lunchbox show -1")
def show(
    which: Annotated[
        str | None, typer.Argument(help="uid, its first characters, scan_id, or -1; none lists runs.")
    ] = None,
    num: Annotated[int, typer.Option(min=1, help="How many runs the list shows.")] = 10,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """List the last runs, or tell about one."""
    with open_catalog(settings_of(config, data_root)) as catalog:
        if which is None:
            runs = [summary_of(run) for run in catalog.values().tail(num)]
            return print_json({"runs": runs}) if json_ else print_table(runs)
        run = run_of(catalog, which)
        summary = summary_of(run) | {"fits": [fit_summary(fit) for fit in catalog.fits(run).values()]}
    if json_:
        return print_json(summary)
    fits = summary.pop("fits")
    for name, value in summary.items():
        typer.echo(f"{name:12}{value}")
    for fit_ in fits:
        value, stderr = fit_["lambda_over_d"], fit_["lambda_over_d_stderr"]
        typer.echo(f"fit         lambda/d = {value:.6f} +- {stderr:.1g}   {fit_['uid']}")


def summary_of(run: Any) -> dict[str, Any]:
    start, stop = run.start, run.stop
    return {
        "scan_id": start.get("scan_id"),
        "uid": start["uid"],
        "time": datetime.fromtimestamp(start["time"]).isoformat(sep=" ", timespec="seconds"),
        "plan_name": start.get("plan_name"),
        "operator": start.get("operator"),
        "status": "in progress" if stop is None else stop["exit_status"],
        "events": (stop or {}).get("num_events", {}).get("primary", 0),
    }


def fit_summary(run: Any) -> dict[str, Any]:
    """`GratingFit`'s numbers of an analysis run."""
    results = run["results"].read()
    names = ("lambda_over_d", "lambda_over_d_stderr", "grating_period", "grating_period_stderr")
    return {"uid": run.start["uid"], **{name: float(results[name][-1]) for name in names}}
