"""`lunchbox validate`."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lunchbox.console import Json, app, print_json, print_table, say

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lunchbox.validation.fits import Verdict
    from lunchbox.validation.spots import Accuracy
    from lunchbox.validation.trials import Kind

#: Of --full: scans of the two kinds whose coverage matters most, scans of each other kind, frames of 20 spots per case.
MANY, SOME, FRAMES = 300, 60, 100
COVERAGE = ("easy", "two orders")
#: Between the seeds of two kinds: their benches are others, and the same with and without --kind.
STRIDE = 10_000


@app.command(epilog="Examples: lunchbox validate;  lunchbox validate --full --jobs 2")
def validate(
    scans: Annotated[int, typer.Option(min=1, help="Of each kind of scene.")] = 3,
    frames: Annotated[int, typer.Option(min=1, help="Of 20 spots, for each brightness.")] = 5,
    full: Annotated[bool, typer.Option("--full", help="300 scans where it matters, and more of all; hours.")] = False,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Only this kind of scene; may be repeated.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the first scan; the others count up from it.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by itself one per core.")] = None,
    page: Annotated[Path | None, typer.Option(help="Markdown page whose tables are to be refreshed.")] = None,
    json_: Json = False,
) -> None:
    """Measure how good the analysis is, on simulated benches whose truth is known.

    Single spots against the Cramer-Rao bound; lambda/d and its stated error against the truth, per kind of scene; and
    what other ways make of the same frames (trackpy and photutils where they are installed: lunchbox[validation]).
    """
    from lunchbox.validation import page as pages
    from lunchbox.validation.fits import summarise
    from lunchbox.validation.spots import CASES
    from lunchbox.validation.trials import KINDS

    chosen = [kind for kind in KINDS if not kinds or kind.name in kinds]
    if unknown := set(kinds or ()) - {kind.name for kind in KINDS}:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: kinds are {', '.join(kind.name for kind in KINDS)}")
    many = {kind.name: (MANY if kind.name in COVERAGE else SOME) if full else scans for kind in chosen}
    spot_tasks = [] if kinds else [(case, FRAMES if full else frames, seed) for case in CASES]
    fit_tasks = [(kind, seed + STRIDE * KINDS.index(kind) + i) for kind in chosen for i in range(many[kind.name])]
    made = f"Seeds: of the first scan {seed}, counting up, and {STRIDE} further for each kind; of the spots {seed}."
    say(made)

    spots, verdicts = _run(spot_tasks, fit_tasks, jobs=jobs or os.cpu_count() or 1, quiet=json_)
    summaries = [
        summarise(kind.name, [v for (k, _), v in zip(fit_tasks, verdicts, strict=True) if k == kind]) for kind in chosen
    ]
    if json_:
        return print_json({"seed": seed, "spots": [asdict(a) for a in spots], "fits": [asdict(s) for s in summaries]})
    rows = {"spots": pages.spot_rows(spots), "fits": pages.fit_rows(summaries)}
    for table in rows.values():
        if table:
            print_table(table)
            typer.echo()
    if page is not None:
        pages.write(page, {name: f"{pages.markdown(table)}\n\n{made}" for name, table in rows.items()})
        say(f"page        {page}")


def _run(
    spot_tasks: list[tuple[Any, int, int]], fit_tasks: list[tuple[Kind, int]], *, jobs: int, quiet: bool
) -> tuple[list[Accuracy], list[Verdict]]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from tqdm import tqdm

    # Fresh processes: OpenCV's threads do not survive a fork, and with one each they do not fight for the cores.
    with (
        ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_alone) as pool,
        tqdm(total=len(spot_tasks) + len(fit_tasks), disable=quiet or None, unit="task") as bar,
    ):
        spots = [pool.submit(measure_spots, *task) for task in spot_tasks]
        fits = [pool.submit(judge_one, *task) for task in fit_tasks]
        futures: list[Future[Any]] = [*spots, *fits]
        for future in futures:
            future.add_done_callback(lambda _: bar.update())
        try:
            return [a for task in spots for a in task.result()], [task.result() for task in fits]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _alone() -> None:
    import cv2

    cv2.setNumThreads(1)


def measure_spots(case: tuple[float, float, float], frames: int, seed: int) -> list[Accuracy]:
    """One task: ours and the others' on the frames of one case."""
    from lunchbox.validation.spots import measure

    return list(measure(case, frames=frames, seed=seed))


def judge_one(kind: Kind, seed: int) -> Verdict:
    """One task: one scan."""
    from lunchbox.validation.fits import judge
    from lunchbox.validation.trials import photograph

    return judge(photograph(kind, seed))
