"""`lunchbox calibrate --lens`: a chessboard, live or from pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lunchbox.console import print_json, say

if TYPE_CHECKING:
    import numpy as np

    from analysis import Chessboard
    from config import LunchBoxSettings

#: Views that have been enough once the frame is covered.
ENOUGH = 15
#: Share of the frame's width that a board has to have moved by, to be another view.
MOVED = 0.04


def calibrate_lens_from(
    settings: LunchBoxSettings, images: list[Path], *, board: str, square: float, json_: bool
) -> None:
    """Find the chessboard, fit the lens, store it as a run, and link the runs that follow to it."""
    from acquisition.session import calibrations_of
    from analysis import calibrate_lens
    from analysis.results import lens_document, store_lens
    from catalog import layout
    from catalog.journal import Journal

    chessboard = _board(board, square)
    frames = _pictures(images) if images else _live(settings)
    views, shape = _views(frames, chessboard, live=not images)
    result = calibrate_lens(views, shape, chessboard)
    md = {"instrument": settings.prefix.rstrip(":"), "board": board, "square": square / 1e3}
    with Journal(settings.data_root / layout.JOURNAL_DIR) as journal:
        uid = store_lens(result, journal, md=md)
    document = lens_document(result.lens)
    calibrations_of(settings).use(lens=document, lens_uid=uid)
    if json_:
        return print_json(
            {
                "uid": uid,
                **document,
                "rms": result.rms,
                "view_rms": [None if rms != rms else rms for rms in result.view_rms],
                "coverage": result.coverage,
                "flags": list(result.flags),
            }
        )
    k1, k2, *_ = result.lens.distortion
    left_out = sum(rms != rms for rms in result.view_rms)
    typer.echo(
        f"lens        {uid}\n"
        f"views       {len(views) - left_out} used, {left_out} left out; corners fit to {result.rms:.3f} px rms\n"
        f"covered     {result.coverage:.0%} of the frame"
        + (": show the board in the parts that are empty above" if "coverage" in result.flags else "")
        + f"\ndistortion  k1 = {k1:+.4f}, k2 = {k2:+.4f}; it may leave {result.lens.residual:.1e} of half the width\n"
        "Scans from now on are linked to it."
    )


def _board(board: str, square: float) -> Chessboard:
    from analysis import Chessboard

    columns, _, rows = board.partition("x")
    if not (columns.isdigit() and rows.isdigit()):
        raise typer.BadParameter(f"--board is inner corners across x down, like 9x6, not {board!r}")
    return Chessboard(int(columns), int(rows), square / 1e3)


def _pictures(paths: list[Path]) -> Iterator[tuple[str, np.ndarray]]:
    import cv2

    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise typer.BadParameter(f"{path} is no picture that OpenCV reads")
        yield path.name, image


def _live(settings: LunchBoxSettings) -> Iterator[tuple[str, np.ndarray]]:
    """Frames of the configured camera, until it has no more or somebody presses Ctrl-C."""
    from acquisition.session import camera_of
    from acquisition.worker import CameraError

    if settings.acquisition.camera.kind == "simulated":
        raise typer.BadParameter(
            "the simulated camera sees no chessboard: give pictures of one, or set acquisition.camera.kind to opencv"
        )
    say("Hold the chessboard flat before the camera, in many places and tilted; Ctrl-C when all is covered.")
    camera, _ = camera_of(settings)
    camera.open()
    try:
        for number in range(10**6):
            yield f"frame {number}", camera.grab().data
    except CameraError as error:
        if not number:
            raise
        say(str(error))
    except KeyboardInterrupt:
        say("")
    finally:
        camera.close()


def _views(
    frames: Iterator[tuple[str, np.ndarray]], board: Chessboard, *, live: bool
) -> tuple[list[np.ndarray], tuple[int, int]]:
    """Corners of the views that tell something new, and the shape of the frames."""
    import numpy as np

    from analysis.chessboard import covered
    from analysis.errors import BadScan, NoLens

    views: list[Any] = []
    shape: tuple[int, int] | None = None
    for name, frame in frames:
        if shape is not None and frame.shape[:2] != shape:
            raise BadScan(f"{name} has shape {frame.shape[:2]}, those before it {shape}; a lens has one camera")
        shape = (frame.shape[0], frame.shape[1])
        corners = board.corners(frame)
        if corners is None:
            if not live:
                say(f"{name}: no board of {board.columns} x {board.rows} inner corners; left out")
            continue
        if any(np.abs(corners - view).mean() < MOVED * shape[1] for view in views):
            continue
        views.append(corners)
        seen = covered(views, shape)
        say(f"view {len(views)} ({name}): {seen.mean():.0%} of the frame covered")
        say("\n".join("    " + "".join("#" if cell else "." for cell in row) for row in seen))
        if live and len(views) >= ENOUGH and seen.mean() > 0.85:
            break
    if shape is None:
        raise NoLens("no picture was given")
    return views, shape
