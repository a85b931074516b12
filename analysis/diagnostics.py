"""What is behind the error of a fit, as figures: the budget of lambda/d, and how the parameters hang together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.figure import GRID, INK, PALE, bare

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.fitted import GratingFit

#: Sources of `error_budget`, in words.
WORDS = {
    "noise": "centroids: noise of the camera",
    "speckle": "centroids: speckle of the screen",
    "calibration": "pixels to metres",
    "jitter": "jitter of the servo",
    "screen_distance": "distance L",
    "grating_offset": "grating off the axis, e",
    "beam_offset": "beam off the axis, b",
    "screen_tilt": "tilt of the screen, τ",
    "angle_offset": "offset of the angle",
    "angle_gain": "gain of the angle",
    "scale": "size of a pixel",
    "excess": "scatter that nothing explains",
}
FROM_DATA = ("noise", "speckle", "calibration", "jitter", "excess")


def budget_figure(fit: GratingFit) -> Figure:
    """The standard error of lambda/d by source, relative, and the wavelength's, which only the period has."""
    fig = bare(7.6, 4.3)
    axes = fig.add_subplot()
    shares = {name: 100 * value / fit.lambda_over_d for name, value in fit.error_budget.items() if value > 0}
    shares = dict(sorted(shares.items(), key=lambda item: item[1]))
    bars = [
        ("d only: the wavelength", 100 * fit.scan.setup.wavelength_tolerance, "#cc79a7"),
        *((WORDS[name], value, "#0072b2" if name in FROM_DATA else "#d55e00") for name, value in shares.items()),
        ("λ/d, all together", 100 * fit.lambda_over_d_stderr / fit.lambda_over_d, INK),
    ]
    names, values, colours = zip(*bars, strict=True)
    left = min(values) / 2.5
    axes.hlines(range(len(bars)), left, values, color=GRID, linewidth=1.5)
    axes.scatter(values, range(len(bars)), color=colours, s=46, zorder=3)
    axes.set_yticks(range(len(bars)), names, fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(left, 3 * max(values))
    for i, value in enumerate(values):
        axes.annotate(f"{value:.2g} %", (value, i), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8)
    for label, colour in (("measured", "#0072b2"), ("only set up (priors)", "#d55e00")):
        axes.scatter([], [], color=colour, s=46, label=label)
    axes.legend(loc="center right", bbox_to_anchor=(1, 0.3), fontsize=8, frameon=False)
    axes.set_xlabel("Standard error (% of λ/d; they add in quadrature)", color=INK, fontsize=9)
    _quiet(axes)
    return fig


def correlation_figure(fit: GratingFit) -> Figure:
    """The correlation matrix of the parameters."""
    n = len(fit.parameter_names)
    fig = bare(6.6, 5.4)
    axes = fig.add_subplot()
    image = axes.imshow(fit.correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(n), fit.parameter_names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(n), fit.parameter_names, fontsize=8)
    for i, j in np.ndindex(n, n):
        value = float(fit.correlation[i, j])
        colour = "white" if abs(value) > 0.6 else INK
        axes.text(j, i, f"{value:.2f}".replace("-", "−"), ha="center", va="center", fontsize=7, color=colour)
    fig.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    axes.tick_params(length=0)
    return fig


def _quiet(axes: Any) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(PALE)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
