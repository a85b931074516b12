"""The validation as tables of Markdown, and where they stand in a page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lunchbox.validation.fits import Summary
from lunchbox.validation.spots import Accuracy

_REGION = re.compile(r"(<!-- validation: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def spot_rows(results: Sequence[Accuracy]) -> list[dict[str, str]]:
    """One row per case: ours in full, of the others the ratio to the bound."""
    cases: dict[tuple[float, float, float], dict[str, str]] = {}
    for r in results:
        row = cases.setdefault((r.amplitude, r.contrast, r.lobe), {})
        if r.estimator == "LunchBox":
            row |= {
                "peak (counts)": f"{r.amplitude:g}",
                "speckle": f"{r.contrast:g}",
                "side lobe": f"{r.lobe:.0%}",
                "spots": str(r.spots),
                "bound (px)": f"{r.bound:.3f}",
                "RMS / bound": f"{r.ratio:.2f}",
                "pull": f"{r.pull:.2f}",
                "bias (px)": f"{r.bias:+.3f}",
                "missed": f"{r.missed:.1%}",
                "extra / frame": f"{r.extra:.2f}",
            }
        else:
            row[r.estimator] = "none found" if math.isnan(r.ratio) else f"{r.ratio:.2f}" + _missed(r.missed)
    return list(cases.values())


def fit_rows(results: Sequence[Summary]) -> list[dict[str, str]]:
    """One row per kind of scene."""
    return [
        {
            "scenes": r.name,
            "scans": str(r.scans),
            "declined": str(r.declined),
            "RMS (%)": f"{100 * r.rms:.3f}",
            "stated (%)": f"{100 * r.stated:.3f}",
            "pull": f"{r.pull:.2f}",
            "within 1σ": f"{r.within_1:.0%}",
            "within 2σ": f"{r.within_2:.0%}",
            "wrong orders": f"{r.wrong} of {r.orders}",
            "tutorial RMS (%)": "" if math.isnan(r.tutorial) else f"{100 * r.tutorial:.2g}",
        }
        for r in results
    ]


def _missed(share: float) -> str:
    return f" ({share:.0%} missed)" if share > 0.005 else ""


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table; a column that a row has not is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([str(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(path: Path, tables: Mapping[str, str]) -> None:
    """Put each table between `<!-- validation: NAME -->` and `<!-- end -->` of the page."""

    def replaced(region: re.Match[str]) -> str:
        return f"{region[1]}\n{tables[region['name']]}\n\n{region[3]}"

    path.write_text(_REGION.sub(replaced, path.read_text(encoding="utf-8")), encoding="utf-8")
