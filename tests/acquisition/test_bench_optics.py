"""The simulated optics against closed forms that share no code and no algebra with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from acquisition.bench.optics import Geometry, diffract

G = 0.39  # 650 nm on 600 grooves/mm
angles = st.floats(-45, 45).map(math.radians)


def geometry(**changes) -> Geometry:
    ideal = {
        "lambda_over_d": G,
        "screen_distance": 0.23,
        "grating_offset": 0.0,
        "beam_offset": 0.0,
        "screen_tilt": 0.0,
        "mount": "classical",
    }
    return Geometry(**{**ideal, **changes})


def closed_form(order, alpha, *, g, L, e, b, tau):
    """x_m along the screen for the classical mount, from the angles alone."""
    theta = alpha + math.asin(order * g - math.sin(alpha))
    z0 = (e - b * math.sin(alpha)) / math.cos(alpha)
    s = ((L - z0) * math.cos(tau) + b * math.sin(tau)) / (math.cos(tau) - math.tan(theta) * math.sin(tau))
    return (b + s * math.tan(theta)) / math.cos(tau)


@given(
    order=st.integers(-3, 3),
    alpha=angles,
    g=st.floats(0.1, 0.6),
    e=st.floats(-0.005, 0.005),
    b=st.floats(-0.002, 0.002),
    tau=st.floats(-0.05, 0.05),
)
def test_spots_are_where_the_closed_form_has_them(order, alpha, g, e, b, tau):
    assume(abs(order * g - math.sin(alpha)) < 0.999)
    theta = alpha + math.asin(order * g - math.sin(alpha))
    assume(abs(theta) < math.radians(80))
    ray = diffract(
        order, alpha, geometry(lambda_over_d=g, grating_offset=e, beam_offset=b, screen_tilt=tau, screen_distance=0.23)
    )
    expected = closed_form(order, alpha, g=g, L=0.23, e=e, b=b, tau=tau)
    assert ray.position == pytest.approx([expected, 0], abs=1e-9, rel=1e-9)


def test_first_orders_at_normal_incidence_by_hand():
    # 0.39 / sqrt(1 - 0.1521) * 230 mm = 0.423538 * 230 mm
    plus, minus = (diffract(m, 0.0, geometry()).position for m in (1, -1))
    assert plus == pytest.approx([0.0974137, 0], abs=1e-7)
    assert minus == pytest.approx([-0.0974137, 0], abs=1e-7)


def test_the_minus_first_order_vanishes_at_37_6_degrees():
    cut_off = math.degrees(math.asin(1 - G))
    assert cut_off == pytest.approx(37.6, abs=0.05)
    assert diffract(-1, math.radians(cut_off - 0.2), geometry(screen_distance=0.001)) is not None
    assert diffract(-1, math.radians(cut_off + 1e-6), geometry()) is None
    assert diffract(1, math.radians(45), geometry()) is not None


def test_the_plus_first_order_turns_back_at_minimum_deviation():
    alphas = np.radians(np.linspace(0, 25, 2501))
    x = [diffract(1, alpha, geometry()).position[0] for alpha in alphas]
    turning = math.degrees(alphas[int(np.argmin(x))])
    assert turning == pytest.approx(math.degrees(math.asin(G / 2)), abs=0.02)
    # theta = 2 asin(g / 2) there.
    assert min(x) == pytest.approx(0.23 * math.tan(2 * math.asin(G / 2)), rel=1e-6)


@given(alpha=angles, order=st.integers(-2, 2))
def test_mirrored_order_at_mirrored_angle_is_mirrored(alpha, order):
    there, back = diffract(order, alpha, geometry()), diffract(-order, -alpha, geometry())
    assert (there is None) == (back is None)
    if there is not None:
        assert there.position[0] == pytest.approx(-back.position[0], abs=1e-12)


@given(
    alpha=angles,
    e=st.floats(-0.005, 0.005),
    b=st.floats(-0.002, 0.002),
    tau=st.floats(-0.05, 0.05),
    mount=st.sampled_from(["classical", "conical", "in-plane"]),
)
def test_the_zero_order_never_moves(alpha, e, b, tau, mount):
    ray = diffract(0, alpha, geometry(grating_offset=e, beam_offset=b, screen_tilt=tau, mount=mount))
    assert ray.position == pytest.approx([b / math.cos(tau), 0], abs=1e-12)
    assert ray.footprint == pytest.approx(np.diag([1 / math.cos(tau), 1]), abs=1e-12)
    assert ray.obliquity == pytest.approx(1)


@given(alpha=angles, order=st.sampled_from([-1, 1]))
def test_a_round_beam_becomes_an_anamorphic_spot(alpha, order):
    sine = order * G - math.sin(alpha)
    assume(abs(sine) < 0.99)
    beta = math.asin(sine)
    ray = diffract(order, alpha, geometry())
    stretched = math.cos(beta) / (math.cos(alpha) * math.cos(alpha + beta))
    assert ray.footprint == pytest.approx(np.diag([stretched, 1.0]), rel=1e-9)
    assert ray.obliquity == pytest.approx(math.cos(beta) / math.cos(alpha))


@given(angle=st.floats(-180, 180).map(math.radians))
def test_orders_circle_the_zero_order_in_the_in_plane_mount(angle):
    x, y = diffract(1, angle, geometry(mount="in-plane")).position
    assert math.hypot(x, y) == pytest.approx(0.23 * math.tan(math.asin(G)))
    assert math.remainder(math.atan2(y, x) - angle, 2 * math.pi) == pytest.approx(0, abs=1e-9)


@given(alpha=angles)
def test_the_conical_mount_is_symmetric_and_follows_the_cone(alpha):
    plus, minus = (diffract(m, alpha, geometry(mount="conical")).position for m in (1, -1))
    assert plus[0] == pytest.approx(-minus[0])
    assert plus[1] == pytest.approx(minus[1])
    # The direction's x is g; the component along the grooves is what it was: sin(alpha).
    normal_part = math.sqrt(1 - G**2 - math.sin(alpha) ** 2)
    z = normal_part * math.cos(alpha) + math.sin(alpha) ** 2
    assert plus[0] == pytest.approx(0.23 * G / z)


def test_an_order_that_leaves_backwards_hits_no_screen():
    # sin(beta) = 1.2 - sin(60 deg) = 0.334: 19.5 deg from the normal, which is itself 60 deg off, and 80 from the beam.
    assert diffract(2, math.radians(60), geometry(lambda_over_d=0.6)) is not None
    assert diffract(2, math.radians(30), geometry(lambda_over_d=0.74)) is None  # 108 deg from the beam
