"""Bad input to a scan or a fit: an error with a name, or a result that says what is wrong with it; never a number."""

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scenes import random_scene
from spotted import SHAPE, calibration, likely_scene, spot, spotted

from analysis import Scan, Setup, fit_grating
from analysis.errors import AnalysisError, BadScan, NoOrders, NoSpots, NotIdentifiable
from analysis.fit import fit_spots

ANGLES = np.linspace(0, 45, 9)


def dark(n):
    return np.broadcast_to(np.uint8(0), (n, *SHAPE))


def scan_of(angles, *, target=True, **setup):
    n = len(angles)
    return Scan(
        images=dark(n),
        backgrounds=dark(n),
        angles=angles,
        setup=Setup(**setup),
        calibration=calibration() if target else None,
    )


@pytest.fixture(scope="module")
def photographed():
    scene = random_scene(51)
    images, backgrounds, _ = scene.frames(ANGLES)
    return scene, images, backgrounds, scene.target()


def fit_of(photographed, *, images=None, backgrounds=None, calibration=True):
    _, own_images, own_backgrounds, target = photographed
    return fit_grating(
        Scan(
            images=own_images if images is None else images,
            backgrounds=own_backgrounds if backgrounds is None else backgrounds,
            angles=ANGLES,
            calibration=target if calibration is True else calibration,
        )
    )


anything = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.floats(),
    st.lists(st.floats(), max_size=4),
    hnp.arrays(
        st.sampled_from([np.float64, np.int8, np.bool_, np.complex128, "U2", "O"]), hnp.array_shapes(max_dims=4)
    ),
)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(images=anything, backgrounds=anything, angles=anything)
def test_whatever_is_given_is_a_scan_or_a_bad_one(images, backgrounds, angles):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scan = Scan(images=images, backgrounds=backgrounds, angles=angles)
    except BadScan:
        return
    assert len(scan) == len(scan.images) == len(scan.backgrounds)
    assert np.isfinite(scan.angles).all()


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.one_of(st.floats(-1e6, 1e6), st.integers(0, 65535), st.sampled_from([np.nan, np.inf, -np.inf])),
    dtype=st.sampled_from(["u1", "u2", "f4", "f8", "i2", "?"]),
    shape=st.sampled_from([(240, 320), (240, 320, 3), (240, 320, 2), (20, 17), (1, 1), (16, 16, 1), (9,), (0, 0)]),
    n=st.integers(1, 3),
)
def test_constant_frames_have_no_period(value, dtype, shape, n):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cast of 1e300 to one byte
        frames = [np.full(shape, value).astype(dtype)] * n
    with pytest.raises((BadScan, NoSpots)):
        fit_grating(Scan(images=frames, backgrounds=frames, angles=np.arange(n)))


def scattered(rng, n, k, *, still):
    """k spots anywhere in each of n frames; one of them always in the same place, if `still`."""
    frames = [[(rng.uniform(20, 1260), rng.uniform(20, 940)) for _ in range(k)] for _ in range(n)]
    if still:
        for frame in frames:
            frame[0] = (600.0, 480.0)
    return [tuple(spot(*place) for place in sorted(frame)) for frame in frames]


@pytest.mark.parametrize(
    ("mount", "target"), [("classical", True), ("classical", False), ("in-plane", True), ("conical", True)]
)
@pytest.mark.parametrize("still", [True, False])
def test_spots_at_random_are_never_a_period(mount, target, still):
    rng = np.random.default_rng(6)
    for n, k in [(1, 3), (2, 3), (3, 4)]:
        angles = np.sort(rng.uniform(0, 45, n))
        scan = scan_of(angles, target=target, mount=mount)
        with pytest.raises((NoOrders, NotIdentifiable)):
            fit_spots(scan, scattered(rng, n, k, still=still), SHAPE)


@pytest.mark.parametrize("ghosts", [1, 2, 3])
def test_reflections_alone_are_no_period(ghosts):
    still = tuple(spot(300.0 + 250 * i, 470.0 + 5 * i) for i in range(ghosts))
    for angles in (ANGLES, np.zeros(9), np.array([0.0, 30.0])):
        with pytest.raises((NoOrders, NotIdentifiable)):
            fit_spots(scan_of(angles), [still] * len(angles), SHAPE)


@pytest.mark.parametrize("angles", [[20.0], [20.0] * 5, [10.0, 30.0]], ids=["one", "identical", "two"])
@pytest.mark.parametrize("target", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_few_angles_give_an_error_that_holds_or_a_name(angles, target, seed):
    scene = likely_scene(seed, Setup())
    scan, frames = spotted(scene, Setup(), np.array(angles), seed=seed)
    if not target:
        scan = scan_of(np.array(angles), target=False)
    try:
        fit = fit_spots(scan, frames, SHAPE)
    except (NoOrders, NotIdentifiable):
        return
    assert abs(fit.lambda_over_d - scene.lambda_over_d) < 4 * fit.lambda_over_d_stderr
    assert "few-positions" in fit.flags or "single-angle" in fit.flags
    # L is known to 1 %, and one angle says nothing more of it.
    assert fit.lambda_over_d_stderr / fit.lambda_over_d > 0.005


def test_frame_without_numbers_is_left_out_and_flagged(photographed):
    scene, images, _, _ = photographed
    broken = images.astype(np.float32)
    broken[4] = np.nan
    whole, fit = fit_of(photographed), fit_of(photographed, images=broken)
    assert "empty-frames" in fit.flags
    assert "empty-frames" not in whole.flags
    assert 4 not in set(fit.positions["frame"])
    assert len(fit.positions) == len(whole.positions) - len(whole.orders[4])
    assert abs(fit.lambda_over_d - scene.lambda_over_d) < 3.5 * fit.lambda_over_d_stderr


def test_black_and_swapped_frames_among_good_ones_only_say_less(photographed):
    scene, images, backgrounds, _ = photographed
    images, backgrounds = images.copy(), backgrounds.copy()
    images[2] = backgrounds[2] = 0
    images[5], backgrounds[5] = backgrounds[5].copy(), images[5].copy()
    fit = fit_of(photographed, images=images, backgrounds=backgrounds)
    assert set(fit.positions["frame"]) == {0, 1, 3, 4, 6, 7, 8}
    assert abs(fit.lambda_over_d - scene.lambda_over_d) < 3.5 * fit.lambda_over_d_stderr


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (np.zeros((480, 640), np.uint8), BadScan),
        (np.zeros(7), BadScan),
        ("target.png", BadScan),
        (np.full((960, 1280), np.nan), None),
        (np.zeros((960, 1280), np.uint8), None),
    ],
    ids=["another size", "one row", "a name", "NaN", "black"],
)
def test_calibration_frame_that_is_none_is_an_error_or_a_flag(photographed, frame, error):
    if error is not None:
        with pytest.raises(error, match="calibration"):
            fit_of(photographed, calibration=frame)
        return
    try:
        fit = fit_of(photographed, calibration=frame)
    except AnalysisError:
        return
    assert {"no-target", "self-calibrated"} <= set(fit.flags)


def test_one_frame_of_another_shape_is_named(photographed):
    _, images, _, _ = photographed
    with pytest.raises(BadScan, match="frame 3 has shape"):
        fit_of(photographed, images=[*images[:3], images[3][:400], *images[4:]])
