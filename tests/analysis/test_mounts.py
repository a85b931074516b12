"""The same grating turned about three axes: what each mount can tell of it."""

import numpy as np
import pytest
from scenes import random_scene
from spotted import SHAPE, likely_scene, spotted

from analysis import Scan, Setup, fit_grating
from analysis.errors import AnalysisError
from analysis.fit import fit_spots

ANGLES = np.linspace(0, 45, 13)
MOUNTS = ("classical", "in-plane", "conical")


def fitted(mount, seed=0, groove_density=600e3, **setup):
    setup = Setup(mount=mount, groove_density=groove_density, **setup)
    scene = likely_scene(seed, setup)
    return fit_spots(*spotted(scene, setup, ANGLES, seed=seed), SHAPE), scene


@pytest.mark.parametrize("mount", ["in-plane", "conical"])
@pytest.mark.parametrize("target", [True, False])
def test_photographed_scan_has_its_period_within_the_error(mount, target):
    scene = random_scene(31, mount=mount)
    images, backgrounds, _ = scene.frames(ANGLES)
    setup = Setup(mount=mount, pixel_size=None if target else 0.25e-3)
    calibration = scene.target() if target else None
    scan = Scan(images=images, backgrounds=backgrounds, angles=ANGLES, setup=setup, calibration=calibration)
    fit = fit_grating(scan)
    assert abs(fit.lambda_over_d - scene.lambda_over_d) < 3 * fit.lambda_over_d_stderr
    assert fit.lambda_over_d_stderr < 0.03 * fit.lambda_over_d
    assert set(fit.positions["order"]) == {-1, 0, 1}
    assert len(fit.positions) == 3 * len(ANGLES)
    assert (fit.positions["status"] == "used").mean() > 0.9


def test_in_plane_period_is_known_as_well_as_the_distance():
    # Spots circle order 0 at (L - e) tan(arcsin g): d(g)/g = (1 - g^2) d(L - e)/(L - e), and nothing else says L.
    fit, scene = fitted("in-plane")
    setup, g = fit.scan.setup, fit.lambda_over_d
    distance = np.hypot(setup.screen_distance_stderr, setup.grating_offset_stderr) / setup.screen_distance
    assert fit.lambda_over_d_stderr / g == pytest.approx((1 - g**2) * distance, rel=0.05)
    assert abs(g - scene.lambda_over_d) < 3 * fit.lambda_over_d_stderr
    assert fit.known_from("lambda_over_d") == "prior"
    assert fit.stderr("screen_distance") == pytest.approx(setup.screen_distance_stderr, rel=0.05)
    assert fit.correlation[0, fit.parameter_names.index("screen_distance")] < -0.5
    # The combination itself is known ten times better.
    radius = (fit.value("screen_distance") - fit.value("grating_offset")) * np.tan(np.arcsin(g))
    true = (scene.screen_distance - scene.grating_offset) * np.tan(np.arcsin(scene.lambda_over_d))
    assert radius == pytest.approx(true, rel=0.1 * distance)


def test_ruler_that_is_better_makes_the_in_plane_period_better():
    coarse, _ = fitted("in-plane", screen_distance_stderr=4e-3)
    fine, _ = fitted("in-plane", screen_distance_stderr=2e-4, grating_offset_stderr=2e-4)
    assert fine.lambda_over_d_stderr < 0.2 * coarse.lambda_over_d_stderr


def test_classical_mount_tells_most():
    stderr = {mount: fitted(mount)[0].lambda_over_d_stderr for mount in MOUNTS}
    assert stderr["classical"] < 0.7 * stderr["conical"]
    assert stderr["conical"] < 0.8 * stderr["in-plane"]


@pytest.mark.parametrize("mount", ["in-plane", "conical"])
def test_scan_of_another_mount_is_no_silent_number(mount):
    fit, _ = fitted(mount)
    other = Setup(mount="classical")
    scan = Scan(
        images=fit.scan.images,
        backgrounds=fit.scan.backgrounds,
        angles=ANGLES,
        setup=other,
        calibration=fit.calibration,
    )
    with pytest.raises(AnalysisError):
        fit_spots(scan, list(fit.spots), SHAPE)


def test_interval_is_lopsided_where_the_distance_is_hardly_known():
    # The circle's radius is all that is known: the interval's ends are g at both ends of the distance.
    fit, _ = fitted("in-plane", screen_distance_stderr=0.018)
    assert "not-quadratic" in fit.flags
    setup, g = fit.scan.setup, fit.lambda_over_d
    distance = fit.value("screen_distance") - fit.value("grating_offset")
    radius = distance * np.tan(np.arcsin(g))
    stderr = np.hypot(setup.screen_distance_stderr, setup.grating_offset_stderr)
    expected = [np.sin(np.arctan(radius / (distance + side * stderr))) for side in (1, -1)]
    assert fit.interval() == pytest.approx(expected, rel=2e-3)
    assert expected[1] - g > 1.1 * (g - expected[0])
    assert fit.lambda_over_d_stderr == pytest.approx(expected[1] - g, rel=0.02)
