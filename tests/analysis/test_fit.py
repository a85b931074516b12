"""From frames to the period: the truth within the stated error, and a named error where there is no evidence."""

import numpy as np
import pytest
from scenes import Scene, random_scene

from analysis import Scan, Setup, fit_grating
from analysis.errors import BadScan, NoOrders, NoSpots, NotIdentifiable

ANGLES = np.linspace(0, 45, 46)
FEWER = np.linspace(0, 45, 19)
TRUTH = ("screen_distance", "grating_offset", "beam_offset", "screen_tilt", "angle_offset", "angle_gain")


def scan_of(scene, angles=ANGLES, *, groove_density=600e3, target=True, **changes):
    images, backgrounds, _ = scene.frames(angles)
    setup = changes.pop("setup", None) or Setup(groove_density=groove_density)
    calibration = scene.target() if target else None
    return Scan(images=images, backgrounds=backgrounds, angles=angles, setup=setup, calibration=calibration, **changes)


@pytest.fixture(scope="module")
def scene():
    return random_scene(1)


@pytest.fixture(scope="module")
def scan(scene):
    return scan_of(scene)


@pytest.fixture(scope="module")
def fit(scan):
    return fit_grating(scan)


def pull(fit, scene):
    return (fit.lambda_over_d - scene.lambda_over_d) / fit.lambda_over_d_stderr


def test_lambda_over_d_is_recovered_within_three_stderr(fit, scene):
    assert abs(pull(fit, scene)) < 3
    assert fit.lambda_over_d == pytest.approx(scene.lambda_over_d, rel=0.015)
    assert 0.001 < fit.lambda_over_d_stderr / fit.lambda_over_d < 0.006


def test_every_parameter_is_recovered_within_its_stderr(fit, scene):
    pulls = [(fit.value(name) - getattr(scene, name)) / fit.stderr(name) for name in TRUTH]
    assert np.max(np.abs(pulls)) < 4
    assert 0.7 < fit.reduced_chi_squared < 1.5
    assert np.rad2deg(fit.jitter) == pytest.approx(0.2, rel=0.4)


def test_orders_are_those_that_were_sent(fit, scan, scene):
    alphas = random_scene(1).alphas(ANGLES)
    wrong = 0
    for i, alpha in enumerate(alphas):
        truth = scene.truth_px(alpha)
        for order, index in fit.orders[i].items():
            spot = fit.spots[i][index]
            wrong += np.hypot(*(truth[order] - [spot.x, spot.y])) > 1.5
    assert wrong == 0
    assert sum(map(len, fit.orders)) > 110


def test_wavelength_is_a_systematic_kept_apart(fit):
    d = fit.grating_period
    assert d == pytest.approx(650e-9 / fit.lambda_over_d)
    assert fit.grating_period_stderr_fit == pytest.approx(d * fit.lambda_over_d_stderr / fit.lambda_over_d)
    assert fit.grating_period_stderr_wavelength == pytest.approx(0.01 * d)
    assert fit.grating_period_stderr == pytest.approx(
        np.hypot(fit.grating_period_stderr_fit, fit.grating_period_stderr_wavelength)
    )
    assert fit.groove_density == pytest.approx(1 / d)
    assert fit.lines_per_mm == pytest.approx(1e-3 / d)
    assert fit.groove_density_stderr / fit.groove_density == pytest.approx(fit.grating_period_stderr / d)


def test_positions_say_what_was_measured_and_what_the_model_says(fit, scene):
    table = fit.positions
    used = table[table["status"] == "used"]
    assert set(used["order"]) == {-1, 0, 1}
    first = used[(used["order"] == 1) & (used["frame"] == 11)].iloc[0]
    # About minimum deviation (11 deg) the first order is near L tan(2 arcsin(g / 2)).
    expected = scene.screen_distance * np.tan(2 * np.arcsin(scene.lambda_over_d / 2))
    assert first["spacing"] == pytest.approx(expected, rel=0.05)
    assert first["spacing_px"] == pytest.approx(first["spacing"] / 0.25e-3, rel=0.05)
    assert (used["x_stderr"] > 0).all()
    # What remains is the servo's jitter, which moves -1 by millimetres per degree, and not +1.
    plus = used[used["order"] == 1]
    assert np.sqrt(np.mean((plus["spacing"] - plus["model"]) ** 2)) < 0.5e-3
    assert abs(used["residual"]).max() < 5


def test_result_is_frozen_and_its_covariance_is_one(fit):
    with pytest.raises(AttributeError):
        fit.chi_squared = 0
    np.testing.assert_allclose(fit.covariance, fit.covariance.T, rtol=1e-6)
    assert np.linalg.eigvalsh(fit.correlation).min() > 0
    assert set(fit.parameters) == set(fit.parameter_names)
    assert fit.parameters["lambda_over_d"]["prior"] is None


def test_second_orders_make_the_period_sharper():
    scene = random_scene(2, groove_density=300e3)
    fit = fit_grating(scan_of(scene, FEWER, groove_density=300e3))
    assert abs(pull(fit, scene)) < 3
    assert fit.lambda_over_d_stderr / fit.lambda_over_d < 0.0027
    assert set(fit.positions["order"]) >= {-2, -1, 0, 1, 2}


def test_scan_without_a_target_calibrates_itself_and_pays_for_it(scene, scan, fit):
    alone = fit_grating(Scan(images=scan.images, backgrounds=scan.backgrounds, angles=ANGLES, setup=scan.setup))
    assert "self-calibrated" in alone.flags
    assert alone.lambda_over_d_stderr > fit.lambda_over_d_stderr
    assert abs(pull(alone, scene)) < 3


def test_calibration_frame_without_target_is_flagged_and_scan_calibrates_itself(scan):
    blank = np.full(scan.images.shape[1:], 100, np.uint8)
    fit = fit_grating(
        Scan(images=scan.images, backgrounds=scan.backgrounds, angles=ANGLES, setup=scan.setup, calibration=blank)
    )
    assert {"no-target", "self-calibrated"} <= set(fit.flags)


def test_colour_frames_in_any_order_of_angles_give_the_same(scene):
    angles = np.linspace(0, 45, 16)
    shuffled = np.random.default_rng(0).permutation(16)
    one = scan_of(random_scene(3, colour=True), angles)
    other = Scan(
        images=one.images[shuffled],
        backgrounds=one.backgrounds[shuffled],
        angles=angles[shuffled],
        setup=one.setup,
        calibration=one.calibration,
    )
    first, second = fit_grating(one), fit_grating(other)
    assert first.lambda_over_d == pytest.approx(second.lambda_over_d, rel=1e-4)
    assert abs(pull(first, random_scene(3))) < 3


def test_ghosts_are_not_orders():
    scene = random_scene(4, ghosts=((400.0, 480.0, 60.0), (820.0, 300.0, 90.0), (900.0, 520.0, 40.0)))
    fit = fit_grating(scan_of(scene, FEWER))
    assert abs(pull(fit, scene)) < 3
    assert "unexplained-spots" in fit.flags


def test_ghost_on_top_of_an_order_is_not_used_silently():
    scene = random_scene(5)
    centre = scene.truth_px(scene.angle_offset)[1]
    scene = random_scene(5, ghosts=((float(centre[0]) + 9, float(centre[1]) + 2, 80.0),))
    fit = fit_grating(scan_of(scene, FEWER))
    assert abs(pull(fit, scene)) < 3.5
    assert "ambiguous-orders" in fit.flags
    assert (fit.positions["status"] == "ambiguous").sum() > 2


def test_more_jitter_than_the_setup_says_is_noticed():
    scene = random_scene(6, angle_jitter=np.deg2rad(0.4))
    fit = fit_grating(scan_of(scene))
    assert np.rad2deg(fit.jitter) > 0.28
    assert abs(pull(fit, scene)) < 3.5


# -- no evidence, no number ------------------------------------------------------------------------------------------


def frames_like(value, n=5, dtype=np.uint8):
    return np.full((n, 240, 320), value, dtype)


@pytest.mark.parametrize("value", [0, 77, 255], ids=["black", "constant", "saturated"])
def test_scan_without_spots_is_a_named_error(value):
    with pytest.raises(NoSpots, match="laser"):
        fit_grating(Scan(images=frames_like(value), backgrounds=frames_like(0), angles=np.arange(5.0)))


def test_frames_that_are_not_numbers_are_a_named_error():
    frames = frames_like(np.nan, dtype=np.float32)
    with pytest.raises(BadScan, match=r"frame 0 .0 deg.*finite"):
        fit_grating(Scan(images=frames, backgrounds=frames, angles=np.arange(5.0)))


def test_zero_order_alone_is_a_named_error():
    with pytest.raises(NoOrders):
        fit_grating(scan_of(Scene(orders=(0,)), ANGLES[::9]))


def test_swapped_images_and_backgrounds_are_a_named_error(scan):
    with pytest.raises(NoSpots, match="swapped"):
        fit_grating(Scan(images=scan.backgrounds[:4], backgrounds=scan.images[:4], angles=ANGLES[:4]))


@pytest.mark.parametrize("angles", [[10.0], [10.0] * 6], ids=["one", "identical"])
@pytest.mark.parametrize("target", [True, False])
def test_one_angle_gives_an_honest_error_or_none(angles, target):
    scene = random_scene(7)
    try:
        fit = fit_grating(scan_of(scene, np.array(angles), target=target))
    except NotIdentifiable:
        return
    assert "single-angle" in fit.flags
    assert fit.lambda_over_d_stderr / fit.lambda_over_d > 0.003
    assert abs(pull(fit, scene)) < 3


def test_grating_that_is_not_the_one_of_the_setup_is_not_fitted_as_it():
    scene = random_scene(8, groove_density=300e3)
    scan = scan_of(scene, ANGLES[::3], groove_density=600e3)
    with pytest.raises(NoOrders, match="lines/mm"):
        fit_grating(scan)


def test_grating_outside_the_tolerance_is_not_a_number_without_target_either():
    scene = random_scene(21, lambda_over_d=0.39 * 1.3)
    with pytest.raises(NoOrders, match="lines/mm"):
        fit_grating(scan_of(scene, ANGLES[::3], target=False))


def test_bench_that_contradicts_the_setup_is_flagged():
    scene = random_scene(21, screen_distance=0.25)
    fit = fit_grating(scan_of(scene, ANGLES[::3]))
    assert any(flag.startswith("unlikely-") for flag in fit.flags)


@pytest.mark.parametrize(("density", "wavelength"), [(0.85, 645e-9), (1.15, 660e-9)])
@pytest.mark.parametrize("screen_distance", [0.226, 0.234])
def test_grating_within_the_tolerance_is_found_where_it_is(density, wavelength, screen_distance):
    scene = random_scene(21, lambda_over_d=wavelength * 600e3 * density, screen_distance=screen_distance)
    fit = fit_grating(scan_of(scene, ANGLES[::3]))
    assert abs(pull(fit, scene)) < 3.5


@pytest.mark.parametrize("what", ["stuck servo", "angles of another scan", "spots at random"])
def test_spots_that_do_not_follow_the_angles_are_no_orders(what):
    scene = random_scene(21)
    angles = np.linspace(0, 45, 12)
    scan = scan_of(scene, angles)
    images, backgrounds = scan.images, scan.backgrounds
    rng = np.random.default_rng(0)
    if what == "stuck servo":
        images, backgrounds = np.stack([images[3]] * 12), np.stack([backgrounds[3]] * 12)
    elif what == "angles of another scan":
        angles = rng.permutation(angles)
    else:
        places = [[(rng.uniform(50, 1230), rng.uniform(50, 900), 100.0) for _ in range(4)] for _ in angles]
        images = np.stack([Scene(orders=(), ghosts=tuple(p)).frame(0.0)[0] for p in places])
    with pytest.raises(NoOrders):
        fit_grating(
            Scan(images=images, backgrounds=backgrounds, angles=angles, setup=scan.setup, calibration=scan.calibration)
        )


def test_roll_of_ten_degrees_and_decreasing_angles():
    scene = random_scene(22, roll=np.deg2rad(10))
    fit = fit_grating(scan_of(scene, np.linspace(45, 0, 16)))
    assert abs(pull(fit, scene)) < 3.5
    assert np.rad2deg(fit.value("roll")) == pytest.approx(10, abs=2.5)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"angles": [0.0, 1.0]}, "one per angle"),
        ({"angles": [0.0, np.nan, 2.0]}, "finite"),
        ({"angles": []}, "n > 0"),
        ({"angles": "abc"}, "numbers"),
        ({"angles": [0.0, 1.0, 2000.0]}, "degrees"),
        ({"images": np.zeros((3, 20))}, "shape"),
        ({"images": np.zeros((3, 24, 20))}, "the same"),
        ({"images": 3}, "sequence"),
        ({"setup": {}}, "Setup"),
        ({"lens": np.eye(3)}, "Lens"),
    ],
)
def test_scan_that_makes_no_sense_is_refused_by_name(changes, what):
    good = {"images": np.zeros((3, 20, 20)), "backgrounds": np.zeros((3, 20, 20)), "angles": [0.0, 1.0, 2.0]}
    with pytest.raises(BadScan, match=what):
        Scan(**(good | changes))


def test_frames_are_read_one_at_a_time():
    read = []

    class Lazy:
        shape = (3, 240, 320)

        def __getitem__(self, i):
            read.append(i)
            return np.zeros((240, 320), np.uint8)

    scan = Scan(images=Lazy(), backgrounds=Lazy(), angles=[0.0, 1.0, 2.0])
    assert read == []
    with pytest.raises(NoSpots):
        fit_grating(scan)
    assert read == [0, 0, 1, 1, 2, 2]
