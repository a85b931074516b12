"""The error that a fit states: true on the whole, the sum of its sources, and lopsided where the problem is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares
from spotted import SHAPE, likely_scene, spotted

from analysis import Setup
from analysis.fit import fit_spots
from analysis.profile import Profile

ANGLES = np.linspace(0, 45, 16)
SETUP = Setup(groove_density=300e3)


def scan_of(seed, setup=SETUP, angles=ANGLES):
    scene = likely_scene(seed, setup)
    return scene, *spotted(scene, setup, angles, seed=seed)


@pytest.fixture(scope="module")
def spots():
    return scan_of(3)


@pytest.fixture(scope="module")
def fit(spots):
    _, scan, frames = spots
    return fit_spots(scan, frames, SHAPE)


def test_truth_is_within_the_error_as_often_as_it_should_be():
    pulls = []
    for seed in range(12):
        scene, scan, frames = scan_of(seed)
        fit = fit_spots(scan, frames, SHAPE)
        pulls.append((fit.lambda_over_d - scene.lambda_over_d) / fit.lambda_over_d_stderr)
    # 12 draws of a unit Gaussian: chi-squared of 12 is between 3 and 33 in 99.5 %.
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.65
    assert np.abs(pulls).max() < 4


def test_budget_adds_up_to_the_stated_error(fit):
    budget = fit.error_budget
    assert np.sqrt(sum(value**2 for value in budget.values())) == pytest.approx(fit.lambda_over_d_stderr, rel=1e-5)
    assert set(budget) >= {"noise", "speckle", "calibration", "jitter", "screen_distance", "beam_offset", "excess"}


@pytest.mark.parametrize("name", ["screen_distance", "beam_offset"])
def test_budget_is_how_far_a_wrong_prior_would_move_the_result(spots, fit, name):
    _, scan, frames = spots
    wrong = getattr(SETUP, name) + getattr(SETUP, f"{name}_stderr")
    moved = fit_spots(replace(scan, setup=SETUP.model_copy(update={name: wrong})), frames, SHAPE)
    assert abs(moved.lambda_over_d - fit.lambda_over_d) == pytest.approx(fit.error_budget[name], rel=0.1)


def test_budget_of_the_noise_is_how_far_noise_moves_the_result(spots, fit):
    _, scan, frames = spots
    rng = np.random.default_rng(0)
    moves = []
    for _ in range(6):
        shaken = [
            tuple(replace(s, x=s.x + 0.05 * rng.normal(), y=s.y + 0.05 * rng.normal()) for s in frame)
            for frame in frames
        ]
        moves.append(fit_spots(scan, shaken, SHAPE).lambda_over_d - fit.lambda_over_d)
    # A mean square of 6 is known to 58 %, its root to half of that.
    assert np.sqrt(np.mean(np.square(moves))) == pytest.approx(fit.error_budget["noise"], rel=0.5)


def test_shares_say_what_only_the_priors_know(fit):
    shares = {name: p["data_share"] for name, p in fit.parameters.items()}
    assert shares["roll"] > 0.9
    assert fit.parameters["y0"]["known_from"] == "data"
    # With a prior a hundred times as wide the data say as much as they did, and the prior nothing.
    assert 0.1 < shares["beam_offset"] < 0.99
    assert all(0 <= share <= 1 for share in shares.values())


def test_profile_is_the_least_chi_squared_that_the_others_can_reach(fit):
    profile, data = Profile(fit.model, fit.solution, "lambda_over_d"), fit.solution.data
    size, g = fit.model.size, profile.index
    others = np.arange(len(size)) != g
    covariance = data.errors.total(data.slope(fit.model, fit.values), fit.jitter)
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))

    def chi_squared(value):
        def residuals(t):
            theta = np.insert(t * size[others], g, value)
            miss = data.missed(fit.model, theta)
            pulls = (theta - fit.model.prior) / fit.model.prior_stderr
            return np.concatenate([whiten @ miss.ravel(), pulls])

        return 2 * least_squares(residuals, fit.values[others] / size[others], xtol=1e-12).cost

    for k in (-2.0, 1.5):
        rise = chi_squared(profile.best + k * profile.stderr) - fit.chi_squared
        assert profile.rise(profile.best + k * profile.stderr) == pytest.approx(np.sqrt(rise), rel=1e-2)


def test_interval_of_a_quadratic_problem_is_the_standard_error(fit):
    low, high = fit.interval()
    assert [low, high] == pytest.approx(
        [fit.lambda_over_d - fit.lambda_over_d_stderr, fit.lambda_over_d + fit.lambda_over_d_stderr], rel=1e-4
    )
    wide = fit.interval(level=0.9545)
    assert wide[1] - wide[0] == pytest.approx(2 * (high - low), rel=0.02)
    low, high = fit.interval("screen_distance")
    assert high - low == pytest.approx(2 * fit.stderr("screen_distance"), rel=0.03)
    with pytest.raises(ValueError, match="probability"):
        fit.interval(level=68)
