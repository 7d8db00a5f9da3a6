"""The example for Dask and Ray Data, on a local cluster, where they are installed (the extra `cluster`)."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "large_batch.py"


@pytest.mark.parametrize(("tool", "packages"), [("dask", ["dask.array", "dask.distributed"]), ("ray", ["ray.data"])])
@pytest.mark.filterwarnings("ignore")  # their own
def test_a_large_batch(tool: str, packages: list[str]) -> None:
    for package in packages:
        pytest.importorskip(package)
    done = subprocess.run([sys.executable, EXAMPLE, tool], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{tool}: 200,000 samples, the same bits as in one process: True"
