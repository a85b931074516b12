"""`lunchbox fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import (
    NEGATIVE_NUMBERS,
    Config,
    DataRoot,
    Json,
    Which,
    app,
    open_catalog,
    print_json,
    run_of,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from analysis import GratingFit
    from catalog.client import RunCatalog
    from config import LunchBoxSettings


@app.command(context_settings=NEGATIVE_NUMBERS, epilog="Examples: lunchbox fit;  lunchbox fit -2 --table spacing.csv")
def fit(
    which: Which = "-1",
    table: Annotated[Path | None, typer.Option(help="CSV file to write: peak spacing against angle.")] = None,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Fit a scan, and store and draw the result.

    Peak spacing against grating angle, the grating period, and an error that can be believed.
    """
    settings = settings_of(config, data_root)
    with open_catalog(settings) as catalog:
        uid = run_of(catalog, which).start["uid"]
        fit_, figure = fit_run(settings, catalog, uid)
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        fit_.peak_spacing.to_csv(table, index=False)
        say(f"table       {table}")
    if json_:
        return print_json(fit_result(uid, fit_, figure))
    print_fit(uid, fit_, figure)


def fit_run(settings: LunchBoxSettings, catalog: RunCatalog, uid: str) -> tuple[GratingFit, Path]:
    """Fit, store the result as a run of its own, and draw it."""
    from analysis import fit_grating, load_scan
    from analysis.results import store
    from catalog import layout
    from catalog.journal import Journal

    fit_ = fit_grating(load_scan(uid, catalog))
    with Journal(settings.data_root / layout.JOURNAL_DIR) as journal:
        stored = store(fit_, fit_.scan, journal)
    figure = settings.data_root / layout.FIGURES_DIR / f"{uid}.png"
    figure.parent.mkdir(exist_ok=True)
    fit_.save_figure(figure)
    catalog.wait_for(stored)
    return fit_, figure


def fit_result(uid: str, fit_: GratingFit, figure: Path) -> dict[str, Any]:
    return {
        "uid": uid,
        "lambda_over_d": fit_.lambda_over_d,
        "lambda_over_d_stderr": fit_.lambda_over_d_stderr,
        "grating_period": fit_.grating_period,
        "grating_period_stderr": fit_.grating_period_stderr,
        "groove_density": fit_.groove_density,
        "groove_density_stderr": fit_.groove_density_stderr,
        "reduced_chi_squared": fit_.reduced_chi_squared,
        "flags": list(fit_.flags),
        "calibration": fit_.calibration.source,
        "calibration_uid": fit_.scan.calibration_uid or None,
        "lens_uid": fit_.scan.lens_uid or None,
        "figure": str(figure),
        **_backlash(fit_),
    }


def _backlash(fit_: GratingFit) -> dict[str, float]:
    """Of a scan that went there and back; else nothing."""
    from analysis.backlash import backlash
    from analysis.errors import BadScan

    try:
        found = backlash(fit_)
    except BadScan:
        return {}
    return {"backlash_deg": found.width, "backlash_deg_stderr": found.stderr}


def print_fit(uid: str, fit_: GratingFit, figure: Path) -> None:
    typer.echo(f"uid         {uid}")
    typer.echo(fit_.summary())
    if found := _backlash(fit_):
        typer.echo(f"backlash    {found['backlash_deg']:.2f} +- {found['backlash_deg_stderr']:.2f} deg of the servo")
    typer.echo(f"figure      {figure}")
