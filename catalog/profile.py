"""The Tiled profile `lunchbox`, by which Tiled and databroker find the server."""

from __future__ import annotations

import json
import os
from pathlib import Path

from catalog.store import write_private

PROFILE = "lunchbox"


def write_profile(uri: str, api_key: str, *, folder: str | os.PathLike[str] | None = None) -> Path:
    """Write the profile, mode 0600 because it holds the key; gives back its file.

    `folder` is where Tiled looks first, unless another one is given.
    """
    from tiled.profiles import paths

    file = Path(folder if folder is not None else paths[-1]) / f"{PROFILE}.yml"
    # A profile has no place for a key but the address; Tiled's client takes it out before it asks for anything else.
    # JSON is YAML, with quotes that need no rules.
    profile = {PROFILE: {"uri": f"{uri}/api/v1?api_key={api_key}"}}
    write_private(file, f"# Written by lunchbox serve.\n{json.dumps(profile, indent=2)}\n")
    return file
