"""A wrong configuration is refused with file, key, value and what is allowed; a right one is layered in order."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from config import ConfigurationError, LunchBoxSettings, load_settings
from config.settings import SHIPPED


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("LUNCHBOX_"):
            monkeypatch.delenv(name)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yml"
    path.write_text(text)
    return path


def test_shipped_files_say_what_the_defaults_are(tmp_path: Path) -> None:
    assert load_settings(data_root=tmp_path) == LunchBoxSettings(data_root=tmp_path)


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_file_is_valid_by_itself(shipped: Path) -> None:
    LunchBoxSettings(**yaml.safe_load(shipped.read_text()))


def test_own_file_changes_only_what_it_names(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "setup: {groove_density: 300.0e+3}"))
    assert settings.setup.groove_density == 300e3
    assert settings.setup.wavelength == load_settings().setup.wavelength


def test_environment_wins_over_the_file_and_arguments_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "prefix: 'FILE:'\ndata_root: from-file")
    monkeypatch.setenv("LUNCHBOX_PREFIX", "ENV:")
    monkeypatch.setenv("LUNCHBOX_SETUP__WAVELENGTH", "638e-9")
    settings = load_settings(path, data_root=tmp_path / "argument")
    assert (settings.prefix, settings.setup.wavelength) == ("ENV:", 638e-9)
    assert settings.data_root == tmp_path / "argument"


def test_a_root_map_is_replaced_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "root_map: {/old: /new}")
    monkeypatch.setenv("LUNCHBOX_ROOT_MAP", '{"/older": "/newer"}')
    assert load_settings(path).root_map == {"/older": Path("/newer")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("setup: {wavelenght: 1.0}", ["mine.yml", "setup.wavelenght", "1.0", "unknown key", "wavelength_tolerance"]),
        ("colour: red", ["mine.yml", "colour", "red", "unknown key", "data_root"]),
        ("setup: {wavelength: 5}", ["mine.yml", "setup.wavelength", "5", "<= 2e-06", "m"]),
        ("acquisition: {camera: {kind: film}}", ["mine.yml", "acquisition.camera.kind", "film", "simulated", "opencv"]),
        ("setup: {screen_distance: .inf}", ["mine.yml", "setup.screen_distance", "inf"]),
        ("prefix: ''", ["mine.yml", "prefix", "''"]),
        ("ioc: {low_limit_deg: -120}", ["mine.yml", "ioc", "-120"]),
        ("[1, 2]", ["mine.yml", "list", "key: value"]),
        ("a: [", ["mine.yml", "not YAML"]),
    ],
)
def test_a_wrong_value_is_named_with_file_key_value_and_range(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(write(tmp_path, text))
    for word in said:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yml: No such file"):
        load_settings(tmp_path / "nowhere.yml")


def test_a_misspelt_variable_is_named_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNCHBOX_DATAROOT", "/tmp")
    with pytest.raises(ConfigurationError, match="LUNCHBOX_DATAROOT names no setting"):
        load_settings()


def test_a_wrong_variable_is_named_with_its_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNCHBOX_SETUP__WAVELENGTH", "red")
    with pytest.raises(ConfigurationError, match=r"the environment: setup\.wavelength = 'red'"):
        load_settings()


def test_the_hash_names_the_bench_not_where_data_are_kept(tmp_path: Path) -> None:
    here, there = load_settings(data_root=tmp_path), load_settings(data_root=tmp_path / "elsewhere")
    other = load_settings(write(tmp_path, "setup: {wavelength: 640.0e-9}"))
    assert here.config_hash() == there.config_hash() != other.config_hash()
