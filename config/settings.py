"""The tree, and where its values come from.

Later wins: the files shipped here (`lunchbox.yml`, `server.yml`), the user's file (`--config` or `LUNCHBOX_CONFIG`),
variables (`LUNCHBOX_DATA_ROOT`, `LUNCHBOX_SERVER__PORT`: two underscores go one level down), keyword arguments.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import platformdirs
import yaml
from pydantic import Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from acquisition.bench.settings import BenchSettings
from acquisition.ioc.settings import IOCSettings
from acquisition.settings import AcquisitionSettings
from catalog.errors import LunchBoxError
from catalog.settings import ServerSettings
from catalog.setup import Setup

SHIPPED = (Path(__file__).with_name("lunchbox.yml"), Path(__file__).with_name("server.yml"))
ENV_PREFIX = "LUNCHBOX_"


def default_data_root() -> Path:
    """Where data go when nobody says otherwise: the platform's folder for a user's data."""
    return platformdirs.user_data_path("lunchbox", appauthor=False)


class ConfigurationError(LunchBoxError, ValueError):
    """A file, a key or a value of the configuration is wrong; the message names all three and the allowed range."""


class LunchBoxSettings(BaseSettings):
    """Everything that can be set, by room."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        env_parse_none_str="null",
        env_ignore_empty=True,
    )

    data_root: Path = Field(
        default_factory=default_data_root,
        description="frames, journals, catalogue and figures live below it",
    )
    root_map: dict[str, Path] = Field(
        default_factory=dict, description="folders that moved: the root that documents name -> where it is now"
    )
    handlers: dict[str, Annotated[str, StringConstraints(pattern=r"^[\w.]+:\w+$")]] = Field(
        default_factory=dict, description="readers of other files: spec of a resource -> `package.module:Class`"
    )
    prefix: str = Field("LUNCHBOX:", pattern=r"^[A-Za-z0-9_:.\-]{1,40}$", description="of every PV")
    setup: Setup = Setup()
    acquisition: AcquisitionSettings = Field(default_factory=AcquisitionSettings)
    ioc: IOCSettings = Field(default_factory=IOCSettings)
    bench: BenchSettings = Field(default_factory=BenchSettings)
    server: ServerSettings = Field(default_factory=ServerSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)  # `load_settings` layers the rest, and so can name the layer of a wrong value.

    def config_hash(self) -> str:
        """Name of this very configuration: SHA-256 of all values but where data are kept."""
        values = self.model_dump_json(exclude={"data_root", "root_map", "handlers", "server"})
        return hashlib.sha256(values.encode()).hexdigest()[:16]


def load_settings(path: str | os.PathLike[str] | None = None, **overrides: Any) -> LunchBoxSettings:
    """The settings of this process.

    Parameters
    ----------
    path
        A YAML file of what differs from the shipped ones; default: the variable `LUNCHBOX_CONFIG`, else none.
    **overrides
        Top-level values that win over everything, e.g. ``data_root=tmp_path``.

    Raises
    ------
    ConfigurationError
        No such file, not YAML, an unknown key, or a value out of range.
    """
    if path is None:
        path = os.environ.get(f"{ENV_PREFIX}CONFIG")
    layers = [(str(file), _read(file)) for file in (*SHIPPED, *([Path(path)] if path else []))]
    layers.append(("the environment", _environment()))
    layers.append(("the command line", overrides))
    merged: dict[str, Any] = {}
    for _, layer in layers:
        merged = _merge(merged, layer)
    try:
        settings = LunchBoxSettings(**merged)
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(detail, layers) for detail in error.errors())) from None
    return settings.model_copy(update={"data_root": settings.data_root.expanduser().absolute()})


def _read(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{file}: {error.strerror}. Give --config (or {ENV_PREFIX}CONFIG) a YAML file that exists."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(f"{file}: holds a {type(content).__name__}; expected `key: value` lines.")
    return content


def _environment() -> dict[str, Any]:
    try:
        values = EnvSettingsSource(LunchBoxSettings)()
    except SettingsError as error:
        raise ConfigurationError(f"the environment: {error}") from None
    known = {ENV_PREFIX + name.upper() for name in LunchBoxSettings.model_fields} | {f"{ENV_PREFIX}CONFIG"}
    known |= {f"{ENV_PREFIX}CI_SERVICES"}  # of the tests
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name.split("__")[0] not in known:
            raise ConfigurationError(f"the environment: {name} names no setting. Known: {', '.join(sorted(known))}.")
    return values


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        # A root map is a value, not a section: the last one counts as a whole.
        nested = (
            isinstance(old, Mapping) and isinstance(value, Mapping) and key not in ("root_map", "handlers", "sample")
        )
        merged[key] = _merge(old, value) if nested and isinstance(old, Mapping) else value
    return merged


def _explain(detail: ErrorDetails, layers: list[tuple[str, dict[str, Any]]]) -> str:
    location = [part for part in detail["loc"] if part != "[key]"]
    source = next((name for name, layer in reversed(layers) if _holds(layer, location)), "defaults")
    key = ".".join(map(str, location))
    if detail["type"] == "extra_forbidden":
        known = _known_keys(location[:-1])
        return f"{source}: {key} = {detail['input']!r}: unknown key. Known here: {', '.join(known)}."
    return f"{source}: {key} = {detail['input']!r}: {detail['msg'].lower()}{_allowed(detail)}."


def _allowed(detail: ErrorDetails) -> str:
    field = _field(detail["loc"])
    if field is None:
        return ""
    bounds = [
        f"{sign} {limit}"
        for constraint in field.metadata
        for name, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
        if (limit := getattr(constraint, name, None)) is not None
    ]
    allowed = f" (allowed: {' and '.join(bounds)})" if bounds else ""
    return allowed + (f" [{field.description}]" if field.description else "")


def _field(location: tuple[int | str, ...]) -> Any:
    model: Any = LunchBoxSettings
    field = None
    for part in location:
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return field
        field = fields[part]
        model = field.annotation
    return field


def _known_keys(location: list[int | str]) -> list[str]:
    model: Any = LunchBoxSettings
    for part in location:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _holds(layer: Any, location: list[int | str]) -> bool:
    for part in location:
        if not isinstance(layer, Mapping) or part not in layer:
            return False
        layer = layer[part]
    return True
