"""The lens from pictures of a chessboard, against the camera that took them."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from boards import BoardCamera

from analysis import Chessboard, Lens, calibrate_lens
from analysis.chessboard import covered
from analysis.errors import BadScan, NoLens

BOARD = Chessboard()
CAMERA = BoardCamera(focal_length=650.0, k1=-0.2, shape=(480, 640), centre=(322.0, 237.0))


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(4)
    found = [BOARD.corners(CAMERA.photograph(rng)) for _ in range(12)]
    assert all(corners is not None for corners in found)
    return found


@pytest.fixture(scope="module")
def calibration(views):
    return calibrate_lens(views, CAMERA.shape, BOARD)


def left_over(lens, camera):
    """RMS shift that the lens leaves, of half the frame's width, after the homography that a target takes up."""
    ny, nx = camera.shape
    grid = np.stack(np.meshgrid(np.linspace(0, nx - 1, 17), np.linspace(0, ny - 1, 13)), -1).reshape(-1, 2)
    truth = Lens(camera.matrix, [camera.k1, camera.k2, 0, 0]).undistort(grid)
    found = lens.undistort(grid)
    homography, _ = cv2.findHomography(found, truth)
    carried = np.column_stack([found, np.ones(len(found))]) @ homography.T
    return np.sqrt(np.mean((carried[:, :2] / carried[:, 2:] - truth) ** 2)) / (nx / 2)


def test_lens_is_the_camera_s_and_says_how_well_it_is_known(calibration):
    assert calibration.rms < 0.1
    assert calibration.lens.camera_matrix[0, 0] == pytest.approx(650, rel=2e-3)
    assert calibration.lens.distortion[0] == pytest.approx(-0.2, abs=0.01)
    # Without a lens a distortion of -0.2 (f / half width)^-2 = 5 % is left.
    assert left_over(calibration.lens, CAMERA) < 5 * calibration.lens.residual < 1e-3


def test_coverage_tells_which_cells_of_the_frame_were_seen(views, calibration):
    assert calibration.coverage == covered(views, CAMERA.shape).mean() > 0.6
    assert calibration.flags == ()
    corner = covered([np.array([[0.0, 0.0], [639.0, 479.0]])], CAMERA.shape)
    assert corner.sum() == 2
    assert corner[0, 0]
    assert corner[-1, -1]


def test_view_of_another_board_is_left_out(views, calibration):
    rng = np.random.default_rng(0)
    bent = views[0] + rng.normal(0, 2.0, views[0].shape)
    with_it = calibrate_lens([*views, bent], CAMERA.shape, BOARD)
    assert np.isnan(with_it.view_rms[-1])
    assert np.isfinite(with_it.view_rms[:-1]).all()
    assert with_it.rms == pytest.approx(calibration.rms, rel=0.05)


def test_views_of_one_corner_of_the_frame_are_flagged():
    camera = replace(CAMERA, k1=-0.05)
    rng = np.random.default_rng(1)
    found = [BOARD.corners(camera.photograph(rng, square=0.012)) for _ in range(30)]
    left = [c for c in found if c is not None and c[:, 0].max() < 420]
    assert calibrate_lens(left, camera.shape, BOARD).flags == ("coverage",)


def test_too_few_views_are_a_named_error(views):
    with pytest.raises(NoLens, match="5 views"):
        calibrate_lens(views[:5], CAMERA.shape, BOARD)


def test_views_that_contradict_each_other_are_a_named_error(views):
    rng = np.random.default_rng(2)
    with pytest.raises(NoLens, match="off any lens"):
        calibrate_lens([v + rng.normal(0, 9.0, v.shape) for v in views], CAMERA.shape, BOARD)


def test_picture_without_the_board_has_no_corners():
    assert BOARD.corners(np.random.default_rng(0).integers(0, 255, (480, 640), dtype=np.uint8)) is None
    assert BOARD.corners(np.zeros((480, 640, 3), np.uint8)) is None


@pytest.mark.parametrize("board", [(2, 6, 0.02), (7, 7, 0.02), (9, 6, 0.0)], ids=["two", "square", "no size"])
def test_board_that_cannot_be_told_is_refused(board):
    with pytest.raises(BadScan, match="chessboard"):
        Chessboard(*board)
