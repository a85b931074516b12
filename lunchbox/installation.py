"""Checks of what is installed: packages that others hide, versions, readers of frames."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from lunchbox.finding import Finding, Findings

PACKAGES = ("acquisition", "analysis", "catalog", "config", "lunchbox")
ROOT = Path(__file__).resolve().parents[1]


def hidden_packages(*, folders: Sequence[Path] | None = None, root: Path = ROOT) -> Findings:
    """Files that Python would import in the place of our packages.

    folders : where a notebook or a script that is started here looks first; by default this folder, then PYTHONPATH
    """
    if folders is None:
        named = [Path(name) for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]
        folders = [Path.cwd(), *named]
    clear = True
    for folder in folders:
        for name in PACKAGES:
            for path in (folder / f"{name}.py", folder / name / "__init__.py"):
                if path.is_file() and path.resolve() != (root / name / "__init__.py").resolve():
                    clear = False
                    yield Finding(
                        "packages",
                        "broken",
                        f"{path} hides our package {name!r} from Python that is started in {folder}",
                        "rename it, or start Python in another folder",
                    )
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        origin = None if spec is None or spec.origin is None else Path(spec.origin).resolve()
        if origin != (root / name / "__init__.py").resolve():
            clear = False
            yield Finding(
                "packages",
                "broken",
                f"Python takes {name!r} from {origin or 'nowhere'}, not from {root}",
                "rename that file, or install LunchBox again: pip install --editable .",
            )
    if clear:
        yield Finding("packages", "ok", f"ours, from {root}")


def versions(*, constraints: Path = ROOT / "constraints.txt") -> Findings:
    """Installed packages against the versions that LunchBox was tested with, and those that are missing."""
    missing = [name for name in _required() if _version_of(name) is None]
    if missing:
        yield Finding(
            "versions",
            "broken",
            f"not installed: {', '.join(missing)}",
            "pip install --constraint constraints.txt --editable '.[all]'",
        )
    if not constraints.is_file():
        yield Finding("versions", "ok", f"not compared: there is no {constraints}")
        return
    tested = _tested(constraints)
    others = [
        f"{name} {found} (tested: {' or '.join(sorted(wanted))})"
        for name, wanted in sorted(tested.items())
        if (found := _version_of(name)) is not None and found not in wanted
    ]
    if others:
        # The IOC's speed hangs on a private function of this very version.
        broken = any(other.startswith("caproto ") for other in others)
        yield Finding(
            "versions",
            "broken" if broken else "warning",
            f"{len(others)} differ: {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}",
            "pip install --constraint constraints.txt --editable '.[all]'",
        )
    elif not missing:
        yield Finding("versions", "ok", f"Python {sys.version.split()[0]}; all as in {constraints}")


def handlers() -> Findings:
    """Which class reads the frames of which spec, and where it came from."""
    from catalog import layout
    from catalog.handlers import LunchBoxHDF5Handler

    entry_points = importlib.metadata.entry_points(group="databroker.handlers")
    if not any(entry_point.name == layout.SPEC for entry_point in entry_points):
        yield Finding(
            "handlers",
            "broken",
            f"databroker and Tiled do not find the reader of {layout.SPEC}: its entry point is not installed",
            "install LunchBox again: pip install --editable .",
        )
    for entry_point in sorted(entry_points, key=lambda point: point.name):
        package = entry_point.dist.name if entry_point.dist is not None else "?"
        where = f"{entry_point.name} -> {entry_point.value} (of {package})"
        try:
            handler = entry_point.load()
        except Exception as error:
            ours = entry_point.name == layout.SPEC
            remedy = f"install {package} again" if ours else f"update or remove {package}; our runs are not affected"
            yield Finding("handlers", "broken" if ours else "warning", f"{where}: {error}", remedy)
            continue
        if entry_point.name == layout.SPEC and handler is not LunchBoxHDF5Handler:
            yield Finding(
                "handlers",
                "broken",
                f"{where}: another package reads our frames in databroker",
                f"remove {package}, or its entry point {layout.SPEC} of databroker.handlers",
            )
        else:
            yield Finding("handlers", "ok", where)


def _required() -> list[str]:
    """Packages that LunchBox needs whatever is used of it."""
    lines = importlib.metadata.requires("lunchbox") or []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line]


def _tested(constraints: Path) -> dict[str, set[str]]:
    """Package -> versions, of which more than one may stand there, for other Pythons."""
    tested: dict[str, set[str]] = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;]+)", line):
            tested.setdefault(match[1], set()).add(match[2])
    return tested


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
