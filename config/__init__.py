"""One typed tree of settings, filled from YAML files and `LUNCHBOX_*` variables; only entry points import it."""

from __future__ import annotations

from config.settings import ConfigurationError, LunchBoxSettings, load_settings

__all__ = ["ConfigurationError", "LunchBoxSettings", "load_settings"]
