"""What the pages say is so: reference current, commands and configuration accepted, links leading somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml

from config import load_settings
from lunchbox.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^( *)```{language}\n(.*?)^ *```"
    found = re.findall(pattern, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_reference_is_what_the_program_says(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout.strip()}; run: python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_have_these_names_and_options(page: Path) -> None:
    command = typer.main.get_command(app)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for block in blocks(page, "console"):
        for line in re.findall(r"^\$ (.+)$", block, re.MULTILINE):
            program, *words = shlex.split(line, comments=True)
            if program == "make":
                assert words[0] in targets
                continue
            assert program == "lunchbox", line
            if not any("[" in word for word in words):  # usage: lunchbox demo [OPTIONS]
                name, subcommand, rest = command.resolve_command(typer.Context(command), words)
                # Parses, converts and checks; runs nothing.
                subcommand.make_context(name, rest)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_configuration_is_accepted(
    page: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for block in blocks(page, "yaml"):
        file = tmp_path / "bench.yml"
        file.write_text(block)
        settings = load_settings(file).model_dump(mode="json")
        assert yaml.safe_load(block).keys() <= settings.keys()


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_pages_of_the_index_are_all_the_pages() -> None:
    listed = set(re.findall(r"^([\w-]+/[\w-]+)$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE))
    there = {f"{path.parent.name}/{path.stem}" for path in PAGES if path.parent.parent == ROOT / "docs"}
    assert listed == there


def test_pictures_are_small_and_of_the_demo() -> None:
    for name in ("frame.png", "fit.png", "web-page.png"):
        picture = (ROOT / "docs" / "images" / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 300_000
