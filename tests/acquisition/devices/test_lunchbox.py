"""The device as bluesky sees it: documents, frames, errors; and the laser, which is off unless a frame is taken."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import bluesky.plans
import h5py
import numpy as np
import pytest
from bluesky.utils import FailedStatus, RunEngineInterrupted
from cameras import ArrayCamera
from event_model import DocumentNames, Filler, schema_validators

from acquisition.camera import Exposure
from acquisition.devices import (
    AngleLimitError,
    IOCUnreachable,
    LaserError,
    LunchBox,
    ServoError,
    connect,
)
from acquisition.plans import angle_scan, count
from acquisition.recording import ContractError
from acquisition.settings import AcquisitionSettings, CameraSettings, ServoSettings
from acquisition.worker import CameraError
from catalog import layout

#: deg, of the 16-bit word that the servo is sent.
STEP = 180 / 65535
Documents = list[tuple[str, dict[str, Any]]]


def laser(device: LunchBox) -> float:
    return float(device.laser.power.get(use_monitor=False))


def collect(documents: Documents) -> Any:
    return lambda name, document: documents.append((name, document))


def test_count_emits_the_tutorials_documents_and_resource_and_datum(
    RE: Any, lunchbox: LunchBox, documents: Documents
) -> None:
    RE(count([lunchbox], num=2), collect(documents))
    names = [name for name, _ in documents]
    first, second = ["resource", "datum"] * 2, ["datum"] * 2
    assert names == ["start", "descriptor", *first, "event", *second, "event", "stop"]
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)


def test_filler_gives_back_the_cameras_frames(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    from catalog.handlers import LunchBoxHDF5Handler

    RE(angle_scan(lunchbox, start=0, stop=4, num=3), collect(documents))
    with Filler({layout.SPEC: LunchBoxHDF5Handler}, inplace=True) as filler:
        events = [filled for name, doc in documents for kind, filled in [filler(name, doc)] if kind == "event"]
    # Frame 0 is the first background, frame 1 the first image, and so on.
    for i, event in enumerate(events):
        np.testing.assert_array_equal(event["data"]["lunchbox_background"], camera.frame(2 * i))
        np.testing.assert_array_equal(event["data"]["lunchbox_image"], camera.frame(2 * i + 1))
    assert [event["data"]["lunchbox_servo"] for event in events] == pytest.approx([0.0, 2.0, 4.0], abs=STEP)


def test_descriptor_declares_what_a_reader_needs(RE: Any, lunchbox: LunchBox, documents: Documents) -> None:
    RE(count(lunchbox), collect(documents))
    (descriptor,) = (document for name, document in documents if name == "descriptor")
    image = descriptor["data_keys"]["lunchbox_image"]
    assert image["shape"] == [12, 16, 3]
    assert (image["dtype"], image["dtype_numpy"], image["external"]) == ("array", "|u1", "FILESTORE:")
    assert (image["units"], image["dims"]) == ("counts", ["y", "x", "channel"])
    servo = descriptor["data_keys"]["lunchbox_servo"]
    assert (servo["units"], servo["lower_ctrl_limit"], servo["upper_ctrl_limit"]) == ("deg", -90.0, 90.0)
    assert descriptor["configuration"]["lunchbox"]["data"]["lunchbox_camera_model"] == "array"


def test_times_are_those_of_the_exposure_not_of_the_read(RE: Any, lunchbox: LunchBox, documents: Documents) -> None:
    RE(count(lunchbox), collect(documents))
    (event,) = (document for name, document in documents if name == "event")
    (resource, *_) = (document for name, document in documents if name == "resource")
    with h5py.File(Path(resource["root"]) / resource["resource_path"], "r") as file:
        exposed, background = float(file[layout.TIMESTAMP][0]), float(file[layout.BACKGROUND_TIMESTAMP][0])
    assert event["timestamps"].pop("lunchbox_background") == background
    assert set(event["timestamps"].values()) == {exposed} == {event["data"]["lunchbox_timestamp"]}
    assert background < exposed < event["time"]


def test_reading_twice_names_the_same_frame(lunchbox: LunchBox) -> None:
    lunchbox.stage()
    lunchbox.trigger().wait(timeout=5)
    assert lunchbox.read() == lunchbox.read()
    assert len(list(lunchbox.collect_asset_docs())) == 4
    assert list(lunchbox.collect_asset_docs()) == []


def test_each_stage_opens_a_file_of_its_own(RE: Any, lunchbox: LunchBox, tmp_path: Path) -> None:
    RE(count(lunchbox))
    RE(count(lunchbox))
    assert len(list(tmp_path.rglob("*.h5"))) == 2


def test_trigger_returns_before_the_frame_is_there(lunchbox: LunchBox, camera: ArrayCamera) -> None:
    lunchbox.stage()
    camera.hang.clear()
    status = lunchbox.trigger()
    assert not status.done
    with pytest.raises(RuntimeError, match="trigger it before reading"):
        lunchbox.read()
    camera.hang.set()
    status.wait(timeout=5)
    assert lunchbox.read()["lunchbox_image"]["value"]


def test_trigger_without_stage_is_refused(lunchbox: LunchBox) -> None:
    with pytest.raises(RuntimeError, match="not staged"):
        lunchbox.trigger()


def test_laser_shines_in_images_only(lunchbox: LunchBox, camera: ArrayCamera) -> None:
    seen: list[float] = []
    grab = camera.grab
    camera.grab = lambda: (seen.append(laser(lunchbox)), grab())[1]  # type: ignore[method-assign]
    lunchbox.stage()
    for _ in range(3):
        lunchbox.trigger().wait(timeout=5)
        assert laser(lunchbox) == 0.0
    assert seen == [0.0, 1.0] * 3


@pytest.mark.parametrize("fail_at", [0, 1, 4, 5])
def test_laser_is_off_and_the_file_closed_after_a_camera_fault(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents, fail_at: int, tmp_path: Path
) -> None:
    camera.fail_at = fail_at
    with pytest.raises(FailedStatus) as caught:
        RE(angle_scan(lunchbox, num=5), collect(documents))
    assert isinstance(caught.value.__cause__, CameraError)
    assert laser(lunchbox) == 0.0
    name, stop = documents[-1]
    assert (name, stop["exit_status"]) == ("stop", "fail")
    assert stop["num_events"].get("primary", 0) == fail_at // 2
    paths = list(tmp_path.rglob("*.h5"))
    assert len(paths) == min(1, fail_at // 2)  # a file without a frame is not kept
    for path in paths:
        with h5py.File(path, "r") as file:  # opens without swmr: it was closed
            assert len(file[layout.IMAGE]) == fail_at // 2


def test_pause_turns_the_laser_off_and_resume_gives_a_good_frame(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    grab = camera.grab
    paused = threading.Event()

    def grab_and_pause() -> Any:
        exposure = grab()
        if camera.n_grabbed == 4 and not paused.is_set():  # the second image, the laser on
            paused.set()
            RE.request_pause(defer=False)
            time.sleep(0.3)
        return exposure

    camera.grab = grab_and_pause  # type: ignore[method-assign]
    with pytest.raises(RunEngineInterrupted):
        RE(angle_scan(lunchbox, start=0, stop=2, num=3), collect(documents))
    assert laser(lunchbox) == 0.0
    with pytest.raises(LaserError, match="paused"):
        lunchbox.laser.on(1.0)
    RE.resume()
    events = [document["data"] for name, document in documents if name == "event"]
    assert [event["lunchbox_servo"] for event in events] == pytest.approx([0.0, 1.0, 2.0], abs=STEP)
    assert {event["lunchbox_laser"] for event in events} == {1.0}
    assert documents[-1][1]["exit_status"] == "success"


def test_a_hung_camera_does_not_hang_unstage(lunchbox: LunchBox, camera: ArrayCamera) -> None:
    lunchbox.stage()
    camera.hang.clear()
    status = lunchbox.trigger()
    started = time.monotonic()
    lunchbox.unstage()
    assert time.monotonic() - started < 2 * lunchbox.settings.camera.timeout + 3
    with pytest.raises(CameraError):
        status.wait(timeout=1)
    assert laser(lunchbox) == 0.0


def test_laser_stays_on_past_the_watchdog_while_it_is_held_and_only_then(lunchbox: LunchBox) -> None:
    lunchbox.laser.on(0.5)
    time.sleep(2.5)
    assert laser(lunchbox) == pytest.approx(0.5, abs=1e-4)
    lunchbox.laser._lit.clear()  # the process lives, but no longer says that it wants the laser
    deadline = time.monotonic() + 3.5
    while laser(lunchbox) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert laser(lunchbox) == 0.0
    with pytest.raises(LaserError, match="watchdog"):
        lunchbox.laser.verify(0.5)


def test_an_angle_outside_the_limits_is_refused_before_anything_moves(RE: Any, lunchbox: LunchBox) -> None:
    with pytest.raises(AngleLimitError, match=r"91 deg is outside -90 \.\. 90 deg"):
        RE(angle_scan(lunchbox, start=0, stop=91, num=2))
    assert lunchbox.servo.readback.get(use_monitor=False) == pytest.approx(0.0, abs=STEP)


def test_a_servo_that_is_not_where_it_was_sent_is_an_error_with_both_angles(lunchbox: LunchBox) -> None:
    with pytest.raises(ServoError, match=r"did not arrive: setpoint 5 deg, readback 0\.00\d* deg, tolerance 1 deg"):
        lunchbox.servo.verify(5.0)


def test_a_move_that_was_begun_ahead_is_not_begun_again_and_its_failure_is_told_once(lunchbox: LunchBox) -> None:
    servo, puts = lunchbox.servo, []
    put = servo.setpoint.put
    servo.setpoint.put = lambda angle, **options: (puts.append(angle), put(angle, **options))
    assert servo.set(4.0, ahead=True).done
    servo.set(4.0).wait(timeout=5)
    assert servo.verify(4.0) == pytest.approx(4.0, abs=0.01)
    assert servo.set(7.0, ahead=True).done
    servo.set(5.0).wait(timeout=5)  # who changes his mind gets what he asks for
    assert puts == [4.0, 7.0, 5.0]
    servo.set(6.0, ahead=True, timeout=0.0001)
    with pytest.raises(ServoError, match="setpoint 6 deg"):
        servo.set(6.0).wait(timeout=5)
    servo.set(6.0).wait(timeout=5)
    servo.set(9.0, ahead=True, timeout=0.0001)
    servo.stage()  # another plan knows nothing of it
    servo.set(9.0).wait(timeout=5)
    servo.unstage()


def test_a_slow_servo_is_an_error_with_setpoint_and_readback(lunchbox: LunchBox) -> None:
    status = lunchbox.servo.set(80.0, timeout=0.01)
    with pytest.raises(ServoError, match=r"setpoint 80 deg, readback"):
        status.wait(timeout=5)
    deadline = time.monotonic() + 5
    while lunchbox.servo.moving and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_camera_that_changes_its_shape_fails_the_run_at_its_first_frame(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera
) -> None:
    def smaller() -> Exposure:
        return Exposure(data=np.zeros((6, 8, 3), "u1"), timestamp=time.time(), count_time=0)

    camera.grab = smaller  # type: ignore[method-assign]
    with pytest.raises(ContractError, match=r"\(6, 8, 3\)"):
        RE(count(lunchbox))


def test_dead_pvs_are_listed_by_name_with_the_remedy(ioc: Any, camera: ArrayCamera, tmp_path: Path) -> None:
    absent = LunchBox("NOBODY:", camera=camera, frames_dir=tmp_path)
    with pytest.raises(IOCUnreachable, match=r"NOBODY:HEARTBEAT.*NOBODY:SERVO:RBV.*lunchbox ioc"):
        connect(absent, timeout=0.5)
    absent.destroy()


def test_a_data_root_that_cannot_be_written_is_refused_before_the_laser_is_on(
    lunchbox: LunchBox, camera: ArrayCamera, tmp_path: Path
) -> None:
    from catalog.errors import DataRootError

    lunchbox.frames_dir = tmp_path / "file"
    lunchbox.frames_dir.write_text("")
    with pytest.raises(DataRootError, match="cannot be written"):
        lunchbox.stage()
    assert camera.n_grabbed == 0
    assert laser(lunchbox) == 0.0
    assert not camera.is_open


def test_settings_reach_the_parts(ioc: Any, camera: ArrayCamera, tmp_path: Path) -> None:
    settings = AcquisitionSettings(servo=ServoSettings(tolerance=0.25))
    device = LunchBox(ioc.prefix, camera=camera, frames_dir=tmp_path, settings=settings)
    assert device.servo.settings.tolerance == 0.25
    device.destroy()


@pytest.mark.parametrize("protocol", ["Stageable", "Triggerable", "Readable", "WritesExternalAssets", "Pausable"])
def test_bluesky_sees_what_the_device_can_do(lunchbox: LunchBox, protocol: str) -> None:
    import bluesky.protocols

    assert isinstance(lunchbox, getattr(bluesky.protocols, protocol))


def test_a_camera_that_wakes_up_after_unstage_does_not_light_the_laser(lunchbox: LunchBox, camera: ArrayCamera) -> None:
    lunchbox.settings = AcquisitionSettings(camera=CameraSettings(count_time=0.01, timeout=0.1))
    lunchbox.stage()
    camera.hang.clear()
    status = lunchbox.trigger()
    lunchbox.unstage()
    camera.hang.set()
    with pytest.raises(CameraError, match=r"array hangs: nothing in 0\.6 s"):
        status.wait(timeout=5)
    time.sleep(0.1)
    assert laser(lunchbox) == 0.0


def test_a_laser_that_somebody_lit_before_the_background_is_put_out_and_the_background_taken_again(
    lunchbox: LunchBox, camera: ArrayCamera
) -> None:
    seen: list[float] = []
    grab = camera.grab
    camera.grab = lambda: (seen.append(laser(lunchbox)), grab())[1]  # type: ignore[method-assign]
    lunchbox.stage()
    lunchbox.laser.power.put(1.0, use_complete=True, wait=True)
    lunchbox.trigger().wait(timeout=5)
    lunchbox.read()
    assert seen == [1.0, 0.0, 1.0]
    assert laser(lunchbox) == 0.0
    (path,) = lunchbox.frames_dir.rglob("*.h5")
    lunchbox.unstage()
    with h5py.File(path) as file:
        for name, number in ((layout.BACKGROUND, 1), (layout.IMAGE, 2)):
            assert np.array_equal(file[name][0], camera.frame(number))


def test_a_laser_that_somebody_lit_during_the_background_is_an_error_not_a_dark_image(
    lunchbox: LunchBox, camera: ArrayCamera
) -> None:
    grab = camera.grab

    def light() -> Any:
        lunchbox.laser.power.put(1.0, use_complete=True, wait=True)
        return grab()

    camera.grab = light  # type: ignore[method-assign]
    lunchbox.stage()
    with pytest.raises(LaserError, match="1 where 0 was asked for"):
        lunchbox.trigger().wait(timeout=5)
    lunchbox.unstage()
    assert laser(lunchbox) == 0.0


def test_a_servo_that_somebody_moved_during_the_exposure_gives_no_event(
    lunchbox: LunchBox, camera: ArrayCamera
) -> None:
    grab = camera.grab

    def turn() -> Any:
        exposure = grab()
        if camera.n_grabbed == 2:
            lunchbox.servo.set(30.0).wait(timeout=5)
        return exposure

    camera.grab = turn  # type: ignore[method-assign]
    lunchbox.stage()
    with pytest.raises(ServoError, match="setpoint 0 deg, readback 30"):
        lunchbox.trigger().wait(timeout=5)
    assert list(lunchbox.collect_asset_docs()) == []


def test_a_power_that_a_plan_set_ends_with_its_stage(lunchbox: LunchBox) -> None:
    lunchbox.stage()
    lunchbox.power.put(0.0)  # as `calibrate` does; a halt would skip its clean-up
    lunchbox.unstage()
    assert lunchbox.power.get() == 1.0


def test_a_camera_that_hangs_for_good_costs_its_time_out_and_not_the_laser(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    lunchbox.settings = AcquisitionSettings(camera=CameraSettings(count_time=0.01, timeout=0.3))
    grab, never = camera.grab, threading.Event()
    camera.grab = lambda: grab() if camera.n_grabbed < 3 else never.wait() and grab()  # type: ignore[method-assign]
    began = time.monotonic()
    with pytest.raises(FailedStatus) as caught:
        RE(angle_scan(lunchbox, start=0, stop=2, num=3), collect(documents))
    assert time.monotonic() - began < 5
    assert isinstance(caught.value.__cause__, CameraError)
    assert "array hangs" in str(caught.value.__cause__)
    assert laser(lunchbox) == 0.0
    assert documents[-1][1]["num_events"]["primary"] == 1
    with pytest.raises(FailedStatus) as again:
        RE(count(lunchbox))
    assert "still hangs" in str(again.value.__cause__)
    never.set()


@pytest.mark.parametrize(("mode", "frames"), [("each", [0, 2, 4]), ("first", [0, 0, 0]), ("none", None)])
def test_events_name_the_background_that_is_theirs(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents, mode: Any, frames: list[int] | None
) -> None:
    from catalog.handlers import LunchBoxHDF5Handler

    RE(angle_scan(lunchbox, start=0, stop=4, num=3, background=mode), collect(documents))
    start = documents[0][1]
    (descriptor,) = (document for name, document in documents if name == "descriptor")
    assert start["background"] == mode
    assert descriptor["configuration"]["lunchbox"]["data"]["lunchbox_background_mode"] == mode
    with Filler({layout.SPEC: LunchBoxHDF5Handler}, inplace=True) as filler:
        events = [filled for name, doc in documents for kind, filled in [filler(name, doc)] if kind == "event"]
    for name, document in documents:
        schema_validators[DocumentNames[name]].validate(document)
    images = {"each": [1, 3, 5], "first": [1, 2, 3], "none": [0, 1, 2]}[mode]
    for i, event in enumerate(events):
        np.testing.assert_array_equal(event["data"]["lunchbox_image"], camera.frame(images[i]))
        assert ("lunchbox_background" in event["data"]) == ("lunchbox_background" in descriptor["data_keys"])
        if frames is None:
            assert "lunchbox_background" not in event["data"]
        else:
            np.testing.assert_array_equal(event["data"]["lunchbox_background"], camera.frame(frames[i]))
            assert event["timestamps"]["lunchbox_background"] < event["timestamps"]["lunchbox_image"]
    n_datums = sum(name == "datum" for name, _ in documents)
    assert n_datums == {"each": 6, "first": 4, "none": 3}[mode], "one for each frame that was taken"
    # The next plan knows nothing of it.
    documents.clear()
    RE(count(lunchbox), collect(documents))
    assert "lunchbox_background" in documents[-2][1]["data"]


def test_a_scan_that_is_paused_at_its_first_point_keeps_the_background_that_is_in_the_file(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    from catalog.handlers import LunchBoxHDF5Handler

    grab = camera.grab

    def grab_and_pause() -> Any:
        exposure = grab()
        if camera.n_grabbed == 2:  # the first image
            RE.request_pause(defer=False)
            time.sleep(0.3)
        return exposure

    camera.grab = grab_and_pause  # type: ignore[method-assign]
    with pytest.raises(RunEngineInterrupted):
        RE(angle_scan(lunchbox, start=0, stop=2, num=2, background="first"), collect(documents))
    RE.resume()
    with Filler({layout.SPEC: LunchBoxHDF5Handler}, inplace=True) as filler:
        events = [filled for name, doc in documents for kind, filled in [filler(name, doc)] if kind == "event"]
    # Frames 0 and 1 were of the point that was interrupted.
    for event in events:
        np.testing.assert_array_equal(event["data"]["lunchbox_background"], camera.frame(2))
    np.testing.assert_array_equal(events[1]["data"]["lunchbox_image"], camera.frame(4))


def test_a_background_that_is_none_of_the_three_is_refused(RE: Any, lunchbox: LunchBox) -> None:
    with pytest.raises(ValueError, match="background = 'last': it is one of each, first, none"):
        RE(angle_scan(lunchbox, background="last"))  # type: ignore[arg-type]


def test_a_disarmed_laser_is_refused_before_anything_moves_with_the_remedy(
    RE: Any, lunchbox: LunchBox, documents: Documents
) -> None:
    lunchbox.laser.arm(False)
    try:
        with pytest.raises(LaserError, match=r"LUNCHBOX:LASER:ARM is 0: the laser is disarmed.*`lunchbox arm`"):
            RE(angle_scan(lunchbox, start=10, stop=20, num=2), collect(documents))
        assert documents == []
        assert lunchbox.servo.readback.get(use_monitor=False) == pytest.approx(0.0, abs=STEP)
        # Without light, servo and camera can be tried.
        lunchbox.power.put(0.0)
        RE(count(lunchbox), collect(documents))
        assert documents[-1][1]["exit_status"] == "success"
    finally:
        lunchbox.power.put(1.0)
        lunchbox.laser.arm(True)


def test_disarming_during_an_exposure_ends_a_plan_that_nobody_suspends_with_the_laser_off(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    grab = camera.grab

    def grab_and_disarm() -> Any:
        exposure = grab()
        if camera.n_grabbed == 4:
            lunchbox.laser.armed.put(0, use_complete=True, wait=True)
        return exposure

    camera.grab = grab_and_disarm  # type: ignore[method-assign]
    try:
        with pytest.raises(FailedStatus) as caught:
            RE(bluesky.plans.count([lunchbox], num=3), collect(documents))
        assert "the IOC says: laser disarmed: see that nobody can look into the beam" in str(caught.value.__cause__)
        assert laser(lunchbox) == 0.0
        assert documents[-1][1]["num_events"]["primary"] == 1
    finally:
        lunchbox.laser.arm(True)


def test_a_disk_without_room_for_the_scan_is_refused_before_anything_moves(
    RE: Any, lunchbox: LunchBox, camera: ArrayCamera, documents: Documents
) -> None:
    from catalog.errors import DataRootError

    with pytest.raises(DataRootError, match=r"No space left on device; \d+ MB are needed.*MB free"):
        RE(count(lunchbox, num=10**12), collect(documents))
    assert documents == []
    assert camera.n_grabbed == 0
    assert laser(lunchbox) == 0.0
    RE(count(lunchbox), collect(documents))
    assert documents[-1][1]["exit_status"] == "success"
