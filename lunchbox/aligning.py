"""`lunchbox align`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import Config, DataRoot, Json, app, open_session, print_json, settings_of
from lunchbox.record import printers

if TYPE_CHECKING:
    from analysis.alignment import Alignment
    from config import LunchBoxSettings


@app.command(epilog="Example: lunchbox align --span 20")
def align(
    span: Annotated[float, typer.Option(min=2, max=80, help="deg; angles from -span to +span are looked at.")] = 20.0,
    points: Annotated[int, typer.Option(min=5, max=101, help="Angles.")] = 9,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Find where the beam meets the grating at right angles, and turn it there.

    Tells too where the zero order hits the screen, and by how much to move the camera to see it in its centre.
    """
    from acquisition.series import align as align_plan
    from lunchbox.guide import live_fit

    settings = settings_of(config, data_root)
    live = live_fit(settings)
    found: list[Alignment] = []

    def zero() -> float:
        from analysis.alignment import alignment
        from analysis.errors import BadScan

        if live.fit is None:
            raise BadScan(f"no fit of these {live.taken} angles: {live.why}. Look at a frame: is the zero order in it?")
        found.append(alignment(live.fit))
        return found[0].zero_deg

    with open_session(settings) as session:
        angles = [-span + 2 * span * i / (points - 1) for i in range(points)]
        uid = session.run(align_plan(session.lunchbox, angles, zero), live, *printers(json_=json_, documents=False))
    (result,) = found
    advice = _advice(result, settings)
    if json_:
        return print_json({"uid": uid, **asdict(result), **advice})
    typer.echo(f"run {uid} is in {settings.data_root}")
    typer.echo(
        f"zero incidence  servo {result.zero_deg:+.2f} +- {result.zero_deg_stderr:.2f} deg; the grating is there now"
    )
    typer.echo(
        f"zero order      pixel ({result.x:.1f}, {result.y:.1f}), "
        f"{result.right_mm:+.1f} mm to the right of the frame's centre and {result.below_mm:+.1f} mm below it"
    )
    typer.echo(f"to call this angle 0, set ioc.zero_deg: {advice['ioc_zero_deg']:.2f}")


def _advice(result: Alignment, settings: LunchBoxSettings) -> dict[str, Any]:
    return {"ioc_zero_deg": round(settings.ioc.zero_deg + result.zero_deg, 3)}
