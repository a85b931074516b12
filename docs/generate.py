"""Write the parts of the documentation that the program itself knows best, so that they cannot go stale.

    python docs/generate.py            # refresh them
    python docs/generate.py --check    # exit status 1 and the names of those that are not current

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`; NAME is a key of `PARTS`.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import itertools
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

DOCS = Path(__file__).parent
BOUNDS = (
    ("gt", ">\N{NO-BREAK SPACE}{}"),
    ("ge", "≥\N{NO-BREAK SPACE}{}"),
    ("lt", "<\N{NO-BREAK SPACE}{}"),
    ("le", "≤\N{NO-BREAK SPACE}{}"),
)
LENGTHS = (("min_length", "at least {}"), ("max_length", "at most {}"))
#: Defaults that depend on who runs the program, and where.
ELSEWHERE = {"data_root": "the platform's user data folder", "operator": "the user's login name"}
_REGION = re.compile(r"(<!-- generated: (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def configuration() -> str:
    """Every key: type, default (as shipped), range, description."""
    from config import load_settings

    for name in [name for name in os.environ if name.startswith("LUNCHBOX_")]:
        del os.environ[name]  # the documentation tells what is shipped, not what this machine has
    return "\n".join(_section("", load_settings()))


def _section(path: str, model: BaseModel) -> Iterator[str]:
    fields = type(model).model_fields
    inner = {name: getattr(model, name) for name in fields if isinstance(getattr(model, name), BaseModel)}
    if path:
        yield f"\n## `{path}`\n\n{_first_paragraph(type(model))}\n"
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(name, getattr(model, name))} | {_range(field)} "
        f"| {_cell(field.description or '')} |"
        for name, field in fields.items()
        if name not in inner
    ]
    if rows:
        yield "| key | type | default | range | description |\n| --- | --- | --- | --- | --- |"
        yield from rows
    for name, value in inner.items():
        yield from _section(f"{path}.{name}" if path else name, value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _first_paragraph(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{value}`" for value in typing.get_args(annotation))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        names = [_type(kind) for kind in typing.get_args(annotation)]
        return " or ".join(names)
    if typing.get_origin(annotation) is typing.Annotated:
        return _type(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (tuple, frozenset):
        kinds = [kind for kind in typing.get_args(annotation) if kind is not Ellipsis]
        many = len(kinds) > 1 and len(set(map(str, kinds))) == 1
        return f"{len(kinds)} {_type(kinds[0])}s" if many else f"list of {_type(kinds[0])}"
    if typing.get_origin(annotation) is dict:
        return "mapping"
    names = {"str": "text", "float": "number", "int": "integer", "bool": "true or false", "NoneType": "`null`"}
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name.lower())


def _default(name: str, value: Any) -> str:
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | frozenset):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    return str(value) if value != "" else '""'


def _range(field: FieldInfo) -> str:
    found = []
    for constraint in field.metadata:
        for names in (BOUNDS, LENGTHS):
            for name, words in names:
                if (limit := getattr(constraint, name, None)) is not None:
                    found.append(words.format(_yaml(limit)))
        # `_between(low, high)` of the simulated bench: a pair of numbers in a closure.
        if (function := getattr(constraint, "func", None)) is not None:
            ends = inspect.getclosurevars(function).nonlocals
            if {"low", "high"} <= ends.keys():
                found.append(f"{_yaml(float(ends['low']))} to {_yaml(float(ends['high']))}")
    return ", ".join(found)


def command_line() -> str:
    """What `lunchbox --help` says, of every command."""
    import typer
    from typer.cli import get_docs_for_click

    from lunchbox.app import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="lunchbox")
    text = text.split("\n", 1)[1].strip()
    return re.sub(r"^Examples?: (.+)$", _examples, text, flags=re.MULTILINE)


def _examples(match: re.Match[str]) -> str:
    first, *rest = match.group(1).split(", then ")
    lines = "\n".join(f"$ {line.strip()}" for line in first.split(";"))
    return f"```console\n{lines}\n```" + (f"\n\nThen {rest[0]}." if rest else "")


def _literal_block(docstring: str | None) -> str:
    """The first indented block of a docstring, after its `::`."""
    assert docstring is not None
    lines = docstring.split("::\n\n", 1)[1].splitlines()
    block = itertools.takewhile(lambda line: not line or line.startswith(" "), lines)
    return f"```text\n{textwrap.dedent(chr(10).join(block)).strip()}\n```"


def pvs() -> str:
    """The docstring of the IOC: its table as Markdown, and what follows it."""
    import acquisition.ioc.pvs

    text = inspect.cleandoc(acquisition.ioc.pvs.__doc__ or "")
    _, table, notes = re.split(r"^=[= ]+=$", text, flags=re.MULTILINE)
    rows = [re.match(r"`([A-Z:]+)`\s+(deg|s)?\s+(.*)", line) for line in table.strip().splitlines()]
    lines = [f"| `{row[1]}` | {row[2] or ''} | {row[3]} |" for row in rows if row]
    assert len(lines) == len(rows), "a row of the PV table is not `NAME`  unit  description"
    return "| PV | unit | what it is |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n\n" + notes.strip()


def file_layout() -> str:
    import catalog.layout

    return _literal_block(catalog.layout.__doc__)


def catalogue_folder() -> str:
    import catalog.store

    return _literal_block(catalog.store.__doc__)


def errors() -> str:
    import catalog.errors

    return _literal_block(catalog.errors.__doc__)


PARTS: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "command-line": command_line,
    "pvs": pvs,
    "file-layout": file_layout,
    "catalogue-folder": catalogue_folder,
    "errors": errors,
}


def refreshed(page: str) -> str:
    """The page with its generated parts as they are now."""

    def replace(match: re.Match[str]) -> str:
        with contextlib.redirect_stdout(io.StringIO()):
            part = PARTS[match["name"]]()
        return f"{match[1]}\n{part}\n\n{match[3]}"

    return _REGION.sub(replace, page)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page is not current")
    check = parser.parse_args().check
    stale = []
    for path in sorted((DOCS / "reference").glob("*.md")):
        page = path.read_text(encoding="utf-8")
        current = refreshed(page)
        if current != page:
            stale.append(path.name)
            if not check:
                path.write_text(current, encoding="utf-8")
    if stale:
        print("not current: " if check else "refreshed: ", ", ".join(stale), sep="")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
