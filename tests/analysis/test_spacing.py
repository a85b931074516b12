"""Peak spacing against angle: the table and the figure that people asked for."""

import numpy as np
import pytest
from scenes import random_scene

from analysis import Scan, Setup, fit_grating
from analysis.figure import figure

ANGLES = np.linspace(0, 40, 12)
MILLIMETRE = 1e-3


@pytest.fixture(scope="module")
def scene():
    plain = random_scene(41, groove_density=300e3)
    # A reflection beside order +1, where that is at servo angle 0, and a frame at another angle than it says.
    x, y = plain.truth_px(plain.angle_offset)[1]
    return random_scene(41, groove_density=300e3, ghosts=((float(x) + 8, float(y) + 3, 90.0),))


@pytest.fixture(scope="module")
def fit(scene):
    images, backgrounds, alphas = scene.frames(ANGLES)
    images[5], backgrounds[5] = scene.frame(alphas[5] + np.deg2rad(3))
    setup = Setup(groove_density=300e3)
    scan = Scan(images=images, backgrounds=backgrounds, angles=ANGLES, setup=setup, calibration=scene.target())
    return fit_grating(scan)


def test_spacing_is_the_distance_of_an_order_from_order_zero(fit, scene):
    table = fit.peak_spacing
    used = table[table["status"] == "used"]
    assert set(used["order"]) == {-2, -1, 1, 2}
    pulls = []
    for row in used.itertuples():
        alpha = scene.angle_offset + scene.angle_gain * np.deg2rad(row.angle)
        away = scene.screen_point(alpha, row.order) - scene.screen_point(alpha, 0)
        h = 1e-4
        slope = np.hypot(*(scene.screen_point(alpha + h, row.order) - scene.screen_point(alpha - h, row.order))) / 2 / h
        stderr = np.hypot(row.spacing_mm_stderr * MILLIMETRE, slope * np.deg2rad(row.angle_stderr))
        pulls.append((row.spacing_mm * MILLIMETRE - np.sign(row.order) * np.hypot(*away)) / stderr)
    assert 0.4 < np.std(pulls) < 1.6
    assert np.abs(pulls).max() < 4.5


def test_spacing_in_pixels_is_what_the_camera_sees(fit, scene):
    true = scene.truth_px(scene.angle_offset)
    # Order +1 hardly moves about minimum deviation; pixels are those of the frame, lens and pose included.
    row = fit.peak_spacing.query("frame == 0 and order == 2").iloc[0]
    assert row["spacing_px"] == pytest.approx(np.hypot(*(true[2] - true[0])), abs=2.0)
    assert 0.02 < row["spacing_px_stderr"] < 0.5
    assert (np.sign(fit.peak_spacing["spacing_px"]) == np.sign(fit.peak_spacing["order"])).all()


def test_error_of_a_spacing_is_not_that_of_the_place_on_the_screen(fit):
    # Most of a place's error is the camera's pose and scale, which moves order 0 as well.
    positions = fit.positions.query("order == 1 and status == 'used'")
    assert (positions["spacing_stderr"] < 1.5 * np.hypot(positions["x_stderr"], 0.1e-3)).all()
    assert (positions["spacing_stderr"] > 1e-6).all()


def test_unused_peaks_are_told_with_their_reason(fit):
    table = fit.peak_spacing
    assert set(table["status"]) == {"used", "ambiguous", "rejected"}
    assert (table.query("status == 'used'")["reason"] == "").all()
    assert table.query("status == 'ambiguous'")["reason"].str.contains("another spot").all()
    assert set(table.query("status == 'rejected' and order != 1")["frame"]) == {5}
    assert table.query("status == 'rejected'")["reason"].str.contains("standard deviations").all()
    assert (table.query("status == 'rejected'")["residual"].abs() > 3).any()
    assert np.isfinite(table["residual"]).all()


def test_table_and_dataset_hold_the_same(fit):
    dataset, table = fit.peak_spacing_dataset, fit.peak_spacing
    assert dict(dataset.sizes) == {"frame": len(ANGLES), "order": 4}
    assert dataset["angle"].values.tolist() == fit.scan.angles.tolist()
    assert dataset["spacing_mm"].attrs["units"] == "mm"
    assert int(dataset["spacing_mm"].notnull().sum()) == len(table)
    for row in table.sample(10, random_state=0).itertuples():
        cell = dataset.sel(frame=row.frame, order=row.order)
        assert float(cell["spacing_px"]) == row.spacing_px
        assert str(cell["status"].values) == row.status


def test_figure_marks_what_was_not_used(fit):
    spacing, residual = figure(fit).axes[:2]
    labels = spacing.get_legend_handles_labels()[1]
    counts = fit.positions["status"].value_counts()
    assert f"{counts['rejected']} rejected" in labels
    assert f"{counts['ambiguous']} ambiguous" in labels
    drawn = [line for line in spacing.lines if line.get_marker() == "x" and line.get_linestyle() == "None"]
    assert sum(len(line.get_xdata()) for line in drawn) == counts["rejected"]
    low, high = residual.get_ylim()
    assert all(low < y < high for line in residual.lines if line.get_marker() == "x" for y in line.get_ydata())


@pytest.mark.parametrize("name", ["budget_figure", "correlation_figure"])
def test_diagnostic_figures_name_what_they_show(fit, name):
    axes = getattr(fit, name)().axes[0]
    said = " ".join(label.get_text() for label in axes.get_yticklabels())
    wanted = ("wavelength", "speckle", "distance L") if name == "budget_figure" else fit.parameter_names
    assert all(word in said for word in wanted)
