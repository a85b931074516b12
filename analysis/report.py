"""The result of a fit as text: numbers with their errors, and a table for a terminal."""

from __future__ import annotations

import math

from analysis.fitted import GratingFit


def with_error(value: float, stderr: float) -> str:
    """A value and its error, the error to two digits.

    >>> with_error(0.390213, 0.00112)
    '0.3902 ± 0.0011'
    >>> with_error(1663.2, 17.04)
    '1663 ± 17'
    """
    if not (math.isfinite(value) and math.isfinite(stderr) and stderr > 0):
        return f"{value:.6g} ± {stderr:.2g}"
    decimals = 1 - math.floor(math.log10(stderr))
    # 0.0996 rounds to 0.100: three digits where two were meant.
    if round(stderr, decimals) >= 10 ** (2 - decimals):
        decimals -= 1
    digits = max(decimals, 0)
    return f"{round(value, decimals):.{digits}f} ± {round(stderr, decimals):.{digits}f}".replace("-", "−")


def signed(order: int) -> str:
    """An order with its sign, the minus a true one."""
    return f"+{order}" if order > 0 else f"−{-order}" if order < 0 else "0"


def rows(fit: GratingFit) -> list[tuple[str, str]]:
    """(what, value ± error) of the numbers that people ask for."""
    freedom = fit.degrees_of_freedom
    table = [
        ("λ/d", with_error(fit.lambda_over_d, fit.lambda_over_d_stderr)),
        (
            f"d for λ = {fit.scan.setup.wavelength * 1e9:g} nm (nm)",
            with_error(fit.grating_period * 1e9, fit.grating_period_stderr * 1e9),
        ),
        ("  of it from the fit", f"{fit.grating_period_stderr_fit * 1e9:.2g}"),
        ("  of it from the wavelength", f"{fit.grating_period_stderr_wavelength * 1e9:.2g}"),
        ("Lines per mm", with_error(fit.lines_per_mm, fit.groove_density_stderr / 1e3)),
        (
            "Distance L (mm)",
            with_error(fit.value("screen_distance") * 1e3, fit.stderr("screen_distance") * 1e3),
        ),
        (
            "Angle offset (°)",
            with_error(math.degrees(fit.value("angle_offset")), math.degrees(fit.stderr("angle_offset"))),
        ),
    ]
    if "not-quadratic" in fit.flags:
        low, high = fit.interval()
        table.append(("λ/d, 68 % interval", f"{low:.5g} to {high:.5g}"))
    table += [
        ("Reduced χ²", f"{fit.reduced_chi_squared:.2f}  ({freedom} d.o.f.)"),
    ]
    if fit.flags:
        table.append(("Flags", ", ".join(fit.flags)))
    return table


def calibration_words(fit: GratingFit) -> str:
    """What made pixels metres: the target's run and the lens's, or the scan itself."""
    scan = fit.scan
    words = "the target" if fit.calibration.source == "target" else "the scan itself"
    if scan.calibration_uid and fit.calibration.source == "target":
        words += f" of run {scan.calibration_uid[:8]}"
    if fit.calibration.lens is not None:
        words += f", and the lens{f' of run {scan.lens_uid[:8]}' if scan.lens_uid else ''}"
    return words


def summary(fit: GratingFit) -> str:
    """The result and all parameters as text."""
    head = rows(fit)
    width = max(len(name) for name, _ in head)
    lines = [f"{name:<{width}}  {value}" for name, value in head]
    counts = fit.positions["status"].value_counts()
    lines.append(f"{'Positions':<{width}}  " + ", ".join(f"{counts[s]} {s}" for s in counts.index))
    lines.append(f"{'Pixels to metres':<{width}}  from {calibration_words(fit)}")
    shares = {name: (value / fit.lambda_over_d_stderr) ** 2 for name, value in fit.error_budget.items()}
    largest = sorted(shares, key=lambda name: -shares[name])[:4]
    lines.append(f"{'Variance of λ/d':<{width}}  " + ", ".join(f"{shares[name]:.0%} {name}" for name in largest))
    lines += ["", f"{'parameter':<16} {'value ± stderr':<28} {'unit':<5} known from"]
    for name, p in fit.parameters.items():
        factor, unit = {"m": (1e3, "mm"), "rad": (180 / math.pi, "deg")}.get(p["unit"], (1.0, ""))
        lines.append(
            f"{name:<16} {with_error(p['value'] * factor, p['stderr'] * factor):<28} {unit:<5} {p['known_from']}"
        )
    return "\n".join(lines)
