"""Pixels to metres, against the camera that made the picture."""

import numpy as np
import pytest
from scenes import Scene, random_scene

from analysis import Lens, Setup, calibrate
from analysis.calibration import carry, straighten
from analysis.errors import BadScan, NoTarget

EXACT = Setup(target_size_stderr=0)


def spacing_error(scene, calibration, reach):
    """Relative error of the distance between two points `reach` (m) either side of the target's place."""
    x, y = scene.target_centre
    ends = calibration.to_screen(scene.to_pixel(np.array([[x - reach, y], [x + reach, y]])))
    return float(np.hypot(*(ends[1] - ends[0]))) / (2 * reach) - 1


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_scale_is_right_to_five_parts_in_ten_thousand_wherever_the_target_is(seed):
    scene = random_scene(seed, target_centre=(0.09 - 0.05 * seed, 0.03 * (seed - 2)))
    calibration = calibrate(scene.target(), EXACT)
    assert calibration.source == "target"
    assert abs(spacing_error(scene, calibration, 0.03)) < 5e-4


@pytest.mark.parametrize("seed", [5, 6])
def test_distorted_and_oblique_view_with_a_calibrated_lens(seed):
    scene = random_scene(seed, k1=-0.2, pose=(0.25, -0.2))
    f = scene.focal_length
    lens = Lens([[f, 0, 639.5], [0, f, 479.5], [0, 0, 1]], [scene.k1, 0, 0, 0])
    calibration = calibrate(scene.target(), EXACT, lens=lens)
    assert abs(spacing_error(scene, calibration, 0.1)) < 2e-3
    assert abs(spacing_error(scene, calibration, 0.035)) < 5e-4


def test_distortion_that_nobody_measured_is_found_within_its_error():
    pulls = []
    for seed in range(6):
        scene = random_scene(seed)
        calibration = calibrate(scene.target(), Setup())
        truth = scene.k1 * (640 / scene.focal_length) ** 2
        pulls.append((calibration.theta[8] - truth) / np.sqrt(calibration.covariance[8, 8]))
    assert np.sqrt(np.mean(np.square(pulls))) < 2
    assert np.max(np.abs(pulls)) < 4


def test_target_size_error_is_common_to_all_lengths():
    scene = Scene()
    loose = calibrate(scene.target(), Setup(target_size_stderr=1e-3))
    points = scene.to_pixel(np.array([[-0.03, 0.0], [0.03, 0.0]]))
    jacobian = loose.parameter_jacobian(points)
    across = jacobian[1, 0] - jacobian[0, 0]
    assert np.sqrt(across @ loose.covariance @ across) / 0.06 == pytest.approx(1e-3 / 0.076, rel=0.05)


def test_straightened_pixels_are_the_inverse_of_the_distortion():
    points = np.random.default_rng(0).uniform([0, 0], [1279, 959], (50, 2))
    for kappa in (-0.07, -0.01, 0.0, 0.05):
        q = straighten(points, kappa, (960, 1280))
        centre = np.array([639.5, 479.5])
        radius = ((q - centre) ** 2).sum(1, keepdims=True) / 640**2
        np.testing.assert_allclose(centre + (q - centre) * (1 + kappa * radius), points, atol=1e-6)


def test_parameter_jacobian_is_the_derivative_of_the_map():
    calibration = calibrate(Scene(pose=(0.05, -0.03)).target())
    points = np.array([[100.0, 300.0], [900.0, 700.0]])
    jacobian = calibration.parameter_jacobian(points)
    for k in range(9):
        step = np.zeros(9)
        step[k] = 1e-4 * np.sqrt(calibration.covariance[k, k])
        up, down = (carry(points, calibration.theta + s, (960, 1280)) for s in (step, -step))
        np.testing.assert_allclose((up - down) / (2 * step[k]), jacobian[..., k], rtol=1e-3, atol=1e-6)


def test_dark_target_on_a_bright_screen():
    scene = Scene(seed=3)
    calibration = calibrate(255 - scene.target(), EXACT)
    assert abs(spacing_error(scene, calibration, 0.03)) < 5e-4


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((960, 1280), np.uint8),
        np.full((960, 1280, 3), 255, np.uint8),
        np.random.default_rng(0).integers(0, 255, (480, 640), dtype=np.uint8),
    ],
    ids=["black", "white", "noise"],
)
def test_frame_without_a_target_is_a_named_error(frame):
    with pytest.raises(NoTarget, match="target"):
        calibrate(frame)


def test_lens_of_the_wrong_shape_is_refused():
    with pytest.raises(BadScan, match="camera_matrix"):
        Lens(np.eye(2), [0, 0, 0, 0])
    with pytest.raises(BadScan, match="distortion"):
        Lens(np.eye(3), [0, 0])
