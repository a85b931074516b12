"""The command line as its users have it: a process of its own, with a home and a data root of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: A bench that renders quickly: a quarter of the pixels, each twice as large.
SMALL_BENCH = """
bench:
  width: 640
  height: 480
  truth: {pixel_size: 0.0005}
"""


@dataclass(frozen=True)
class CommandLine:
    """`lunchbox` with `--data-root` and a configuration already given."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    config: str = SMALL_BENCH

    @property
    def data_root(self) -> Path:
        return self.home / "data"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start and return at once, output in pipes."""
        path = self.home / "lunchbox.yml"
        path.write_text(self.config)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LUNCHBOX_")}
        environment |= {
            "HOME": str(self.home),
            "LUNCHBOX_CONFIG": str(path),
            "LUNCHBOX_DATA_ROOT": str(self.data_root),
            **self.environment,
        }
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "lunchbox", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            **options,
        )

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run to the end, whatever the exit status."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, timeout: float = 120) -> dict[str, Any]:
        """Run with `--json`, successfully, and return the one object that it prints."""
        done = self.run(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stderr
        result: dict[str, Any] = json.loads(done.stdout)
        return result
