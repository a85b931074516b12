"""Which spot is which diffraction order: decided for the scan as a whole, never frame by frame.

The zero order does not move. So: places where a spot stands still are candidates for order 0; for each, and for each
line of spots through it, a grid over g (or the unknown scale) and the angle offset is scored by how many spots it
explains over all frames, less those that it predicts inside the field and that are not there. The best few are
fitted, the spots are assigned anew, and the fit that explains most is kept. Two spots that both could be an order
are flagged, and neither is used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.calibration import Calibration
from analysis.errors import NoOrders
from analysis.grating import last_order
from analysis.matching import HIGHEST_ORDER, NONE, Assignment, Field, Observations, match
from analysis.model import Model
from catalog.setup import Setup

Array = NDArray[np.float64]
Integers = NDArray[np.intp]

MAX_ROLL = np.deg2rad(12)
#: Frames of the search; the fit that follows it takes all.
SEARCH_FRAMES = 14


def assign_orders(seen: Observations, model: Model, setup: Setup, calibration: Calibration) -> Assignment:
    """Orders of a scan's spots.

    Raises
    ------
    NoOrders
        When no zero order, or nothing beside it, explains the spots.
    """
    field = Field.of(seen, calibration)
    hypotheses: list[tuple[float, Array]] = []
    for zero in zero_candidates(seen):
        for roll in _rolls(seen, model, zero, field):
            hypotheses += _search(seen, model, setup, field, zero, roll)
    hypotheses.sort(key=lambda item: -item[0])
    limit = _reach(setup)
    inside = [h for h in hypotheses if _off_nominal(h[1], model) <= limit]
    best = _best(seen, model, inside, field)
    floor = best.score if best is not None else 0.0
    # Another grating explains what this one does when its orders fall among its own: it has to explain more.
    outside = [h for h in hypotheses if _off_nominal(h[1], model) > limit]
    other = _best(seen, model, [h for h in outside[:40] if h[0] > 1.1 * floor], field)
    if other is not None and other.score > 1.25 * floor + 0.3 * seen.n_frames:
        found = other.theta[model.index("lambda_over_d")] / setup.wavelength
        raise NoOrders(
            f"the spots look like a grating of {found / 1e3:.0f} lines/mm; groove_density of the set-up says "
            f"{setup.groove_density / 1e3:.4g} lines/mm, to {setup.groove_density_tolerance:.0%}. Correct it"
        )
    if best is None:
        raise NoOrders(
            f"{len(seen.frame)} spots in {seen.n_frames} frames, and no order 0 with other orders beside it explains "
            f"them for {setup.groove_density / 1e3:.4g} lines/mm within {setup.groove_density_tolerance:.0%}. Check "
            "groove_density, servo_direction and screen_distance of the set-up, and that order 0 is in the field"
        )
    return best


def _reach(setup: Setup) -> float:
    """How far off the set-up's the search may find g, relative: it takes the screen to be where the set-up says."""
    return setup.lambda_over_d_tolerance + 3 * setup.screen_distance_stderr / setup.screen_distance


def _off_nominal(theta: Array, model: Model) -> float:
    """How far g is off the set-up's, relative."""
    g = model.index("lambda_over_d")
    return abs(float(theta[g] / model.prior[g]) - 1)


def _best(seen: Observations, model: Model, hypotheses: list[tuple[float, Array]], field: Field) -> Assignment | None:
    """The best of the first few, fitted."""
    best: Assignment | None = None
    for _, theta in _different(hypotheses, model)[:4]:
        trial = _refine(seen, model, theta, field)
        if trial is not None and (best is None or trial.score > best.score):
            best = trial
    return best


def zero_candidates(seen: Observations) -> list[Array]:
    """Places where a spot stands still in most frames, the most constant first; each shape (2,), m."""
    radius = 1.5 * float(np.median(seen.width))
    distance = np.hypot(*(seen.screen[:, None] - seen.screen[None]).transpose(2, 0, 1))
    near = distance < radius
    frames = np.zeros((len(seen.frame), seen.n_frames), bool)
    for frame in range(seen.n_frames):
        frames[:, frame] = near[:, seen.frame == frame].any(1)
    count = frames.sum(1).astype(float)
    found: list[Array] = []
    # Of equally constant places the tightest first: order +1 is nearly still at minimum deviation, order 0 is still.
    tightness = np.array([distance[i, n].mean() for i, n in enumerate(near)]) / radius
    rank = np.argsort(-(count - 0.5 * tightness))
    need = max(1, 0.35 * seen.n_frames)
    for i in rank:
        if count[i] < need or len(found) == 4:
            break
        place = np.median(seen.screen[near[i]], axis=0)
        if all(np.hypot(*(place - other)) > 1.5 * radius for other in found):
            found.append(place)
    return found


def _rolls(seen: Observations, model: Model, zero: Array, field: Field) -> list[float]:
    """Slopes of the lines through `zero` that hold most spots, rad; at most two.

    Only the classical mount keeps its orders on a line: of the others every roll is tried.
    """
    if model.mount != "classical":
        return np.linspace(-MAX_ROLL, MAX_ROLL, 9).tolist()
    offset = seen.screen - zero
    far = np.abs(offset[:, 0]) > 0.02 * field.width
    if not far.any():
        return []
    angle = np.arctan(offset[far, 1] / offset[far, 0])
    grid = np.arange(-MAX_ROLL, MAX_ROLL, np.deg2rad(0.25))
    votes = np.exp(-0.5 * ((angle[None] - grid[:, None]) / np.deg2rad(0.5)) ** 2).sum(1)
    rolls: list[float] = []
    for _ in range(2):
        i = int(votes.argmax())
        if votes[i] < max(1.0, 0.2 * seen.n_frames):
            break
        rolls.append(float(grid[i]))
        votes[np.abs(grid - grid[i]) < np.deg2rad(1.5)] = 0
    return rolls


def _search(
    seen: Observations, model: Model, setup: Setup, field: Field, zero: Array, roll: float
) -> list[tuple[float, Array]]:
    """The best of a grid over the angle offset and g (or the scale), scored on along-line and off-line residuals."""
    c, s = np.cos(roll), np.sin(roll)
    offset = seen.screen - zero
    u, v = c * offset[:, 0] + s * offset[:, 1], -s * offset[:, 0] + c * offset[:, 1]
    tolerance = 0.02 * field.width
    on_line = np.hypot(u, v) > 0.01 * field.width
    if model.mount == "classical":
        on_line &= np.abs(v) < 0.012 * field.width + 0.01 * np.abs(u)
    if not on_line.any():
        return []
    # A few frames, evenly over the angles, decide as well as all of them.
    even = np.unique(np.linspace(0, seen.n_frames - 1, SEARCH_FRAMES).astype(int))
    chosen = np.sort(np.argsort(seen.servo_of_frame)[even])
    on_line &= np.isin(seen.frame, chosen)
    u, v, frame = u[on_line], v[on_line], np.searchsorted(chosen, seen.frame[on_line])

    spread = 2.5 * setup.angle_offset_stderr
    offsets = setup.angle_offset + np.linspace(-spread, spread, max(3, 2 * round(spread / 0.015) + 1))
    limit = _reach(setup)
    nearby, anywhere = limit, np.log(3.0)
    nominal = model.prior[model.index("lambda_over_d")]
    if "scale" in model.names:
        reach = np.log(12.0) if setup.pixel_size is None else setup.groove_density_tolerance + 0.05
        scales, gs = np.exp(np.arange(-reach, reach, 0.015)), np.array([nominal])
    else:
        # Beyond the tolerance, only to be able to say what the grating is instead.
        steps = np.arange(-nearby, nearby + 0.005, 0.01)
        coarse = np.arange(nearby + 0.02, anywhere, 0.02)
        scales, gs = np.array([1.0]), nominal * np.exp(np.concatenate([steps, -coarse, coarse]))
        gs = gs[gs < 1.5]

    top = min(HIGHEST_ORDER, last_order(float(gs.min())))
    orders = np.array([m for m in range(-top, top + 1) if m])
    servo = model.direction * seen.servo_of_frame[chosen] * setup.angle_gain
    weight = seen.n_frames / len(chosen)
    alpha = servo[None, :] + offsets[:, None]
    results: list[tuple[float, Array]] = []
    for g in gs:
        place = model.positions(
            orders[None, None, :],
            alpha[:, :, None],
            lambda_over_d=g,
            **{
                name: getattr(setup, name)
                for name in ("screen_distance", "grating_offset", "beam_offset", "screen_tilt")
            },
        )
        for scale in scales:
            along, across = place[0] / scale, place[1] / scale
            on_screen = np.stack([zero[0] + c * along - s * across, zero[1] + s * along + c * across], -1)
            visible = field.holds(on_screen, margin=tolerance)
            away = np.hypot(u[None, :, None] - along[:, frame], v[None, :, None] - across[:, frame])
            miss = np.nan_to_num(away, nan=np.inf)
            which = miss.argmin(2)
            least = np.take_along_axis(miss, which[..., None], 2)[..., 0]
            match = np.maximum(0, 1 - (least / tolerance) ** 2)
            score = np.zeros(len(offsets))
            for k in range(len(orders)):
                mine = np.where(which == k, match, 0)
                hits, expected = mine.sum(1), visible[:, :, k].sum(1)
                present = (mine > 0).sum(1) >= 0.5 * expected
                score += np.where(present, hits - 0.5 * np.maximum(expected - hits, 0), 0)
            i = int(score.argmax())
            if score[i] > 0:
                theta = model.prior.copy()
                values = {
                    "lambda_over_d": g,
                    "angle_offset": offsets[i],
                    "x0": zero[0],
                    "y0": zero[1],
                    "roll": roll,
                    "scale": scale,
                }
                for name, value in values.items():
                    if name in model.names:
                        theta[model.index(name)] = value
                results.append((weight * float(score[i]) + 0.5 * _constancy(seen, zero), theta))
    results.sort(key=lambda item: -item[0])
    results = _different(results, model)
    near = [item for item in results if _off_nominal(item[1], model) <= limit]
    far = [item for item in results if _off_nominal(item[1], model) > limit]
    return near[:3] + far[:2]


def _constancy(seen: Observations, zero: Array) -> float:
    """The number of frames with a spot at this place."""
    near = np.hypot(*(seen.screen - zero).T) < 1.5 * float(np.median(seen.width))
    return float(np.unique(seen.frame[near]).size)


def _different(hypotheses: list[tuple[float, Array]], model: Model) -> list[tuple[float, Array]]:
    """Without those that are a small step from a better one."""
    kept: list[tuple[float, Array]] = []
    reach = np.full(len(model.names), np.inf)
    for name, value in {"lambda_over_d": 0.02, "x0": 1e-3, "y0": 1e-3, "roll": 0.01, "scale": 0.04}.items():
        if name in model.names:
            reach[model.index(name)] = value
    for score, theta in hypotheses:
        if all((np.abs(theta - other) > reach).any() for _, other in kept):
            kept.append((score, theta))
    return kept


def _refine(seen: Observations, model: Model, theta: Array, field: Field) -> Assignment | None:
    """Fit, assign, fit again with a narrower gate; None where nothing but order 0 is left."""
    result: Assignment | None = None
    g = model.index("lambda_over_d")
    for gate in (0.02, 0.012, 0.007):
        result = match(seen, model, theta, field, gate=np.full(len(seen.frame), gate * field.width))
        used = (result.order != NONE) & ~result.ambiguous
        if not (used & (result.order == 0)).any() or not (used & (result.order != 0)).any():
            return None
        theta = _robust_fit(seen, model, theta, result.order, used, scale=0.002 * field.width)
        if not 1 / 4 < theta[g] / model.prior[g] < 4:
            return None
    assert result is not None
    return Assignment(result.order, result.ambiguous, theta, result.score)


def _robust_fit(
    seen: Observations, model: Model, theta: Array, order: Integers, used: NDArray[np.bool_], *, scale: float
) -> Array:
    """Parameters from these orders by soft L1, with each frame's servo error free within its jitter."""
    from scipy.optimize import least_squares

    servo, orders, screen = seen.servo[used], order[used], seen.screen[used]
    finite = np.isfinite(model.prior_stderr)

    def residuals(t: Array) -> Array:
        predicted = model.predict(t * model.size, servo, orders)
        miss = np.nan_to_num((predicted - screen) / scale, nan=10.0).ravel()
        return np.concatenate([miss, ((t * model.size - model.prior) / model.prior_stderr)[finite]])

    solution = least_squares(residuals, theta / model.size, loss="soft_l1", max_nfev=30, method="trf")
    return np.asarray(solution.x * model.size)
