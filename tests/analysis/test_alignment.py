"""The angle of zero incidence, the zero order's place and the servo's backlash, against the simulated bench's truth."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition.bench.classes import scene_class
from acquisition.bench.scene import BenchState, Scene
from analysis import Scan, Setup, fit_grating
from analysis.alignment import alignment
from analysis.backlash import backlash, turns
from analysis.errors import BadScan


def fitted(scene: Scene, angles: np.ndarray, shaft: np.ndarray, **setup):
    images = [scene.render(BenchState(s, 1.0))[..., 0] for s in shaft]
    backgrounds = [scene.render(BenchState(s, 0.0))[..., 0] for s in shaft]
    calibration = scene.render(BenchState(0.0, 0.0, target=True))
    return fit_grating(
        Scan(images=images, backgrounds=backgrounds, angles=angles, setup=Setup(**setup), calibration=calibration)
    )


@pytest.mark.parametrize(("seed", "direction"), [(31, 1), (32, -1)])
def test_zero_incidence_is_where_the_bench_has_it(seed, direction):
    scene = Scene(scene_class("off-centre", seed=seed, servo_direction=direction))
    angles = np.linspace(-20, 20, 9)
    fit = fitted(scene, angles, angles + np.random.default_rng(seed).normal(0, 0.2, 9), servo_direction=direction)
    found = alignment(fit)
    truth = scene.truth()
    zero_deg = -np.rad2deg(truth["angle_offset"] / truth["angle_gain"]) * direction
    assert scene.incidence_angle(zero_deg) == pytest.approx(0, abs=1e-9)
    assert abs(found.zero_deg - zero_deg) < 3.5 * found.zero_deg_stderr
    assert found.zero_deg_stderr < 0.4
    spot = next(spot for spot in scene.spots(BenchState(0.0, 1.0)) if spot.order == 0)
    assert np.hypot(found.x - spot.x, found.y - spot.y) < 2
    # The frame's centre is what the camera looks at; a pixel there is pixel_size wide.
    expected = (np.array([spot.x, spot.y]) - [639.5, 479.5]) * truth["pixel_size"] * 1e3
    np.testing.assert_allclose([found.right_mm, found.below_mm], expected, rtol=0.12, atol=0.3)


@pytest.mark.parametrize(("width", "direction"), [(1.0, 1), (1.0, -1), (0.0, 1)])
def test_backlash_is_what_the_shaft_lags_behind(width, direction):
    scene = Scene(scene_class("easy", seed=33, servo_direction=direction))
    up = np.linspace(0, 40, 9)
    angles = np.concatenate([up, up[-2::-1]])
    # Dragged along by one flank of the play or the other.
    lag = np.where(np.arange(len(angles)) < len(up), -width / 2, width / 2)
    shaft = angles + lag + np.random.default_rng(3).normal(0, 0.1, len(angles))
    fit = fitted(scene, angles, shaft, servo_direction=direction)
    found = backlash(fit)
    # The angle at the turn is visited once; from where the first was reached nobody knows; and where the zero order
    # stands alone, nothing moves.
    assert 5 <= found.pairs <= 7
    assert abs(found.width - width) < 3.5 * found.stderr
    assert found.stderr < 0.15
    turned, variance = turns(fit)
    sharp = np.sqrt(variance) < np.deg2rad(0.2)
    assert sharp.sum() > 8
    expected = np.array([scene.incidence_angle(s) for s in shaft])
    predicted = fit.value("angle_offset") + fit.value("angle_gain") * direction * np.deg2rad(angles)
    np.testing.assert_allclose((turned + predicted)[sharp], expected[sharp], atol=np.deg2rad(0.8))


@pytest.mark.parametrize(
    ("angles", "complaint"),
    [
        (np.linspace(0, 40, 7), r"0 angles were visited from both sides.*--up-down"),
        (np.array([0.0, 30, 10, 40, 20, 30, 10, 0]), r"turned round more than once.*--up-down"),
    ],
)
def test_a_scan_one_way_or_to_and_fro_says_nothing_of_backlash(angles, complaint):
    scene = Scene(scene_class("easy", seed=34))
    with pytest.raises(BadScan, match=complaint):
        backlash(fitted(scene, angles, angles))
