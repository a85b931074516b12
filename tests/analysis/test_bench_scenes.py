"""The analysis on the simulated bench of `acquisition`, which shares no optics with it nor with `scenes`."""

import numpy as np
import pytest
from scenes import Scene

from acquisition.bench.classes import scene_class
from acquisition.bench.scene import BenchState
from acquisition.bench.scene import Scene as Bench
from analysis import Scan, Setup, fit_grating

ANGLES = np.linspace(-45, 45, 14)


def photographed(settings, angles=ANGLES):
    """(scan, true spots of each frame, truth) of a simulated bench; the red channel alone, to save memory."""
    bench = Bench(settings)
    shaft = angles + np.random.default_rng(settings.seed).normal(0, 0.2, len(angles))
    images = np.stack([bench.render(BenchState(s, 1.0))[..., 0] for s in shaft])
    backgrounds = np.stack([bench.render(BenchState(s, 0.0))[..., 0] for s in shaft])
    scan = Scan(
        images=images,
        backgrounds=backgrounds,
        angles=angles,
        setup=Setup(groove_density=settings.groove_density),
        calibration=bench.render(BenchState(0.0, 0.0, target=True)),
    )
    return scan, [bench.spots(BenchState(s, 1.0)) for s in shaft], bench.truth()


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("easy", 11),
        ("saturated", 12),
        ("ghost", 13),
        ("dim", 14),
        ("distorted", 15),
        ("flicker", 16),
        ("two orders", 17),
        ("off-centre", 18),
        ("missing order", 19),
    ],
)
def test_every_class_of_scene_has_its_period_within_the_error_and_no_wrong_order(name, seed):
    scan, true_spots, truth = photographed(scene_class(name, seed=seed))
    fit = fit_grating(scan)
    assert abs(fit.lambda_over_d - truth["lambda_over_d"]) < 3.5 * fit.lambda_over_d_stderr
    assert fit.lambda_over_d_stderr / fit.lambda_over_d < 0.01
    for i, spots in enumerate(true_spots):
        truly = {spot.order: (spot.x, spot.y) for spot in spots if spot.order is not None}
        for order, index in fit.orders[i].items():
            spot = fit.spots[i][index]
            away = np.hypot(*(np.array(truly[order]) - [spot.x, spot.y]))
            assert away < 3 + 3 * np.hypot(spot.x_stderr, spot.y_stderr)


def test_two_simulators_written_apart_put_the_spots_in_the_same_places():
    fixed = {
        "zero_order_x": 0.001,
        "zero_order_y": -0.002,
        "pixel_size": 0.00025,
        "k1": -0.02,
        "camera_tilt_x": 0.0,
        "camera_tilt_y": 0.0,
        "camera_roll": 0.0,
    }
    bench = Bench(scene_class("two orders", seed=20, truth=fixed))
    truth = bench.truth()
    scene = Scene(
        **{
            name: truth[name]
            for name in ("lambda_over_d", "screen_distance", "grating_offset", "beam_offset", "screen_tilt", "k1")
        },
        orders=(-2, -1, 0, 1, 2),
        focal_length=0.4 / 0.00025,
    )
    # The zero order is where the beam's own offset puts it on the bench, at `zero_order` in the scene.
    shift = truth["beam_offset"] / np.cos(truth["screen_tilt"])
    scene = Scene(**{**scene.__dict__, "zero_order": (0.001 + shift, -0.002)})
    for shaft in (0.0, 11.0, 25.0):
        theirs = {s.order: (s.x, s.y) for s in bench.spots(BenchState(shaft, 1.0)) if abs(s.order) <= 2}
        ours = scene.truth_px(bench.incidence_angle(shaft))
        assert set(theirs) == set(ours)
        for order, place in theirs.items():
            np.testing.assert_allclose(place, ours[order], atol=0.02)
