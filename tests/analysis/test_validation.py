"""The published validation, on scenes of the tests' own generator; LUNCHBOX_VALIDATION_SCANS=300 counts in full."""

from __future__ import annotations

import os
from inspect import signature

import numpy as np
import pytest
from scenes import random_scene
from scipy.stats import chi2

from acquisition.plans import FURTHEST, angle_scan
from analysis import Scan, Setup
from lunchbox.validation.fits import Summary, Verdict, judge, summarise
from lunchbox.validation.page import fit_rows, markdown, write
from lunchbox.validation.peers import tutorial_period
from lunchbox.validation.spots import bound, measure
from lunchbox.validation.trials import KINDS, STOP, Trial, photograph
from lunchbox.validation.trials import POINTS as NUM

SCANS = int(os.environ.get("LUNCHBOX_VALIDATION_SCANS", "2"))
POINTS = NUM if SCANS > 20 else 14
SEED = 70_000


def trial(seed, groove_density, start=-STOP):
    """A scan of a scene that the simulated bench has no part in, over what a scan takes by itself."""
    angles = np.linspace(start, STOP, POINTS)
    scene = random_scene(seed, groove_density=groove_density)
    images, backgrounds, alphas = scene.frames(angles)
    setup = Setup(groove_density=groove_density)
    scan = Scan(images=images, backgrounds=backgrounds, angles=angles, setup=setup, calibration=scene.target())
    return Trial(scan, scene.lambda_over_d, [scene.truth_px(alpha) for alpha in alphas])


@pytest.mark.timeout(60 + 20 * SCANS)
@pytest.mark.parametrize("groove_density", [600e3, 300e3])
@pytest.mark.parametrize("start", [-STOP, 0])
def test_errors_on_foreign_scenes_are_what_is_stated(groove_density, start):
    verdicts = [judge(trial(SEED + i, groove_density, start)) for i in range(SCANS)]
    summary = summarise(f"{groove_density / 1e3:g}/mm from {start} deg", verdicts)
    print(f"seeds {SEED} to {SEED + SCANS - 1}\n{markdown(fit_rows([summary]))}")
    assert summary.declined == 0
    assert summary.wrong == 0
    # The sum of n squared pulls is chi-squared with n degrees of freedom.
    low, high = chi2.ppf([1e-4, 1 - 1e-4], SCANS) / SCANS
    assert low < summary.pull**2 < high
    assert summary.rms < 0.2 * summary.tutorial


def verdict(error, stderr=0.001, **changes):
    values = {"reduced_chi_squared": 1.0, "orders": 10, "wrong": 0, "flags": (), "declined": "", "tutorial": np.nan}
    return Verdict(error=error, stderr=stderr, seconds=1.0, **(values | changes))


def test_summary_counts_what_it_says():
    summary = summarise(
        "some", [verdict(0.0005), verdict(-0.0015), verdict(0.003, wrong=1), verdict(0.0, declined="X")]
    )
    assert summary == Summary(
        name="some",
        scans=4,
        declined=1,
        rms=pytest.approx(np.sqrt((0.5**2 + 1.5**2 + 3**2) / 3) * 1e-3),
        stated=pytest.approx(0.001),
        pull=pytest.approx(np.sqrt((0.5**2 + 1.5**2 + 3**2) / 3)),
        within_1=pytest.approx(1 / 3),
        within_2=pytest.approx(2 / 3),
        orders=40,
        wrong=1,
        tutorial=pytest.approx(np.nan, nan_ok=True),
        seconds=1.0,
    )


def test_bound_is_sigma_over_root_photons_where_only_photons_count(monkeypatch):
    # N photons in a Gaussian of width s: its centre is known to s / sqrt(N), along either axis.
    monkeypatch.setattr("lunchbox.validation.spots.AMBIENT", 0.0)
    monkeypatch.setattr("lunchbox.validation.spots.READ_NOISE", 0.0)
    peak, (sx, sy), gain = 200.0, (4.2, 3.6), 17.0
    photons = 2 * np.pi * sx * sy * peak * gain
    # Rounding adds the sixth of a count to each pixel, which 200 counts' shot noise of 12 hardly feels.
    assert bound(peak, 0.0) == pytest.approx(np.sqrt((sx**2 + sy**2) / 2 / photons), rel=0.1)


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # trackpy's use of pandas
def test_others_are_measured_on_the_same_frames():
    results = {r.estimator: r for r in measure((120, 0.3, 0.0), frames=1, seed=1)}
    assert set(results) == {"LunchBox", "blur, threshold, components", "trackpy.locate", "photutils centroid_2dg"}
    ours = results.pop("LunchBox")
    assert ours.spots == 20
    assert ours.missed == ours.extra == 0
    # 40 coordinates: a root mean square is good to 11 %.
    assert 0.6 < ours.ratio < 1.4
    assert all(ours.ratio < r.ratio for r in results.values())


def test_tutorial_is_right_where_its_assumptions_hold():
    # One small angle, no offsets, no distortion, all three orders there: sin(arctan(x / L)) is lambda / d.
    bench = random_scene(1, grating_offset=0.0, beam_offset=0.0, screen_tilt=0.0, angle_offset=0.0, angle_jitter=0.0)
    images, backgrounds, _ = bench.frames(np.zeros(1))
    scan = Scan(images=images, backgrounds=backgrounds, angles=[0.0], setup=Setup(), calibration=bench.target())
    assert tutorial_period(scan) == pytest.approx(bench.lambda_over_d, rel=0.05)


def test_kinds_are_measured_over_what_a_scan_takes_by_itself():
    assert STOP == FURTHEST
    assert signature(angle_scan).parameters["num"].default == NUM
    assert {kind.name: kind.start for kind in KINDS if kind.start != -STOP} == {
        "easy, one side": 0.0,
        "two orders, one side": 0.0,
    }


def test_kinds_differ_in_what_is_known_of_the_camera():
    known = {kind.name: kind for kind in KINDS}
    angles = np.array([0.0, 10.0])
    plain = photograph(known["two orders"], 3, angles).scan
    assert plain.lens is None
    assert plain.calibration is not None
    assert photograph(known["two orders, lens calibrated"], 3, angles).scan.lens is not None
    assert photograph(known["two orders, without target"], 3, angles).scan.calibration is None
    assert set(photograph(known["easy"], 3, angles).orders[0]) == {-1, 0, 1}


def test_page_is_refreshed_between_its_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- validation: fits -->\nold\n<!-- end -->\nafter\n")
    write(page, {"fits": markdown([{"a": "1"}, {"b": "2"}])})
    assert page.read_text() == (
        "before\n<!-- validation: fits -->\n\n| a | b |\n| --- | --- |\n| 1 |  |\n|  | 2 |\n\n<!-- end -->\nafter\n"
    )
