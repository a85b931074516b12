"""The two halves of the low-latency fix, each against an IOC that lacks it, measured in the same run."""

from __future__ import annotations

import statistics
import sys
import threading
import time

from ioc import Client, running_ioc

_WITHOUT = """
import sys
from acquisition.ioc import latency
latency.{half} = lambda: None
from acquisition.ioc.__main__ import main
sys.exit(main())
"""


def _median_latency(command=None, *, points=20):
    """Seconds: of a put that waits, and from a put that does not until DMOV tells that the servo has settled."""
    options = {} if command is None else {"command": command}
    with running_ioc(**options), Client() as client:
        settled = threading.Event()
        client.watch("SERVO:RBV", lambda angle: None)
        client.watch("SERVO:DMOV", lambda done: settled.set() if done else None)
        puts, motions = [], []
        for angle in range(points):
            began = time.perf_counter()
            client.put("SERVO", angle)
            puts.append(time.perf_counter() - began)
        for angle in range(points):
            time.sleep(0.005)
            settled.clear()
            began = time.perf_counter()
            client.put("SERVO", angle, wait=False)
            assert settled.wait(5)
            motions.append(time.perf_counter() - began)
    return statistics.median(puts), statistics.median(motions)


def _without(half):
    return (sys.executable, "-c", _WITHOUT.format(half=half))


def test_answers_do_not_wait_for_acknowledgements():
    put, _ = _median_latency()
    delayed, _ = _median_latency(_without("_send_without_delay"))
    assert delayed / put > 5, f"{delayed * 1e3:.1f} ms without the fix, {put * 1e3:.1f} ms with it"


def test_updates_are_not_held_back_for_more_to_follow():
    _, motion = _median_latency()
    _, batched = _median_latency(_without("_send_without_batching"))
    assert batched / motion > 1.8, f"{batched * 1e3:.1f} ms without the fix, {motion * 1e3:.1f} ms with it"
