"""Where a scan should look next, held against what the next frame then says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scenes import Scene

from analysis import Scan, Setup, find_spots
from analysis.calibration import calibrate
from analysis.design import expected_variance, next_angle, pixels_of
from analysis.fit import fit_spots

FIRST = np.linspace(-40, 40, 5)
SCENE = Scene(seed=41, lambda_over_d=0.391, grating_offset=0.002, beam_offset=-0.001, screen_tilt=0.01)


class Taken:
    """Frames of a scene, each angle's spots found once."""

    def __init__(self) -> None:
        self.calibration = calibrate(SCENE.target(), Setup())
        self.angles: list[float] = []
        self.spots: list = []

    def take(self, *angles: float) -> Taken:
        images, backgrounds, _ = SCENE.frames(np.array(angles))
        self.spots += [find_spots(i, b) for i, b in zip(images, backgrounds, strict=True)]
        self.angles += angles
        return self

    def fit(self):
        frames = np.empty((len(self.angles), 1, 1))
        scan = Scan(images=frames, backgrounds=frames, angles=self.angles, calibration=self.calibration)
        return fit_spots(scan, list(self.spots), SCENE.shape)


@pytest.fixture(scope="module")
def taken():
    return Taken().take(*FIRST)


def test_the_error_that_is_expected_of_a_frame_is_what_the_frame_brings(taken):
    before = taken.fit()
    angle = next_angle(before, np.arange(-45, 46.0))
    expected = np.sqrt(expected_variance(before, [angle])[0])
    after = Taken()
    after.angles, after.spots = list(taken.angles), list(taken.spots)
    found = after.take(angle).fit().lambda_over_d_stderr
    assert expected < before.lambda_over_d_stderr
    assert found == pytest.approx(expected, rel=0.1)


def test_a_repeated_angle_is_worth_less_than_the_best_and_never_harms(taken):
    fit = taken.fit()
    here = fit.lambda_over_d_stderr**2
    everywhere = expected_variance(fit, np.arange(-45, 46.0))
    repeated = expected_variance(fit, FIRST)
    assert np.nanmax(everywhere) <= here * (1 + 1e-9)
    assert np.nanmin(everywhere) < repeated.min()


def test_without_jitter_frozen_speckle_leaves_a_repeat_next_to_nothing(taken):
    fit = replace(taken.fit(), jitter=1e-9)
    everywhere = expected_variance(fit, np.arange(-45, 46.0))
    gain = everywhere.max() - everywhere
    repeated = everywhere.max() - expected_variance(fit, FIRST)
    assert repeated.max() < 0.5 * gain.max()


def test_an_angle_at_which_no_order_is_on_the_screen_is_none(taken):
    fit = taken.fit()
    moved = replace(fit, values=fit.values + 10 * (np.array(fit.parameter_names) == "x0"))
    with pytest.raises(ValueError, match="at none of these angles"):
        next_angle(moved, [0.0, 10.0])


def test_a_place_on_the_screen_has_its_pixel(taken):
    pixel = np.array([[3.0, 4.0], [640.0, 480.0], [1270.0, 950.0]])
    np.testing.assert_allclose(pixels_of(taken.calibration, taken.calibration.to_screen(pixel)), pixel, atol=1e-6)
