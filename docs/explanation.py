"""The pictures and the tables of docs/explanation/geometry.md, computed from the model that the fit has.

    python docs/explanation.py        # drawings, tracks and the table of what is identifiable

`docs/figures.py` calls it too, and adds the error budget of the scan that the demo took.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Arc

from analysis.figure import GRID, INK, PALE, STYLES
from analysis.fitted import GratingFit
from analysis.grating import MOUNTS, diffraction_angle, positions
from analysis.model import PRIORS, Model
from analysis.report import signed
from catalog.setup import Setup

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
PAGE = DOCS / "explanation" / "geometry.md"
FIELD = (0.16, 0.12)  # m, half of what the camera sees
LASER = "#c0392b"

#: What is not known (the rest is), without a prior; mount, range of angles (deg).
ANGLES = ("angle_offset", "angle_gain")
ROWS: tuple[tuple[str, tuple[str, ...], str, float], ...] = (
    ("g alone", (), "classical", 0),
    ("g, offset and gain of the angle", ANGLES, "classical", 0),
    ("the same and L", (*ANGLES, "screen_distance"), "classical", 0),
    ("the same and τ", (*ANGLES, "screen_distance", "screen_tilt"), "classical", 0),
    ("the same and e, b", PRIORS, "classical", 0),
)
#: With the priors of the default set-up.
PRIOR_ROWS = (
    ("classical, 0° to 45°", "classical", 0),
    ("classical, −45° to 45°", "classical", -45),
    ("conical, 0° to 45°", "conical", 0),
    ("in-plane, 0° to 45°", "in-plane", 0),
)
GRATINGS = ((600e3, (-1, 0, 1)), (300e3, (-2, -1, 0, 1, 2)))


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    # The same picture gives the same file.
    with mpl.rc_context({"svg.hashsalt": "lunchbox", "font.family": "sans-serif"}):
        _save(drawing(), "geometry")
        _save(tracks(), "mounts")
    page = PAGE.read_text(encoding="utf-8")
    block = f"<!-- computed: identifiability -->\n\n{identifiability()}\n\n<!-- end -->"
    page = re.sub(r"<!-- computed: identifiability -->.*?<!-- end -->", lambda _: block, page, flags=re.DOTALL)
    PAGE.write_text(page, encoding="utf-8")


def draw_budget(fit: GratingFit) -> None:
    """The error budget of a scan, as docs/images/budget.svg."""
    with mpl.rc_context({"svg.hashsalt": "lunchbox"}):
        _save(fit.budget_figure(), "budget")


def _save(figure: Figure, name: str) -> None:
    figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def drawing() -> Figure:
    """The classical mount from above: beam, grating, orders, screen, and what e, b and tau are; offsets drawn large."""
    figure = Figure(figsize=(9, 5.2), layout="constrained")
    axes = figure.add_subplot()
    distance, alpha, g, tau, offset, beam = 5.6, np.deg2rad(31), 0.32, np.deg2rad(6), 0.6, 0.4
    along, normal = np.array([np.cos(alpha), -np.sin(alpha)]), np.array([np.sin(alpha), np.cos(alpha)])  # (x, z)

    def point(x_z: np.ndarray) -> tuple[float, float]:
        return float(x_z[1]), float(x_z[0])  # z to the right, x up

    def line(a: np.ndarray, b: np.ndarray, **style: object) -> None:
        axes.plot(*zip(point(a), point(b), strict=True), **style)

    def note(text: str, at: np.ndarray, dz: float = 0.0, dx: float = 0.0, **style: object) -> None:
        z, x = point(at)
        axes.text(z + dz, x + dx, text, **({"color": INK, "fontsize": 11, "ha": "center", "va": "center"} | style))

    aside, arrow = np.array([0, 1.05]), {"arrowstyle": "->"}
    axis, foot = np.zeros(2), offset * normal
    start = np.array([beam, (offset - beam * normal[0]) / normal[1]])
    line(foot - 1.5 * along, foot + 1.5 * along, color=INK, linewidth=3)
    note("grating", foot + 1.5 * along, dx=0.28, dz=-0.15)
    line(axis, foot, color=PALE, linewidth=1.2)
    note("e", foot / 2, dx=-0.2, dz=0.05, style="italic")
    axes.plot(0, 0, "o", color=INK, markersize=6)
    note("servo's axis", axis, dx=-0.3, dz=-0.5)
    line(np.array([0, -2.6]), np.array([0, distance]), color=GRID, linewidth=1)
    line(np.array([beam, -2.6]), start, color=LASER, linewidth=2)
    note("laser", np.array([beam, -2.3]), dx=0.2, color=LASER)
    axes.annotate("", (-2.3, beam), (-2.3, 0), arrowprops={"arrowstyle": "<->", "color": PALE})
    note("b", np.array([beam / 2, -2.3]), dz=-0.18, style="italic")

    screen_normal = np.array([-np.sin(tau), np.cos(tau)])
    centre = np.array([0, distance])
    on_screen = np.array([np.cos(tau), np.sin(tau)])
    line(centre - 3.1 * on_screen, centre + 4.2 * on_screen, color=INK, linewidth=3)
    note("screen", centre + 4.2 * on_screen, dz=-0.55)
    line(centre, centre + np.array([4.0, 0]), color=PALE, linewidth=1, linestyle=":")
    note("τ", centre + np.array([3.7, 0.19]), style="italic")
    for order in (-1, 0, 1):
        theta = alpha + float(diffraction_angle(order, alpha, g))
        out = np.array([np.sin(theta), np.cos(theta)])
        hit = start + out * ((centre - start) @ screen_normal) / (out @ screen_normal)
        colour = STYLES[order][0]
        line(start, hit, color=colour, linewidth=2)
        note(f"m = {signed(order)}", hit, dz=0.5, color=colour)
        if order:
            ends = (centre + np.array([beam, beam * np.tan(tau)]), hit)
            axes.annotate("", *(point(end + aside) for end in reversed(ends)), arrowprops=arrow | {"color": colour})
            note(f"$u_{{{order:+d}}}$", sum(ends) / 2 + aside, dz=0.3, color=colour)
        if order == 1:
            axes.add_patch(Arc(point(start), 3.4, 3.4, theta1=0, theta2=np.rad2deg(theta), color=colour))
            note("θ", start + 1.9 * np.array([np.sin(theta / 2), np.cos(theta / 2)]), color=colour)
    line(start, start + 2.1 * normal, color=PALE, linewidth=1, linestyle="--")
    note("normal", start + 2.35 * normal, color=PALE, fontsize=9)
    axes.add_patch(Arc(point(start), 2.2, 2.2, theta1=0, theta2=np.rad2deg(alpha), color=INK))
    note("α", start + 1.28 * np.array([np.sin(alpha / 2.6), np.cos(alpha / 2.6)]))
    axes.annotate("", (0, -2.75), (distance, -2.75), arrowprops={"arrowstyle": "<->", "color": PALE})
    note("L", np.array([-2.75, distance / 2]), dx=0.2, style="italic")
    corner = np.array([-2.75, -2.3])
    for name, tip in (("z", corner + np.array([0, 0.9])), ("x", corner + np.array([0.9, 0]))):
        axes.annotate("", point(tip), point(corner), arrowprops=arrow | {"color": INK})
        note(name, tip + 0.25 * (tip - corner))
    axes.set(xlim=(-2.9, 7.6), ylim=(-3.2, 4.6), aspect="equal")
    axes.axis("off")
    return figure


def tracks() -> Figure:
    """Where the orders of 600 lines per mm go on the screen while the servo turns from 0 to 45 degrees, by mount."""
    figure = Figure(figsize=(9, 2.9), layout="constrained")
    g, distance = Setup().lambda_over_d, Setup().screen_distance
    for axes, mount in zip(figure.subplots(1, 3, sharey=True), MOUNTS, strict=True):
        for order in (-1, 0, 1):
            colour, marker = STYLES[order]
            for step, style in ((0.25, {"linewidth": 1.2}), (5, {"marker": marker, "ls": "none", "markersize": 4})):
                alpha = np.deg2rad(np.arange(0, 45 + step, step))
                u, v = positions(order, alpha, lambda_over_d=g, screen_distance=distance, mount=mount)
                axes.plot(u * 1e3, v * 1e3, color=colour, markerfacecolor="white", **style)
            start = positions(order, 0.0, lambda_over_d=g, screen_distance=distance, mount=mount)
            axes.annotate(
                signed(order), (start[0] * 1e3, start[1] * 1e3), xytext=(0, 9), textcoords="offset points",
                ha="center", color=colour,
            )  # fmt: skip
        axes.set(title=mount, xlabel="u (mm)", xlim=(-165, 165), ylim=(110, -110), aspect="equal")
        axes.grid(color=GRID)
        axes.set_axisbelow(True)
    figure.axes[0].set_ylabel("v (mm)")
    return figure


def identifiability() -> str:
    """Markdown: the standard error of g (%), by what is known besides."""
    lines = [
        "| not known | 600 lines per mm, orders 0, ±1 | 300 lines per mm, orders 0, ±1, ±2 |",
        "| --- | --- | --- |",
    ]
    for name, free, mount, low in ROWS:
        cells = (stderr_of_g(density, orders, free=free, mount=mount, low=low) for density, orders in GRATINGS)
        lines.append(f"| {name} | " + " | ".join(f"{cell:.2g}" for cell in cells) + " |")
    for name, mount, low in PRIOR_ROWS:
        cells = (stderr_of_g(density, orders, free=None, mount=mount, low=low) for density, orders in GRATINGS)
        lines.append(f"| all, with priors: {name} | " + " | ".join(f"{cell:.2g}" for cell in cells) + " |")
    return "\n".join(lines)


def stderr_of_g(
    groove_density: float, orders: tuple[int, ...], *, free: tuple[str, ...] | None, mount: str, low: float
) -> float:
    """Least standard error of g (%) of 46 angles up to 45 degrees: 17 um a centroid, 0.2 degrees of jitter.

    free : parameters without a prior, the others being known exactly; None: all, under the priors of the set-up
    """
    setup = Setup(groove_density=groove_density, mount=mount)
    model = Model.of(setup, scale_free=False)
    if free is not None:
        # A width of a hundred millionth of the prior's is certainty; an infinite one is ignorance.
        widths = [np.inf if name in free else 1e-8 * width for name, width in zip(PRIORS, _widths(model), strict=True)]
        stderr = model.prior_stderr.copy()
        stderr[[model.index(name) for name in PRIORS]] = widths
        model = replace(model, prior_stderr=stderr)
    angle = np.deg2rad(np.linspace(low, 45, 46))
    servo, order = np.repeat(angle, len(orders)), np.tile(orders, angle.size)
    frame = np.repeat(np.arange(angle.size), len(orders))
    place = model.predict(model.prior, servo, order)
    with np.errstate(invalid="ignore"):
        seen = (np.abs(place) < FIELD).all(1)
    servo, order, frame = servo[seen], order[seen], frame[seen]
    turned = np.zeros((len(servo), 2, angle.size))
    turned[np.arange(len(servo)), :, frame] = setup.angle_jitter * model.slope(model.prior, servo, order)
    turned = turned.reshape(-1, angle.size)
    covariance = 17e-6**2 * np.eye(len(turned)) + turned @ turned.T
    jacobian = model.jacobian(model.prior, servo, order).reshape(len(turned), -1) * model.size
    information = jacobian.T @ np.linalg.solve(covariance, jacobian) + np.diag((model.size / model.prior_stderr) ** 2)
    g = model.index("lambda_over_d")
    # One parameter after the other is eliminated: the scales of certainty and ignorance are far apart.
    others = np.delete(np.arange(len(information)), g)
    known = information[g, g] - information[g, others] @ np.linalg.solve(
        information[np.ix_(others, others)], information[others, g]
    )
    return float(100 * model.size[g] / np.sqrt(known) / model.prior[g])


def _widths(model: Model) -> list[float]:
    return [float(model.prior_stderr[model.index(name)]) for name in PRIORS]


if __name__ == "__main__":
    main()
