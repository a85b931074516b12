"""However a scan ends, the laser is off in time, the run is closed, and no frame that was acknowledged is lost.

Everything is real but the copper: the firmware, on a board that is a process; the IOC; a session in a process of its
own. The oracle is the pin of the laser, which the board writes down by itself.

FAULT_TRIALS sets how often each case is tried (`make test-faults`: 20), FAULT_SEED repeats a timing.
"""

from __future__ import annotations

import os
import queue
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict

import pytest
from fault_bench import CASES, Bench, Case, Trial, can_mount
from zygote import Zygote

TRIALS = int(os.environ.get("FAULT_TRIALS", "10"))
SEED = int(os.environ.get("FAULT_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
#: Scans at the same time, each on a bench of its own: they mostly wait.
BENCHES = 10

pytestmark = pytest.mark.timeout(180 + 20 * TRIALS)


@pytest.fixture(scope="module")
def small_disks(tmp_path_factory: pytest.TempPathFactory) -> bool:
    return can_mount(tmp_path_factory.mktemp("disk"))


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory, small_disks: bool) -> dict[str, list[Trial]]:
    """All trials of all cases, in an order drawn by lot."""
    print(f"seed of the timing: FAULT_SEED={SEED}")
    lots = random.Random(SEED)
    jobs = [(case, lots.random()) for case in CASES for _ in range(TRIALS) if small_disks or case.name != "disk full"]
    lots.shuffle(jobs)
    waiting: queue.SimpleQueue[tuple[Case, float]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    found: dict[str, list[Trial]] = defaultdict(list)
    folder = tmp_path_factory.mktemp("benches")

    def work(number: int, zygote: Zygote) -> None:
        bench = Bench(folder / str(number), zygote)
        try:
            while True:
                case, lot = waiting.get_nowait()
                found[case.name].append(bench.run(case, random.Random(lot)))
        except queue.Empty:
            pass
        finally:
            bench.close()

    with Zygote() as zygote:
        workers = [threading.Thread(target=work, args=(number, zygote)) for number in range(min(BENCHES, len(jobs)))]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_laser_is_off_in_time_the_run_is_closed_and_nothing_is_lost(
    case: Case, trials: dict[str, list[Trial]], small_disks: bool, record_property: Callable[[str, object], None]
) -> None:
    if case.name == "disk full" and not small_disks:
        pytest.skip("a small disk can be mounted by root only")
    own = trials[case.name]
    record_property("trials", [asdict(trial) for trial in own])
    assert len(own) == TRIALS
    assert not any(trial.problems for trial in own), "\n".join(str(trial) for trial in own if trial.problems)
    assert sum(trial.lost for trial in own) == 0
    for trial in own:
        # What the machine itself made threads wait is not the laser's.
        assert trial.seconds_to_off <= case.bound + 2 * trial.stall
