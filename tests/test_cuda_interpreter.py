"""What the checks of test_cuda_numerics.py are worth: mutants of the PTX are found, and so is what was wrong in it
once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import cuda_arrays
import cuda_export
import numpy as np
import pytest
import tiaot
from cuda_arrays import Driver, in_child
from cuda_interpreted import Described, use_interpreter
from kernel_cases import DRAWN

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def library(shared_folder: Path) -> Path:
    return cuda_arrays.build_standin(shared_folder)


def run(script: str, *arguments: str | Path) -> str:
    environment = {**os.environ, "TIAOT_CUDA_PTX": "1"}
    command = [sys.executable, str(TESTS / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mutants_are_found(library: Path) -> None:
    """Of 15 changes of one instruction; a few are none, as where a grid has a thread for each turn of a loop, and how
    far it is to the next turn does not matter."""
    folder = {cuda_export.exported_path(file).parent for file in DRAWN}.pop()
    said = run("cuda_mutants.py", folder, library, "1", "15")
    found = re.search(r"(\d+) of 15 found", said)
    assert found and int(found[1]) >= 11, said


@in_child
def test_reductions_of_full_warps(driver: Driver) -> None:
    """Minima of positive and maxima of negative numbers, where a zero from elsewhere would win."""
    os.environ["TIAOT_CUDA_PTX"] = "1"
    use_interpreter(driver)
    module = tiaot.open(cuda_export.exported_path("device"))
    rng = np.random.default_rng(0)
    for n in (32, 1000, 20000):
        for low, high in ((5, 6), (-50, -11)):
            x = rng.uniform(low, high, n).astype(np.float32)
            given = Described(x)
            given.describe(driver, "x", writable=False)
            total, least, most = (each.array for each in module.reduce_f32(given))
            assert (least, most) == (x.min(), x.max())
            assert abs(total - x.sum(dtype=np.float64)) < 1e-5 * n * 50
    special = np.array([np.nan, -0.0, 0.0, 3.0, -2.0, np.inf] * 20, np.float32)
    given = Described(special)
    given.describe(driver, "x", writable=False)
    _, least, most = (each.array for each in module.reduce_f32(given))
    assert (least, most) == (-2, np.inf)  # as the CPU does, which takes no NaN for the least or the most
    assert driver.findings() == b""
