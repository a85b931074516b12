"""Spots against the light that was put in: positions, their errors, and what is no spot."""

import numpy as np
import pytest
from scenes import Scene

from analysis import find_spots
from analysis.errors import BadScan
from analysis.frames import laser_light

K, READ, AMBIENT = 17.0, 5.0, 18.0
SX, SY = 4.2, 3.6


def cramer_rao(peak, contrast):
    """Least standard deviation (px) of the x of a Gaussian in noise v0 + f/K + C^2 f^2, saturated pixels unused."""
    y, x = np.mgrid[-30:31, -30:31].astype(float)
    f = peak * np.exp(-0.5 * ((x / SX) ** 2 + (y / SY) ** 2))
    variance = 2 * (AMBIENT / K + (READ / K) ** 2) + 1 / 6 + f / K + (contrast * f) ** 2
    usable = f + AMBIENT < 255
    return float(1 / np.sqrt((usable * (f * x / SX**2) ** 2 / variance).sum()))


def photograph(centres, peak, contrast, rng, *, lobe=0.0, shape=(480, 640)):
    """A pair of u1 frames with spots at `centres`."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    light = np.zeros(shape)
    for cx, cy in centres:
        for shift, height in ((0.0, peak), (2 * SX, lobe * peak)):
            light += height * np.exp(-0.5 * (((x - cx - shift) / SX) ** 2 + ((y - cy) / SY) ** 2))
    if contrast:
        light *= rng.gamma(contrast**-2, contrast**2, shape)
    ambient = AMBIENT * (1 + 0.3 * (x / shape[1] - 0.5))

    def expose(mean):
        noise = np.sqrt(mean / K + (READ / K) ** 2) * rng.standard_normal(shape)
        return np.clip(np.round(mean + noise), 0, 255).astype(np.uint8)

    return expose(ambient + light), expose(ambient)


def scatter(peak, contrast, *, lobe=0.0, frames=11, seed=1):
    """(errors in x and y, stated errors, spots that were missed, spots that are not there) over many spots."""
    rng = np.random.default_rng(seed)
    errors, stated, missed, extra = [], [], 0, 0
    for _ in range(frames):
        centres = [
            (90 + 150 * i + rng.uniform(-4, 4), 70 + 110 * j + rng.uniform(-4, 4)) for i in range(4) for j in range(4)
        ]
        spots = find_spots(*photograph(centres, peak, contrast, rng, lobe=lobe))
        extra += len(spots)
        for cx, cy in centres:
            near = [s for s in spots if np.hypot(s.x - cx, s.y - cy) < 8]
            if not near:
                missed += 1
                continue
            extra -= 1
            errors.append((near[0].x - cx, near[0].y - cy))
            stated.append((near[0].x_stderr, near[0].y_stderr))
    return np.array(errors), np.array(stated), missed, extra


@pytest.mark.parametrize(("peak", "contrast"), [(8, 0.3), (40, 0.3), (120, 0.0), (120, 0.3), (800, 0.3)])
def test_position_reaches_the_cramer_rao_bound_with_the_speckle_estimated(peak, contrast):
    errors, stated, missed, extra = scatter(peak, contrast)
    assert missed == 0
    assert extra == 0
    # 176 spots: the scatter of an RMS is 5 %, and the goal is 1.1.
    assert np.sqrt(np.mean(errors[:, 0] ** 2)) < 1.2 * cramer_rao(peak, contrast)
    assert 0.8 < np.sqrt(np.mean((errors / stated) ** 2)) < 1.2


def test_every_spot_of_six_counts_is_found_and_noise_is_not():
    _, _, missed, extra = scatter(6, 0.3, frames=10)
    assert missed <= 1
    assert extra <= 1


def test_side_lobe_pulls_less_than_a_fifth_of_a_pixel_and_is_in_the_error():
    errors, stated, _, _ = scatter(120, 0.3, lobe=0.05)
    assert abs(errors[:, 0].mean()) < 0.2
    assert 0.9 < np.sqrt(np.mean((errors / stated) ** 2)) < 1.1


def test_noise_is_estimated_from_the_pair():
    image, background = photograph([], 0, 0, np.random.default_rng(3), shape=(960, 1280))
    noise = laser_light(image, background).noise
    assert float(noise.dark(AMBIENT)) == pytest.approx(2 * (AMBIENT / K + (READ / K) ** 2) + 1 / 6, rel=0.03)
    assert noise.per_count == pytest.approx(1 / K, rel=0.35)


def test_saturated_spot_is_flagged_and_keeps_its_place():
    rng = np.random.default_rng(2)
    (spot,) = find_spots(*photograph([(300.3, 200.7)], 1500, 0.3, rng))
    assert spot.saturated
    assert "saturated" in spot.flags
    assert (spot.x, spot.y) == (pytest.approx(300.3, abs=0.25), pytest.approx(200.7, abs=0.25))
    assert spot.amplitude > 600


def test_spot_cut_by_the_frame_is_flagged():
    (spot,) = find_spots(*photograph([(2.0, 200.0)], 100, 0.3, np.random.default_rng(2)))
    assert "edge" in spot.flags


def test_hot_pixels_are_no_spots():
    scene = Scene(orders=(), hot_pixels=300, blinking_pixels=60, seed=4)
    assert [find_spots(*scene.frame(0.0)) for _ in range(5)] == [()] * 5


def test_colour_mono_and_sixteen_bit_frames_agree():
    image, background = photograph([(200.0, 150.0)], 100, 0.2, np.random.default_rng(5))
    (mono,) = find_spots(image, background)
    pair = [np.stack([f, f // 12, f // 25], -1) for f in (image, background)]
    (colour,) = find_spots(*pair)
    (deep,) = find_spots(image.astype(np.uint16) * 16, background.astype(np.uint16) * 16)
    (real,) = find_spots(image.astype(float), background.astype(float))
    for other in (colour, deep, real):
        assert other.x == pytest.approx(mono.x, abs=0.03)
        assert other.x_stderr == pytest.approx(mono.x_stderr, rel=0.2)
    assert deep.amplitude == pytest.approx(16 * mono.amplitude, rel=0.05)


@pytest.mark.parametrize(
    "frames",
    [
        (np.zeros((480, 640), np.uint8), np.zeros((480, 640), np.uint8)),
        (np.full((480, 640), 255, np.uint8), np.full((480, 640), 255, np.uint8)),
        (np.full((480, 640), 255, np.uint8), np.zeros((480, 640), np.uint8)),
        (np.full((480, 640), 77, np.uint8), np.full((480, 640), 77, np.uint8)),
        (np.full((480, 640), 7.7), np.full((480, 640), 2.2)),
    ],
    ids=["black", "saturated", "saturated over black", "constant", "constant floats"],
)
def test_frames_without_structure_hold_no_spots(frames):
    assert find_spots(*frames) == ()


def test_image_and_background_swapped_show_nothing():
    image, background = photograph([(200.0, 150.0)], 100, 0.3, np.random.default_rng(5))
    assert find_spots(background, image) == ()


def test_pixels_that_are_not_numbers_are_masked():
    image, background = (f.astype(float) for f in photograph([(200.0, 150.0)], 100, 0.3, np.random.default_rng(5)))
    (whole,) = find_spots(image, background)
    image[148:150, 203:206] = np.nan
    background[:20] = np.inf
    (masked,) = find_spots(image, background)
    assert masked.x == pytest.approx(whole.x, abs=0.15)
    with pytest.raises(BadScan, match="no pixel"):
        find_spots(np.full((480, 640), np.nan), background)


@pytest.mark.parametrize(
    ("image", "background", "what"),
    [
        (np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8), "16 pixels"),
        (np.zeros((480, 640), np.uint8), np.zeros((480, 320), np.uint8), "one shape"),
        (np.zeros((480, 640, 2), np.uint8), np.zeros((480, 640, 2), np.uint8), "channel"),
        (np.zeros(480, np.uint8), np.zeros(480, np.uint8), "shape"),
        (np.zeros((480, 640), bool), np.zeros((480, 640), bool), "not counts"),
    ],
    ids=["one pixel", "two shapes", "two channels", "one axis", "booleans"],
)
def test_what_is_no_pair_of_frames_is_refused_by_name(image, background, what):
    with pytest.raises(BadScan, match=what):
        find_spots(image, background)
