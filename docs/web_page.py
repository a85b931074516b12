"""Make docs/images/web-page.png: what Chromium shows of a run of the simulated bench.

python docs/web_page.py
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from catalog import open_catalog
from catalog.server import Server
from config import load_settings

PICTURE = Path(__file__).parent / "images" / "web-page.png"
_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--window-size=1000,860", "--virtual-time-budget=20000"),
]


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("Chromium is not installed; the picture stays as it is.")
    with tempfile.TemporaryDirectory() as folder:
        data_root = Path(folder, "data")
        lunchbox = Path(sys.executable).with_name("lunchbox")
        subprocess.run([lunchbox, "demo", "--points", "9", "--data-root", data_root], check=True)
        settings = load_settings(data_root=data_root)
        with Server(settings, port=0) as server:
            catalog = open_catalog(server.uri, settings=settings, api_key=server.api_key)
            uid = catalog[-1].start["uid"]
            catalog.close()
            url = f"{server.uri}/ui/browse/{uid}/primary/lunchbox_image?api_key={server.api_key}"
            path = Path(folder, "page.png")
            options = [*_OPTIONS, f"--user-data-dir={folder}/profile", f"--screenshot={path}"]
            subprocess.run([chromium, *options, url], check=True, stderr=subprocess.DEVNULL)
            PICTURE.write_bytes(_small(path))


def _small(path: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
