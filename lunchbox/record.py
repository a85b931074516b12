"""Commands that move and record: `ioc`, `scan`, `count`, `calibrate`."""

from __future__ import annotations

import pprint
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import (
    JSON_HELP,
    Config,
    DataRoot,
    Documents,
    Json,
    app,
    open_session,
    print_json,
    say,
    settings_of,
)

if TYPE_CHECKING:
    from acquisition.plans import Plan
    from acquisition.session import Session
    from config import LunchBoxSettings


class Backgrounds(StrEnum):
    EACH = "each"
    FIRST = "first"
    NONE = "none"


@app.command(epilog="Examples: lunchbox ioc --simulated;  lunchbox ioc --pico /dev/ttyACM0 --prefix BENCH7:")
def ioc(
    simulated: Annotated[bool, typer.Option("--simulated", help="Servo and laser that exist only here.")] = False,
    pico: Annotated[str | None, typer.Option(metavar="DEVICE", help="Serial device of the Pico.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Of every PV.")] = None,
    config: Config = None,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Serve servo and laser as EPICS PVs.

    Until Ctrl-C. The laser is off at the start, at the end, and whenever no client says that it wants it. On a real
    bench it starts disarmed, and gives no light before `lunchbox arm`.
    """
    if simulated and pico:
        raise typer.BadParameter("give --simulated or --pico, not both")
    from acquisition.ioc.__main__ import main as serve_pvs
    from config import load_settings

    settings = load_settings(config)
    arguments = ["--settings", settings.ioc.model_dump_json(), "--prefix", prefix or settings.prefix]
    arguments += ["--simulated"] if simulated else ["--pico", pico] if pico else []
    arguments += ["--json"] if json_ else []
    raise typer.Exit(serve_pvs(arguments))


@app.command(epilog="Example: lunchbox arm;  lunchbox arm --off")
def arm(
    off: Annotated[bool, typer.Option("--off", help="Disarm: the laser goes off, and stays off.")] = False,
    config: Config = None,
    json_: Json = False,
) -> None:
    """Allow the laser to shine, after a look at the bench.

    A real bench starts disarmed, a simulated one armed. Armed, the laser still shines only while a plan takes an image.
    """
    from acquisition.devices import Laser, connect
    from config import load_settings

    settings = load_settings(config)
    laser = Laser(settings.prefix, name="laser")
    connect(laser, timeout=settings.acquisition.connect_timeout)
    laser.arm(not off)
    if json_:
        return print_json({"armed": not off, "prefix": settings.prefix})
    typer.echo(f"{settings.prefix}LASER is {'disarmed' if off else 'armed'}")


@app.command(epilog="Examples: lunchbox scan --start 0 --stop 30 --points 31;  lunchbox scan --target-error 0.2")
def scan(
    start: Annotated[
        float | None, typer.Option(help="deg; by itself -45, or the servo's limit where that is nearer to 0.")
    ] = None,
    stop: Annotated[float | None, typer.Option(help="deg; by itself 45, or likewise.")] = None,
    points: Annotated[int, typer.Option(min=1, help="Angles, both ends included; at most, with --target-error.")] = 46,
    target_error: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=10, metavar="PERCENT", help="Choose the angles, and stop when lambda/d is known this well."
        ),
    ] = None,
    background: Annotated[
        Backgrounds, typer.Option(help="Take a frame with the laser off at each angle, at the first, or at none.")
    ] = Backgrounds.EACH,
    up_down: Annotated[bool, typer.Option("--up-down", help="There and back; `fit` then tells the backlash.")] = False,
    exposure: Annotated[
        list[float] | None,
        typer.Option(metavar="SECONDS", help="Of each angle a pair of frames of each of these; `fit` merges them."),
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, help="So many runs, one after the other.")] = 1,
    live: Annotated[
        bool, typer.Option("--live", help="Tell the fit of what there is so far after each angle.")
    ] = False,
    config: Config = None,
    data_root: DataRoot = None,
    documents: Documents = False,
    json_: Json = False,
) -> None:
    """Record frames at a row of grating angles.

    A background (laser off) and an image (laser on) at each. Needs a running IOC, and no server.

    With --background first, one background serves all images: quicker, and right only if the room light stays as it is.
    With --background none there is no background, and no fit.

    With --target-error the scan is fitted while it runs, each next angle is the one that tells most, and it ends early.
    """
    from acquisition import plans

    chosen = {"--target-error": target_error is not None, "--up-down": up_down, "--exposure": bool(exposure)}
    if sum(chosen.values()) > 1:
        raise typer.BadParameter(f"give one of {', '.join(name for name, given in chosen.items() if given)}")
    if background is not Backgrounds.EACH and any(chosen.values()):
        (option,) = (name for name, given in chosen.items() if given)
        raise typer.BadParameter(f"with {option} a background is taken at each angle: leave --background out")
    settings = settings_of(config, data_root)
    if target_error is not None:
        if repeat > 1 or live:
            raise typer.BadParameter("--target-error fits as it goes, and ends by itself: without --repeat and --live")
        return _adaptive(settings, start, stop, points, target_error / 100, documents=documents, json_=json_)

    def plan(session: Session) -> Plan:
        if up_down:
            return plans.up_down_scan(session.lunchbox, start=start, stop=stop, num=points)
        if exposure:
            return plans.exposure_scan(session.lunchbox, exposure, start=start, stop=stop, num=points)
        return plans.angle_scan(session.lunchbox, start=start, stop=stop, num=points, background=background.value)

    followers: list[Any] = []
    if live:
        if exposure:
            raise typer.BadParameter("--live fits each frame by itself, and --exposure needs several for one")
        if background is Backgrounds.NONE:
            raise typer.BadParameter("--live fits, and needs backgrounds: leave --background none out")
        from lunchbox.guide import LiveLines

        followers = [LiveLines(settings)]
    record(plan, settings, *followers, repeat=repeat, documents=documents, json_=json_)


def _adaptive(
    settings: LunchBoxSettings,
    start: float | None,
    stop: float | None,
    points: int,
    target_error: float,
    *,
    documents: bool,
    json_: bool,
) -> None:
    from acquisition.plans import adaptive_scan, scan_range
    from lunchbox.guide import APPROACH, Guide

    guide = Guide(settings, target_error=target_error, quiet=json_)

    def plan(session: Session) -> Plan:
        first = guide.look(*scan_range(session.lunchbox, start, stop))
        return adaptive_scan(session.lunchbox, first, guide.next_angle, max_points=points, approach=APPROACH)

    record(plan, settings, guide.live, documents=documents, json_=json_)
    if guide.error > guide.target_error:
        say(f"lambda/d is known to {100 * guide.error:.2f} % only: allow more --points, or a wider range of angles")


@app.command(epilog="Examples: lunchbox count --num 3 --documents;  lunchbox count --period 60 --duration 3600")
def count(
    num: Annotated[int, typer.Option(min=1, help="Pairs of frames.")] = 1,
    period: Annotated[float | None, typer.Option(min=0.001, metavar="SECONDS", help="One pair every so often.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.001, metavar="SECONDS", help="For so long.")] = None,
    config: Config = None,
    data_root: DataRoot = None,
    documents: Documents = False,
    json_: Json = False,
) -> None:
    """Record frames where the grating stands.

    With --period and --duration: a time series, which shows how the bench drifts.
    """
    from acquisition import plans, series

    if (period is None) != (duration is None):
        raise typer.BadParameter("--period and --duration go together")

    def plan(session: Session) -> Plan:
        if period is not None and duration is not None:
            return series.time_series(session.lunchbox, duration=duration, period=period)
        return plans.count(session.lunchbox, num=num)

    record(plan, settings_of(config, data_root), documents=documents, json_=json_)


@app.command(epilog="Examples: lunchbox calibrate;  lunchbox calibrate --lens;  lunchbox calibrate --lens board*.png")
def calibrate(
    images: Annotated[
        list[Path] | None, typer.Argument(help="With --lens: pictures of a chessboard; without them it is live.")
    ] = None,
    lens: Annotated[bool, typer.Option("--lens", help="Calibrate the lens, with a chessboard.")] = False,
    board: Annotated[str, typer.Option(help="With --lens: inner corners of the chessboard, across x down.")] = "9x6",
    square: Annotated[float, typer.Option(min=0.1, help="With --lens: side of its squares, mm.")] = 25.0,
    config: Config = None,
    data_root: DataRoot = None,
    documents: Documents = False,
    json_: Json = False,
) -> None:
    """Record the square target.

    It tells how large a pixel is on the screen; the scans that follow are linked to this run.

    With --lens the distortion of the lens is measured instead, once and for all, from pictures of a chessboard.
    """
    settings = settings_of(config, data_root)
    if lens:
        from lunchbox.lens import calibrate_lens_from

        return calibrate_lens_from(settings, images or [], board=board, square=square, json_=json_)
    if images:
        raise typer.BadParameter("pictures are for --lens; the target is recorded by the camera")
    from acquisition import plans

    def plan(session: Session) -> Plan:
        return plans.calibrate(session.lunchbox, bench=session.bench)

    record(plan, settings, documents=documents, json_=json_)


def record(
    plan_of: Callable[[Session], Plan],
    settings: LunchBoxSettings,
    *subscribers: Any,
    repeat: int = 1,
    documents: bool,
    json_: bool,
) -> None:
    """Run one plan, or its repetitions, in a session of its own, and say where the runs are."""
    from acquisition import series

    uids: list[str] = []

    def note(name: str, document: dict[str, Any]) -> None:
        if name == "start":
            uids.append(document["uid"])

    with open_session(settings) as session:
        plan = plan_of(session) if repeat == 1 else series.repeat(lambda: plan_of(session), num=repeat)
        session.run(plan, note, *subscribers, *printers(json_=json_, documents=documents))
    if json_:
        several = {"uids": uids} if repeat > 1 else {}
        return print_json({"uid": uids[-1], **several, "data_root": str(settings.data_root)})
    for uid in uids:
        typer.echo(f"run {uid} is in {settings.data_root}")


def printers(*, json_: bool, documents: bool) -> list[Any]:
    from acquisition.scan_table import ScanTable

    if documents:
        return [print_document]
    return [] if json_ else [ScanTable()]


def print_document(name: str, document: dict[str, Any]) -> None:
    print(name, pprint.pformat(document, sort_dicts=False), sep="\n")
