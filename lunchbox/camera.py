"""`lunchbox camera`: which there are, and what the configured one sees, in a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import Config, Json, app, print_json, say

if TYPE_CHECKING:
    from acquisition.camera import Camera
    from config import LunchBoxSettings


@app.command(epilog="Examples: lunchbox camera;  lunchbox camera --save frame.png;  lunchbox camera --list")
def camera(
    list_: Annotated[bool, typer.Option("--list", help="Only list the cameras of this machine; open none.")] = False,
    save: Annotated[Path | None, typer.Option(help="PNG file to write one frame to; no live picture.")] = None,
    laser: Annotated[
        float, typer.Option(min=0, max=1, metavar="POWER", help="Of the laser meanwhile; needs a running IOC.")
    ] = 0.0,
    config: Config = None,
    json_: Json = False,
) -> None:
    """List the cameras, and show what the configured one sees.

    In a terminal: a live picture, the histogram, and how much is saturated, until Ctrl-C. Elsewhere, and with --json or
    --save: the numbers of one frame.
    """
    from acquisition.cameras import list_cameras
    from config import load_settings

    settings = load_settings(config)
    found = [asdict(one) for one in list_cameras()]
    if list_ and json_:
        return print_json({"cameras": found})
    if not json_:
        for one in found:
            typer.echo(
                f"found       {one['model']}: acquisition.camera {{kind: {one['kind']}, source: {one['source']}}}"
            )
        if not found:
            typer.echo("found       no camera on this machine (the simulated one needs none)")
    if list_:
        return None
    with _opened(settings, laser) as eye:
        # A frame before anything is shown: what is wrong is then said in one line.
        frame = eye.grab().data
        if save is not None:
            _write(save, frame)
        if save is not None or json_ or not sys.stdout.isatty():
            numbers = {"camera": eye.settings(), **statistics(frame)}
            return print_json({"cameras": found, **numbers}) if json_ else _print(numbers)
        _watch(eye)


@contextlib.contextmanager
def _opened(settings: LunchBoxSettings, power: float) -> Iterator[Camera]:
    """The configured camera, and the laser on; off when this ends, and by the IOC's watchdog if it cannot end."""
    from acquisition.devices import Laser, connect
    from acquisition.session import camera_of

    eye, bench = camera_of(settings)
    laser = Laser(settings.prefix, name="laser", settings=settings.acquisition.laser) if power else None
    try:
        devices = [device for device in (bench, laser) if device is not None]
        connect(*devices, timeout=settings.acquisition.connect_timeout)
        eye.open()
        if laser is not None:
            say("the laser is on until this ends: do not look into the beam")
            laser.on(power)
        yield eye
    finally:
        if laser is not None:
            with contextlib.suppress(Exception):
                laser.off()
        eye.close()


def statistics(frame: Any) -> dict[str, Any]:
    """Of a frame of shape (y, x, 3), counts: mean, largest and saturated share of R, G, B, and R's histogram of 64."""
    import numpy as np

    return {
        "shape": list(frame.shape),
        "mean": [round(float(value), 2) for value in frame.mean((0, 1))],
        "largest": [int(value) for value in frame.max((0, 1))],
        "saturated": [round(float(value), 6) for value in (frame == 255).mean((0, 1))],
        "histogram": [int(n) for n in np.bincount(frame[..., 0].ravel() // 4, minlength=64)],
    }


def _print(numbers: dict[str, Any]) -> None:
    told = {key: value for key, value in numbers["camera"].items() if not key.endswith("_wanted")}
    typer.echo(f"camera      {', '.join(f'{key} {value}' for key, value in told.items())}")
    for line in lines_of(numbers):
        typer.echo(line)


def lines_of(numbers: dict[str, Any], *, height: int = 6) -> list[str]:
    """The numbers and the histogram, its counts in logarithms, as lines of text."""
    import numpy as np

    height_px, width, _ = numbers["shape"]
    saturated = ", ".join(f"{100 * share:.3g} %" for share in numbers["saturated"])
    full = "   too bright: expose shorter" if max(numbers["saturated"]) > 0.001 else ""
    lines = [
        f"frame       {width} x {height_px}",
        f"mean        R {numbers['mean'][0]:.1f}  G {numbers['mean'][1]:.1f}  B {numbers['mean'][2]:.1f}",
        f"largest     R {numbers['largest'][0]}  G {numbers['largest'][1]}  B {numbers['largest'][2]}",
        f"saturated   {saturated}{full}",
    ]
    heights = np.log1p(numbers["histogram"])
    eighths = np.rint(heights / max(float(heights.max()), 1e-9) * 8 * height).astype(int)
    for row in reversed(range(height)):
        lines.append("            " + "".join(" ▁▂▃▄▅▆▇█"[min(max(n - 8 * row, 0), 8)] for n in eighths))
    lines.append(f"red         0{'255':>63}")
    return lines


def picture_of(frame: Any, *, width: int, height: int) -> list[str]:
    """The frame as `height` lines of half blocks in 24-bit colour, at most `width` wide, in its own proportions."""
    import cv2

    scale = min(width / frame.shape[1], 2 * height / frame.shape[0])
    size = (max(1, int(frame.shape[1] * scale)), max(2, int(frame.shape[0] * scale) // 2 * 2))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(int)
    lines = []
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        cells = (
            f"\x1b[38;2;{r};{g};{b}m\x1b[48;2;{x};{y};{z}m▀" for (r, g, b), (x, y, z) in zip(upper, lower, strict=True)
        )
        lines.append("".join(cells) + "\x1b[0m")
    return lines


def _watch(eye: Camera) -> None:
    out, over = sys.stdout, threading.Event()
    # Not as an exception: one that is raised within a callback of a library is lost.
    before = signal.signal(signal.SIGINT, lambda *_: over.set())
    # The other screen, without a cursor: what was on the terminal is there again afterwards.
    out.write("\x1b[?1049h\x1b[?25l")
    try:
        while not over.is_set():
            frame = eye.grab().data
            columns, rows = os.get_terminal_size()
            lines = lines_of(statistics(frame))
            lines = [*picture_of(frame, width=columns, height=max(rows - len(lines) - 2, 4)), *lines, "Ctrl-C ends it"]
            out.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in lines[: rows - 1]) + "\x1b[J")
            out.flush()
    finally:
        signal.signal(signal.SIGINT, before)
        out.write("\x1b[?25h\x1b[?1049l")
        out.flush()


def _write(path: Path, frame: Any) -> None:
    import cv2

    if path.suffix.lower() != ".png":
        raise typer.BadParameter(
            f"{path}: a PNG file keeps every count; its name must end in .png", param_hint="--save"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    assert done
    path.write_bytes(encoded.tobytes())
    say(f"saved       {path}")
