"""What the rooms' contracts promise of imports."""

import subprocess
import sys

import pytest


def loaded_by(module):
    code = f"import sys, {module}; print(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_analysis_is_light():
    heavy = {"numpy", "scipy", "pandas", "matplotlib", "xarray", "tiled", "cv2"}
    assert not heavy & loaded_by("analysis")


@pytest.mark.parametrize("module", ["grating", "spots", "orders", "fit"])
def test_optics_knows_nothing_of_the_beamline(module):
    assert not {"bluesky", "tiled", "h5py", "ophyd", "acquisition", "matplotlib"} & loaded_by(f"analysis.{module}")
