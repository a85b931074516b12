"""The grating equation and the screen, against closed form and against rays traced with vectors."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scenes import Scene

from analysis.grating import diffraction_angle, footprint, last_order, positions

L, G = 0.23, 0.39
steady = settings(derandomize=True, deadline=None)


def test_normal_incidence_sends_first_order_to_arcsine_of_g():
    assert np.rad2deg(diffraction_angle(1, 0.0, 0.5)) == pytest.approx(30.0)
    for mount in ("classical", "in-plane", "conical"):
        u, v = positions(1, 0.0, lambda_over_d=G, screen_distance=L, mount=mount)
        assert u == pytest.approx(L * G / np.sqrt(1 - G**2), rel=1e-12)
        assert v == 0


def test_orders_that_do_not_propagate_are_nan():
    # m = -1 at 600/mm and 650 nm leaves at sin(alpha) = 1 - g = 37.6 deg.
    edge = np.arcsin(1 - G)
    assert np.rad2deg(edge) == pytest.approx(37.6, abs=0.05)
    u, _ = positions(-1, [edge - 0.01, edge + 0.01], lambda_over_d=G, screen_distance=L)
    assert np.isfinite(u).tolist() == [True, False]
    # Turned in its plane it never propagates where |m| g > 1.
    assert np.isnan(positions(3, np.linspace(-1, 1, 9), lambda_over_d=G, screen_distance=L, mount="in-plane")).all()


def test_order_at_minimum_deviation_stands_still_at_sine_half_g():
    alpha = np.arcsin(G / 2)
    assert np.rad2deg(alpha) == pytest.approx(11.2, abs=0.05)
    assert alpha + diffraction_angle(1, alpha, G) == pytest.approx(2 * alpha)
    near = alpha + np.array([-1e-3, 0, 1e-3])
    u, _ = positions(1, near, lambda_over_d=G, screen_distance=L)
    assert u[1] == u.min()
    assert u[2] - u[0] == pytest.approx(0, abs=1e-8)


@steady
@given(alpha=st.floats(-0.75, 0.75), g=st.floats(0.1, 0.45), order=st.integers(-2, 2))
def test_classical_mount_is_the_tangent_of_alpha_plus_beta(alpha, g, order):
    sine = order * g - np.sin(alpha)
    assume(abs(sine) < 0.99)
    theta = alpha + np.arcsin(sine)
    u, v = positions(order, alpha, lambda_over_d=g, screen_distance=L)
    assert v == 0
    if abs(theta) < 1.55:
        assert u == pytest.approx(L * np.tan(theta), rel=1e-9, abs=1e-12)
        stretched = np.cos(theta - alpha) / (np.cos(alpha) * np.cos(theta))
        np.testing.assert_allclose(
            footprint(order, alpha, g, "classical"), np.diag([stretched, 1]), rtol=1e-9, atol=1e-12
        )


@steady
@given(turn=st.floats(-np.pi, np.pi), g=st.floats(0.1, 0.45), order=st.integers(-2, 2))
def test_orders_circle_order_zero_when_the_grating_turns_in_its_plane(turn, g, order):
    u, v = positions(order, turn, lambda_over_d=g, screen_distance=L, mount="in-plane")
    radius = L * np.tan(np.arcsin(order * g))
    np.testing.assert_allclose([u, v], [radius * np.cos(turn), radius * np.sin(turn)], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(footprint(order, turn, g, "in-plane"), np.eye(2))


@steady
@given(alpha=st.floats(-0.75, 0.75), g=st.floats(0.1, 0.33), order=st.integers(-2, 2))
def test_conical_mount_keeps_the_component_along_the_grooves(alpha, g, order):
    u, v = positions(order, alpha, lambda_over_d=g, screen_distance=L, mount="conical")
    # The component along the grooves stays sin(alpha), that across them is m g: in the laboratory, turned by alpha,
    normal = np.sqrt(1 - (order * g) ** 2 - np.sin(alpha) ** 2)
    z = np.sin(alpha) ** 2 + normal * np.cos(alpha)
    y = np.sin(alpha) * (np.cos(alpha) - normal)
    np.testing.assert_allclose([u, v], [L * order * g / z, L * y / z], rtol=1e-9, atol=1e-12)


geometry = {
    "mount": st.sampled_from(["classical", "in-plane", "conical"]),
    "alpha": st.floats(-0.75, 0.75),
    "g": st.floats(0.1, 0.45),
    "e": st.floats(-5e-3, 5e-3),
    "b": st.floats(-2e-3, 2e-3),
    "tau": st.floats(-0.05, 0.05),
    "order": st.integers(-2, 2),
}


@steady
@given(**geometry)
def test_positions_equal_the_ray_traced_with_vectors(mount, alpha, g, e, b, tau, order):
    scene = Scene(lambda_over_d=g, grating_offset=e, beam_offset=b, screen_tilt=tau, mount=mount)
    traced = scene.screen_point(alpha, order)
    where = positions(
        order,
        alpha,
        mount=mount,
        lambda_over_d=g,
        screen_distance=scene.screen_distance,
        grating_offset=e,
        beam_offset=b,
        screen_tilt=tau,
    )
    if traced is None:
        assert np.isnan(where).all()
    elif np.isfinite(where[0]):
        assert where == pytest.approx(tuple(traced), rel=1e-6, abs=1e-9)


@steady
@given(**geometry)
def test_footprint_is_how_far_a_ray_beside_the_beam_lands(mount, alpha, g, e, b, tau, order):
    scene = Scene(lambda_over_d=g, screen_distance=L, mount=mount)
    # pixel = screen / 0.25 mm here: the covariance of the spot is the footprint's, on pixels of this size.
    found = scene.spots(alpha) if order in scene.orders else {}
    assume(order in found)
    cells = footprint(order, alpha, g, mount)
    assume(np.abs(cells).max() < 5)
    scale = scene.beam_sigma / scene.pixel_size
    np.testing.assert_allclose(found[order][1], cells @ cells.T * scale**2, rtol=2e-3, atol=2e-3 * scale**2)


@steady
@given(**geometry)
def test_mirrored_angle_mirrors_the_order_when_nothing_is_off_axis(mount, alpha, g, e, b, tau, order):
    left = positions(order, alpha, lambda_over_d=g, screen_distance=L, mount=mount)
    right = positions(-order, -alpha, lambda_over_d=g, screen_distance=L, mount=mount)
    down = {"classical": 1, "in-plane": 1, "conical": -1}[mount]
    np.testing.assert_allclose(left, (-right[0], down * right[1]), rtol=1e-9, atol=1e-12)


@steady
@given(**geometry)
def test_zero_order_never_moves(mount, alpha, g, e, b, tau, order):
    where = positions(
        0, alpha, mount=mount, lambda_over_d=g, screen_distance=L, grating_offset=e, beam_offset=b, screen_tilt=tau
    )
    assert where == pytest.approx((0, 0), abs=1e-12)


def test_number_of_orders_follows_from_g():
    assert last_order(G) == 5
    assert last_order(1.5) == 1
