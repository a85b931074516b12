"""What people see of a fit, and what is kept of it."""

from dataclasses import replace

import numpy as np
import pytest
from event_model import DocumentNames, schema_validators
from scenes import random_scene

from analysis import Lens, Scan, Setup, fit_grating
from analysis.report import calibration_words, signed, with_error
from analysis.results import store


@pytest.fixture(scope="module")
def fit():
    scene = random_scene(9)
    angles = np.linspace(0, 45, 16)
    images, backgrounds, _ = scene.frames(angles)
    return fit_grating(
        Scan(
            images=images,
            backgrounds=backgrounds,
            angles=angles,
            setup=Setup(),
            calibration=scene.target(),
            uid="0f6c2d1e",
        )
    )


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.390213, 0.00112, "0.3902 ± 0.0011"),
        (1663.2, 17.04, "1663 ± 17"),
        (16632.0, 170.4, "16630 ± 170"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (1.0, 9.96, "1 ± 10"),
    ],
)
def test_errors_have_two_digits(value, stderr, text):
    assert with_error(value, stderr) == text


def test_orders_have_true_minus_signs():
    assert [signed(m) for m in (-1, 0, 2)] == ["−1", "0", "+2"]


def test_summary_tells_the_result_with_units(fit):
    text = fit.summary()
    for word in ("λ/d", "nm", "Lines per mm", "χ²", "screen_distance", "used", "Variance of λ/d"):
        assert word in text
    assert "Pixels to metres" in text
    assert "from the target\n" in text
    largest = max(fit.error_budget, key=fit.error_budget.get)
    assert f"% {largest}," in text


def test_fit_names_the_calibrations_that_it_used(fit):
    lens = Lens([[1300, 0, 639.5], [0, 1300, 479.5], [0, 0, 1]], [0, 0, 0, 0])
    scan = replace(fit.scan, calibration_uid="c0ffee00-1", lens=lens, lens_uid="decade00-2")
    both = replace(fit, scan=scan, calibration=replace(fit.calibration, lens=lens))
    assert calibration_words(both) == "the target of run c0ffee00, and the lens of run decade00"
    alone = replace(fit, calibration=replace(fit.calibration, source="self"))
    assert calibration_words(alone) == "the scan itself"


def test_figure_is_a_png_and_leaves_pyplot_alone(fit, tmp_path):
    import matplotlib

    before = matplotlib.rcParams["backend"]
    path = fit.save_figure(tmp_path / "new" / "fit.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert path.stat().st_size > 30_000
    assert matplotlib.rcParams["backend"] == before
    assert fit._repr_png_()[:4] == b"\x89PNG"


def test_fit_is_stored_as_a_run_that_names_the_raw_one(fit):
    documents = []
    uid = store(fit, fit.scan, lambda name, doc: documents.append((name, doc)), md={"purpose": "test"})
    names = [name for name, _ in documents]
    assert names == ["start", *["descriptor", "event_page"] * 2, "descriptor", "event", "stop"]
    for name, doc in documents:
        schema_validators[DocumentNames[name]].validate(doc)
    start, positions, parameters, event = (documents[i][1] for i in (0, 2, 4, 6))
    assert start["uid"] == uid
    assert start["raw_run_uid"] == "0f6c2d1e"
    assert start["setup"] == Setup().model_dump()
    assert len(positions["data"]["order"]) == len(fit.positions)
    assert parameters["data"]["name"] == list(fit.parameter_names)
    assert parameters["data"]["cov_lambda_over_d"][0] == pytest.approx(event["data"]["lambda_over_d_stderr"] ** 2)
