"""Bracketed exposures, held against the light that the simulated bench says it sent."""

from __future__ import annotations

import numpy as np
import pytest

from acquisition.bench.classes import scene_class
from acquisition.bench.scene import BenchState, Scene
from analysis import find_spots
from analysis.errors import BadScan
from analysis.exposures import Brackets, brackets_of, merge_exposures

TIMES = (0.030, 0.0075, 0.002)


def bracketed(scene: Scene, shaft: float = 12.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    images = [scene.render(BenchState(shaft, 1.0), exposure=time) for time in TIMES]
    return images, [scene.render(BenchState(shaft, 0.0), exposure=time) for time in TIMES]


def test_the_saturated_zero_order_has_its_true_brightness_and_place() -> None:
    alone, merged = [], []
    for seed in range(6):
        scene = Scene(scene_class("saturated", seed=seed))
        images, backgrounds = bracketed(scene)
        truth = next(spot for spot in scene.spots(BenchState(12.0, 1.0)) if spot.order == 0)
        assert truth.amplitude > 400, "far beyond what 8 bits hold"
        pairs = ((images[0], backgrounds[0]), merge_exposures(images, backgrounds, TIMES))
        for pair, found in zip(pairs, (alone, merged), strict=True):
            spot = min(find_spots(*pair), key=lambda s: np.hypot(s.x - truth.x, s.y - truth.y))
            away = np.array([spot.x - truth.x, spot.y - truth.y])
            found.append((away, spot.x_stderr, spot.y_stderr, spot.amplitude / truth.amplitude, spot.saturated))
    assert all(saturated for *_, saturated in alone)
    assert not any(saturated for *_, saturated in merged)
    # One exposure sees the slopes of the spot alone, and takes its peak for lower than it is.
    assert np.median([ratio for *_, ratio, _ in alone]) < 0.9
    np.testing.assert_allclose([ratio for *_, ratio, _ in merged], 1, atol=0.1)  # speckle
    pull = np.array([away / (sx, sy) for away, sx, sy, *_ in merged])
    assert np.sqrt(np.mean(pull**2)) < 1.6
    rms = [np.sqrt(np.mean([away @ away for away, *_ in found])) for found in (alone, merged)]
    assert rms[1] < 1.1 * rms[0]


def test_each_pixel_is_the_light_that_fell_on_it_in_counts_of_the_longest_exposure() -> None:
    rng = np.random.default_rng(1)
    light = np.tile(np.geomspace(20, 3000, 240), (200, 1))  # counts of the longest exposure
    gain = 17.0

    def frame(time: float, share: float) -> np.ndarray:
        mean = light * share * time / TIMES[0] + 15 * time / TIMES[0]
        return np.clip(np.rint(rng.normal(mean, np.sqrt(mean / gain + 0.09))), 0, 255).astype(np.uint8)

    images, backgrounds = ([frame(time, share) for time in TIMES] for share in (1.0, 0.0))
    image, background = merge_exposures(images, backgrounds, TIMES)
    difference = image - background
    ratio = np.nanmean(difference, axis=0) / light[0]
    # Nothing is favoured where one exposure takes over from the next.
    np.testing.assert_allclose(ratio[light[0] > 50], 1, atol=0.008)
    # Three exposures see faint light better than the longest alone.
    alone = images[0].astype(float) - backgrounds[0]
    faint = light[0] < 150
    assert difference[:, faint].std(axis=0).mean() < 0.98 * alone[:, faint].std(axis=0).mean()


def test_what_saturates_in_every_exposure_says_nothing() -> None:
    dark = np.zeros((20, 20), np.uint8)
    bright = np.full((20, 20), 40, np.uint8)
    bright[3, 4] = 255
    image, background = merge_exposures(
        [bright, np.where(bright == 255, 255, 20).astype(np.uint8)], [dark, dark], [0.02, 0.01]
    )
    assert np.isnan(image[3, 4])
    assert background[3, 4] == 0
    assert np.isfinite(image).sum() == 399


def test_order_of_the_exposures_does_not_matter() -> None:
    images, backgrounds = bracketed(Scene(scene_class("saturated", seed=3)))
    there, back = (merge_exposures(images[::way], backgrounds[::way], TIMES[::way])[0] for way in (1, -1))
    np.testing.assert_allclose(there, back, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("images", "exposures", "complaint"),
    [
        ([], [], "0 images"),
        ([np.zeros((20, 20), np.uint8)], [0.0], "one time above 0"),
        ([np.zeros((20, 20), np.uint8)], [0.1, 0.2], "one time above 0"),
        ([np.zeros((20, 20), np.uint8), np.zeros((20, 21), np.uint8)], [0.1, 0.2], "differ in shape"),
        ([np.zeros((20, 20))], [0.1], "only unsigned integers"),
    ],
)
def test_frames_that_cannot_be_merged_are_refused(images: list, exposures: list, complaint: str) -> None:
    with pytest.raises(BadScan, match=complaint):
        merge_exposures(images, images, exposures)


def test_frames_of_one_angle_belong_together() -> None:
    setpoints, exposures = [0, 0, 5, 5, 5, 5], [0.03, 0.01, 0.03, 0.01, 0.03, 0.01]
    assert [list(group) for group in brackets_of(setpoints, exposures)] == [[0, 1], [2, 3], [4, 5]]


def test_merged_frames_are_read_when_they_are_asked_for() -> None:
    images = [np.full((20, 20), n, np.uint8) for n in (30, 15, 60, 30)]
    dark = [np.zeros((20, 20), np.uint8)] * 4
    brackets = Brackets(images, dark, np.array([0.02, 0.01] * 2), brackets_of([0, 0, 5, 5], [0.02, 0.01] * 2))
    assert len(brackets.images) == 2
    np.testing.assert_allclose(brackets.images[-1], 60)
    np.testing.assert_allclose(brackets.images[0], 30)
    assert [frame.mean() for frame in brackets.backgrounds[:]] == [0, 0]
    with pytest.raises(IndexError):
        brackets.images[2]
