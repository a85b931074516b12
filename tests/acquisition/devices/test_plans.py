"""The plans on the real IOC, with a camera that is ready at once: where the servo goes, and what each run holds."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cameras import ArrayCamera

from acquisition.devices import AngleLimitError, LunchBox
from acquisition.plans import adaptive_scan, angle_scan, count, exposure_scan, scan_range, up_down_scan
from acquisition.recording import Recording
from acquisition.series import align, repeat, time_series

Documents = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def run(RE: Any, documents: Documents) -> Any:
    def run(plan: Any) -> list[dict[str, Any]]:
        RE(plan, lambda name, document: documents.append((name, document)))
        return [document["data"] for name, document in documents if name == "event"]

    return run


def starts(documents: Documents) -> list[dict[str, Any]]:
    return [document for name, document in documents if name == "start"]


@pytest.mark.parametrize("limits", [None, (-20.0, 30.0)])
def test_scans_take_the_range_that_the_servo_allows_and_45_degrees_to_either_side_are_enough(
    run: Any, lunchbox: LunchBox, documents: Documents, limits: tuple[float, float] | None
) -> None:
    lunchbox.servo._limits = limits
    low, high = limits or (-45, 45)
    for plan in (angle_scan, up_down_scan, lambda bench, num: exposure_scan(bench, [0.01], num=num)):
        documents.clear()
        angles = [event["lunchbox_servo_setpoint"] for event in run(plan(lunchbox, num=3))]
        assert angles[:3] == pytest.approx([low, (low + high) / 2, high])
    assert scan_range(lunchbox, start=-1) == (-1, high)
    assert scan_range(lunchbox, stop=0) == (low, 0)
    # What is asked for is not cut to fit.
    assert scan_range(lunchbox, -60, 60) == (-60, 60)


def test_a_scan_has_46_points(run: Any, lunchbox: LunchBox) -> None:
    events = run(angle_scan(lunchbox))
    assert [event["lunchbox_servo_setpoint"] for event in events] == pytest.approx([-45 + 2 * i for i in range(46)])


def test_up_and_down_visits_each_angle_from_both_sides_in_one_run(run: Any, lunchbox: LunchBox, documents: Any) -> None:
    events = run(up_down_scan(lunchbox, start=-2, stop=4, num=4))
    angles = [event["lunchbox_servo_setpoint"] for event in events]
    assert angles == pytest.approx([-2, 0, 2, 4, 2, 0, -2])
    assert [event["lunchbox_servo"] for event in events] == pytest.approx(angles, abs=0.01)
    (start,) = starts(documents)
    assert (start["plan_name"], start["num_points"]) == ("up_down_scan", 7)


def test_the_servo_turns_to_the_next_angle_while_frames_are_written(
    run: Any, lunchbox: LunchBox, camera: ArrayCamera, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed: list[float] = []
    written: list[float] = []
    grab, append = camera.grab, Recording.append

    def servo() -> float:
        return float(lunchbox.servo.readback.get(use_monitor=False))

    def slow_disk(*args: Any, **kwargs: Any) -> None:
        append(*args, **kwargs)
        deadline = time.monotonic() + 5
        while servo() == kwargs["servo"] < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        written.append(servo())

    camera.grab = lambda: (exposed.append(servo()), grab())[1]  # type: ignore[method-assign]
    monkeypatch.setattr(Recording, "append", slow_disk)
    events = run(angle_scan(lunchbox, start=10, stop=30, num=3))
    assert [event["lunchbox_servo"] for event in events] == pytest.approx([10, 20, 30], abs=0.01)
    assert exposed == pytest.approx([10, 10, 20, 20, 30, 30], abs=0.01)
    assert [angle > before for angle, before in zip(written, (10, 20, 29), strict=True)] == [True] * 3


def test_an_adaptive_scan_comes_to_every_angle_from_below(run: Any, lunchbox: LunchBox) -> None:
    asked = iter([-5.0, 8.0, 8.0, -89.5, None])
    setpoints: list[float] = []
    lunchbox.servo.setpoint.subscribe(lambda value, **_: setpoints.append(value), run=False)
    events = run(adaptive_scan(lunchbox, [0.0, 10.0], lambda: next(asked), approach=2.0))
    assert [event["lunchbox_servo_setpoint"] for event in events] == [0, 10, -5, 8, 8, -89.5]
    for angle in (0.0, 10.0, -5.0, 8.0, 8.0, -89.5):
        before, setpoints = setpoints[: setpoints.index(angle)], setpoints[setpoints.index(angle) :]
        assert not before or before[-1] < angle
        setpoints = setpoints[1:]
    # No further than the servo may turn.
    assert lunchbox.servo.limits[0] == -90


def test_exposures_are_the_cameras_and_each_events(
    run: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Any
) -> None:
    grabbed: list[float] = []
    grab = camera.grab
    camera.grab = lambda: (grabbed.append(camera.count_time), grab())[1]  # type: ignore[method-assign]
    events = run(exposure_scan(lunchbox, [0.03, 0.002], start=0, stop=10, num=2))
    found = [(event["lunchbox_servo_setpoint"], event["lunchbox_exposure"]) for event in events]
    assert found == [(0, 0.03), (0, 0.002), (10, 0.03), (10, 0.002)]
    assert grabbed == [0.03, 0.03, 0.002, 0.002] * 2  # the background, then the image
    (descriptor,) = (document for name, document in documents if name == "descriptor")
    assert descriptor["data_keys"]["lunchbox_exposure"]["units"] == "s"


@pytest.mark.parametrize("exposures", [[], [0.01, 0.01], [0.0], [-1.0], [1000.0]])
def test_exposures_that_cannot_be_are_refused_before_anything_moves(
    run: Any, lunchbox: LunchBox, camera: ArrayCamera, exposures: list[float]
) -> None:
    with pytest.raises(ValueError, match=r"exposure_scan: exposures = .*each once, above 0 and below"):
        run(exposure_scan(lunchbox, exposures, start=5, num=2))
    assert camera.n_grabbed == 0


def test_angles_outside_the_limits_are_refused_before_anything_moves(
    run: Any, lunchbox: LunchBox, camera: ArrayCamera
) -> None:
    for plan in (
        up_down_scan(lunchbox, start=0, stop=91, num=3),
        exposure_scan(lunchbox, [0.01], start=0, stop=91, num=3),
        align(lunchbox, [-91.0, 0.0, 5.0], lambda: 0.0),
    ):
        with pytest.raises(AngleLimitError):
            run(plan)
    assert camera.n_grabbed == 0


def test_a_time_series_takes_a_pair_every_period_for_so_long(run: Any, lunchbox: LunchBox, documents: Any) -> None:
    events = run(time_series(lunchbox, duration=0.5, period=0.25))
    times = [event["lunchbox_timestamp"] for event in events]
    assert len(times) == 3
    assert times[1] - times[0] >= 0.2
    (start,) = starts(documents)
    assert (start["plan_name"], start["period"]) == ("time_series", 0.25)
    for wrong in ({"duration": 0, "period": 1}, {"duration": 1, "period": -1}):
        with pytest.raises(ValueError, match="both are times above 0"):
            run(time_series(lunchbox, **wrong))


def test_repeated_runs_name_their_series_and_their_place_in_it(run: Any, lunchbox: LunchBox, documents: Any) -> None:
    run(repeat(lambda: angle_scan(lunchbox, start=0, stop=2, num=2), num=3, md={"purpose": "scatter"}))
    first, second, third = starts(documents)
    assert first["series_uid"] == second["series_uid"] == third["series_uid"]
    assert [start["series_index"] for start in (first, second, third)] == [0, 1, 2]
    assert {start["purpose"] for start in (first, second, third)} == {"scatter"}
    documents.clear()
    run(repeat(lambda: count(lunchbox), num=1))
    assert starts(documents)[0]["series_uid"] != first["series_uid"]
    with pytest.raises(ValueError, match="once at least"):
        run(repeat(lambda: count(lunchbox), num=0))


def test_align_asks_after_the_run_is_complete_and_turns_the_grating_there(
    run: Any, lunchbox: LunchBox, documents: Any
) -> None:
    seen: list[str] = []

    def zero() -> float:
        seen.extend(name for name, _ in documents)
        return -1.25

    events = run(align(lunchbox, [-10.0, 0.0, 10.0], zero))
    assert [event["lunchbox_servo_setpoint"] for event in events] == [-10, 0, 10]
    assert seen[-1] == "stop"
    assert lunchbox.servo.readback.get(use_monitor=False) == pytest.approx(-1.25, abs=0.01)
    assert starts(documents)[0]["plan_name"] == "align"


def test_nowhere_to_turn_to_leaves_the_grating_and_the_run(run: Any, lunchbox: LunchBox, documents: Any) -> None:
    with pytest.raises(AngleLimitError):
        run(align(lunchbox, [-10.0, 10.0], lambda: 200.0))
    assert documents[-1][1]["exit_status"] == "success"
    assert lunchbox.servo.readback.get(use_monitor=False) == pytest.approx(10, abs=0.01)
