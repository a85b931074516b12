"""The figure of a fit: peak spacing against angle, residuals, a frame, the result.

Colours are Okabe and Ito's, which the colour-blind tell apart; each order has a marker of its own besides.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.fitted import GratingFit
from analysis.report import rows, signed
from analysis.spacing import outwards

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: order -> colour, marker. Zero is grey; the sign is told by warm and cold, the order by the marker.
STYLES = {
    0: ("#4d4d4d", "o"),
    1: ("#0072b2", "D"),
    -1: ("#d55e00", "s"),
    2: ("#009e73", "^"),
    -2: ("#a0522d", "v"),
    3: ("#56b4e9", "P"),
    -3: ("#cc79a7", "X"),
    4: ("#005f5f", "h"),
    -4: ("#8b1a4a", "*"),
}
INK, PALE, GRID = "#1f2430", "#6b7280", "#e3e5e8"
#: Why a position was not used -> marker.
UNUSED = {"rejected": "x", "ambiguous": "+"}
ON_DARK = {0: "#ffffff", 1: "#7cc4f2", -1: "#ffb27d", 2: "#6fe0bd", -2: "#e2b08c"}


def figure(fit: GratingFit, *, frame: int | None = None) -> Figure:
    """Spacing against angle with the model, residuals, a frame with its orders marked, and the result.

    Parameters
    ----------
    frame : number of the frame to show; by default the one with most orders, nearest the middle of the scan
    """
    fig = bare(13.2, 6.6, layout=None)
    left = fig.add_gridspec(2, 1, left=0.055, right=0.575, top=0.94, bottom=0.085, height_ratios=[2.6, 1], hspace=0.06)
    spacing = fig.add_subplot(left[0])
    residual = fig.add_subplot(left[1], sharex=spacing)
    picture = fig.add_axes((0.635, 0.55, 0.355, 0.39))
    picture.set_anchor("N")
    table = fig.add_axes((0.635, 0.05, 0.355, 0.46))
    _draw_spacing(spacing, fit)
    _draw_residuals(residual, fit)
    _draw_frame(picture, fit, _best_frame(fit) if frame is None else frame)
    _draw_table(table, fit)
    return fig


def bare(width: float, height: float, *, layout: Any = "constrained") -> Figure:
    """An empty figure (inches)."""
    # Not pyplot: a library must not change the figures, or the backend, of the session that it is called in.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), dpi=110, facecolor="white", layout=layout)
    FigureCanvasAgg(fig)
    return fig


def save_figure(fit: GratingFit, path: str | Path, *, frame: int | None = None) -> Path:
    """The figure as a PNG file; folders are made as needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(fit, frame=frame))
    return path


def png(fit: GratingFit, *, frame: int | None = None) -> bytes:
    """The figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure(fit, frame=frame).savefig(buffer, format="png")
    return buffer.getvalue()


def _quiet(axes: Any) -> None:
    axes.grid(True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(PALE)
    axes.tick_params(colors=INK, labelsize=9)


def _style(order: int) -> tuple[str, str]:
    return STYLES.get(order, (PALE, "x"))


def _angle_range(fit: GratingFit) -> tuple[float, float]:
    low, high = float(fit.scan.angles.min()), float(fit.scan.angles.max())
    margin = 0.04 * (high - low) or 1.0
    return low - margin, high + margin


def _draw_spacing(axes: Any, fit: GratingFit) -> None:
    positions = fit.positions
    low, high = _angle_range(fit)
    grid = np.linspace(low, high, 241)
    used = positions[positions["status"] == "used"]
    top, bottom = used["spacing"].max() * 1e3, used["spacing"].min() * 1e3
    room = 0.1 * (top - bottom)
    axes.set_ylim(bottom - 1.6 * room, top + room)
    ends: list[tuple[float, int]] = []
    for order in sorted(used["order"].unique()):
        colour, marker = _style(int(order))
        mine = used[used["order"] == order]
        model, band = _model_spacing(fit, grid, int(order))
        axes.fill_between(grid, model - 3 * band, model + 3 * band, color=colour, alpha=0.18, linewidth=0)
        inside = (grid >= mine["angle"].min()) & (grid <= mine["angle"].max())
        axes.plot(grid, np.where(inside, model, np.nan), color=colour, linewidth=1.5)
        axes.plot(grid, np.where(~inside, model, np.nan), color=colour, linewidth=1.2, linestyle=(0, (4, 3)), alpha=0.7)
        axes.plot(
            mine["angle"], mine["spacing"] * 1e3, marker, markersize=5, markerfacecolor="white", color=colour,
            linestyle="none", markeredgewidth=1.2,
        )  # fmt: skip
        finite = np.flatnonzero(np.isfinite(model) & (model < top + room) & (model > bottom - 1.6 * room))
        ends.append((float(model[finite[-1]]), int(order)))
    _label_ends(axes, fit, ends, high)
    axes.set_ylabel("Spacing from order 0 (mm)", color=INK)
    axes.set_title("Peak spacing and fitted grating model", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(1.0, 1.015, "order $m$", transform=axes.transAxes, ha="left", color=PALE, fontsize=9)
    error = float(used["spacing_stderr"].median()) * 1e3
    axes.plot([], [], "o", markerfacecolor="white", color=INK, markersize=5, label=f"peak (1σ = {error:.2g} mm)")
    axes.plot([], [], color=INK, label="model")
    axes.plot([], [], color=INK, linestyle=(0, (4, 3)), label="extrapolated")
    axes.fill_between([], [], [], color=INK, alpha=0.18, linewidth=0, label="3σ of the model")
    _draw_unused(axes, positions, "spacing", factor=1e3, labelled=True)
    axes.legend(
        loc="lower left",
        ncols=6,
        columnspacing=1.2,
        handletextpad=0.5,
        fontsize=8,
        frameon=True,
        framealpha=0.9,
        edgecolor="none",
    )
    axes.set_xlim(low, high)
    axes.tick_params(labelbottom=False)
    _quiet(axes)


def _model_spacing(fit: GratingFit, angles: NDArray[np.float64], order: int) -> tuple[Any, Any]:
    """The fit's spacing of an order at servo angles (deg), and its standard deviation, mm."""
    servo, orders = np.deg2rad(angles), np.full(angles.size, order, dtype=np.intp)
    scale = fit.value("scale") if "scale" in fit.parameter_names else 1.0
    place, zero = (fit.model.predict(fit.values, servo, m) for m in (orders, 0 * orders))
    towards = outwards(fit, place, orders)
    jacobian = fit.model.jacobian(fit.values, servo, orders) - fit.model.jacobian(fit.values, servo, 0 * orders)
    slope = np.einsum("na,nap->np", towards, jacobian)
    band = np.sqrt(np.einsum("np,pq,nq->n", slope, fit.covariance, slope))
    return ((place - zero) * towards).sum(1) * scale * 1e3, band * scale * 1e3


def _draw_unused(axes: Any, positions: Any, column: str, *, factor: float = 1.0, labelled: bool = False) -> None:
    """Positions that were given an order and not used, each kind with its marker."""
    for status, marker in UNUSED.items():
        mine = positions[positions["status"] == status]
        for order, its in mine.groupby("order"):
            axes.plot(
                its["angle"], its[column] * factor, marker, color=_style(int(order))[0], markersize=8,
                markeredgewidth=2, linestyle="none",
            )  # fmt: skip
        if labelled and len(mine):
            axes.plot([], [], marker, color=INK, markersize=7, label=f"{len(mine)} {status}", linestyle="none")


def _label_ends(axes: Any, fit: GratingFit, ends: list[tuple[float, int]], at: float) -> None:
    """Orders at the ends of their lines, moved apart where lines meet."""
    low, high = axes.get_ylim()
    gap = 0.06 * (high - low)
    place = -np.inf
    for value, order in sorted(ends):
        place = max(value, place + gap)
        axes.annotate(
            signed(order), (at, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=12,
            color=_style(order)[0], annotation_clip=False,
        )  # fmt: skip


def _draw_residuals(axes: Any, fit: GratingFit) -> None:
    positions = fit.positions
    axes.axhspan(-2, 2, color="#f1f2f4", zorder=0)
    axes.axhspan(-1, 1, color="#e2e4e7", zorder=0)
    axes.axhline(0, color=INK, linewidth=1)
    used = positions[positions["status"] == "used"]
    orders = sorted(used["order"].unique())
    spread = (_angle_range(fit)[1] - _angle_range(fit)[0]) / max(len(fit.scan), 2) * 0.12
    for i, order in enumerate(orders):
        colour, marker = _style(int(order))
        mine = used[used["order"] == order]
        axes.errorbar(
            mine["angle"] + spread * (i - (len(orders) - 1) / 2), mine["residual"], yerr=1.0, fmt=marker, color=colour,
            markersize=4, markerfacecolor="white", markeredgewidth=1.0, elinewidth=0.7,
        )  # fmt: skip
    reach = max(3.4, float(np.nanmax(np.abs(used["residual"]))) + 1.2)
    axes.set_ylim(-reach, reach)
    # Far ones are drawn at the edge.
    _draw_unused(axes, positions.assign(residual=positions["residual"].clip(-0.93 * reach, 0.93 * reach)), "residual")
    axes.set_ylabel("Residual (σ)", color=INK)
    axes.set_xlabel("Servo angle (°)", color=INK)
    _quiet(axes)


def _best_frame(fit: GratingFit) -> int:
    middle = (len(fit.scan) - 1) / 2
    return max(range(len(fit.scan)), key=lambda i: (len(fit.orders[i]), -abs(i - middle)))


def _draw_frame(axes: Any, fit: GratingFit, index: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Circle, Rectangle

    from analysis.frames import red

    image, background = (red(frame).astype(float) for frame in fit.scan.pair(index))
    ny, nx = image.shape
    spots = fit.spots[index]
    chosen = {m: spots[k] for m, k in fit.orders[index].items()}
    xs, ys = [s.x for s in chosen.values()] or [nx / 2], [s.y for s in chosen.values()] or [ny / 2]
    width = min(nx, max(xs) - min(xs) + 0.16 * nx)
    middle, height = (max(xs) + min(xs)) / 2, width * 0.46
    left, right = max(0, int(middle - width / 2)), min(nx, int(middle + width / 2))
    top, bottom = max(0, int(np.median(ys) - height / 2)), min(ny, int(np.median(ys) + height / 2))
    view = np.nan_to_num((image - background)[top:bottom, left:right])
    view = np.clip(view / max(float(view.max()), 1), 0, 1) ** 0.6
    laser = LinearSegmentedColormap.from_list("laser", ["#0d0205", "#8c1420", "#ff5a4f", "#fff1ea"])
    extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    axes.imshow(view, cmap=laser, extent=extent, vmin=0, vmax=1, aspect="equal", interpolation="antialiased")
    nx = right - left
    radius = nx * 0.02
    for order, spot in chosen.items():
        colour = ON_DARK.get(order, "#ffffff")
        axes.add_patch(Circle((spot.x, spot.y), radius, fill=False, color=colour, linewidth=1.4))
        axes.plot(spot.x, spot.y, "+", color="black" if spot.saturated else colour, markersize=5)
        axes.annotate(
            signed(order), (spot.x, spot.y - 1.4 * radius), ha="center", va="bottom", color=colour, fontsize=11
        )
    scale = fit.value("scale") if "scale" in fit.parameter_names else 1.0
    millimetre = 1e-3 / (fit.calibration.pixel_size * scale)
    length = next((v for v in (50, 20, 10, 5, 2, 1, 0.5) if v * millimetre < 0.2 * nx), 0.2)
    x, y = left + 0.04 * nx, bottom - 0.08 * (bottom - top)
    axes.add_patch(Rectangle((x, y), length * millimetre, 0.006 * nx, color="white"))
    axes.annotate(
        f"{length:g} mm", (x + length * millimetre / 2, y), xytext=(0, 4), textcoords="offset points",
        ha="center", color="white", fontsize=9,
    )  # fmt: skip
    axes.set_title(
        f"Frame {index + 1} of {len(fit.scan)}, servo at {fit.scan.angles[index]:.4g}° (gamma 0.6)",
        loc="left", fontsize=11, fontweight="bold", color=INK,
    )  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_table(axes: Any, fit: GratingFit) -> None:
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.text(0, 0.95, "Fit result", fontsize=11, fontweight="bold", color=INK)
    table = rows(fit)
    step = min(0.125, 0.9 / len(table))
    for i, (name, value) in enumerate(table):
        y = 0.85 - i * step
        main = i == 0
        part = name.startswith("  ")
        axes.text(
            0.03 if part else 0, y, name.strip(), fontsize=9 if part else 10, color=PALE, style="normal", va="center"
        )
        axes.text(
            1, y, value, fontsize=14 if main else 9 if part else 10.5, ha="right", va="center",
            color=PALE if part else INK, fontweight="bold" if main else "normal",
        )  # fmt: skip
        axes.axhline(y - step / 2, color=GRID, linewidth=0.8)
