"""`lunchbox demo`."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from lunchbox.console import Config, DataRoot, Json, app, open_catalog, open_session, print_json, say, settings_of
from lunchbox.fitting import fit_result, fit_run, print_fit
from lunchbox.record import printers


@app.command(epilog="Example: lunchbox demo --seed 7 --groove-density 300")
def demo(
    seed: Annotated[int, typer.Option(min=0, help="Which bench: its hidden truth is drawn from this.")] = 0,
    points: Annotated[int, typer.Option(min=2, help="Angles from 0 to 45 degrees.")] = 46,
    groove_density: Annotated[int, typer.Option(min=50, max=1500, help="Lines per mm of the grating.")] = 600,
    config: Config = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Do everything once, on a simulated bench.

    Calibrates, scans, catalogues, fits and draws; then tells the truth of the bench that it measured.
    """
    clock = Clock()
    base = settings_of(config, data_root)
    settings = base.model_copy(
        update={
            "bench": base.bench.model_copy(update={"seed": seed, "groove_density": groove_density * 1e3}),
            "setup": base.setup.model_copy(update={"groove_density": groove_density * 1e3}),
            "ioc": base.ioc.model_copy(
                update={"link": "simulated", "simulated": base.ioc.simulated.model_copy(update={"seed": seed})}
            ),
            # Whatever the configuration drives: the demo turns no real servo and lights no real laser.
            "acquisition": base.acquisition.model_copy(
                update={"camera": base.acquisition.camera.model_copy(update={"kind": "simulated"})}
            ),
        }
    )
    from acquisition.ioc.process import IOCProcess

    with IOCProcess(settings.ioc, prefix=settings.prefix) as ioc, ThreadPoolExecutor(1) as background:
        os.environ.update(ioc.environment)
        # The catalogue takes longest to open, and the scan does not wait for it.
        catalogue = background.submit(open_catalog, settings)
        with open_session(settings) as session:
            from acquisition.plans import angle_scan
            from acquisition.plans import calibrate as calibrate_plan

            clock.lap("start")
            session.run(calibrate_plan(session.lunchbox, bench=session.bench))
            clock.lap("calibrate")
            scan = angle_scan(session.lunchbox, start=0, stop=45, num=points)
            uid = session.run(scan, *printers(json_=json_, documents=False))
            clock.lap("scan")
        with catalogue.result() as catalog:
            catalog.wait_for(uid)
            clock.lap("catalogue")
            fit_, figure = fit_run(settings, catalog, uid)
            clock.lap("fit")
    from acquisition.bench.scene import Scene

    truth = Scene(settings.bench).truth()
    if json_:
        return print_json({**fit_result(uid, fit_, figure), "truth": truth, "seconds": clock.laps})
    print_fit(uid, fit_, figure)
    pull = (fit_.lambda_over_d - truth["lambda_over_d"]) / fit_.lambda_over_d_stderr
    say(f"truth       lambda/d = {truth['lambda_over_d']:.6f}: the fit is off by {pull:+.1f} of its standard errors")
    say("seconds     " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in clock.laps.items()))


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = self._start = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(now - self._last, 2)
        self.laps.pop("total", None)
        self.laps["total"] = round(now - self._start, 2)  # the last one, always
        self._last = now
