"""The numbers of exported CUDA code, on the stand-in for the driver: its device code, compiled for the CPU, is what the
exporter makes, from the tracing to the launches. On a real GPU the same checks are run by `benchmarks/gpu.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cuda_arrays
import cuda_export
import pytest
import tiaot
from kernel_cases import DRAWN, draw

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")


def run(folder: Path, library: Path, what: str, *options: str) -> str:
    """What cuda_numerics.py prints, in a process whose driver is the stand-in."""
    script = Path(cuda_export.__file__).with_name("cuda_numerics.py")
    command = [sys.executable, str(script), what, "standin", str(folder), "--standin", str(library), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cuda_arrays.build_standin(tmp_path_factory.getbasetemp())


# Stacks of unknown length, and a kernel that is written for blocks of rows.
WITHOUT = {
    "whole": {("recurrence", "vjp")},
    "rows": {("move", "vjp"), ("tally", "vjp")},
    "half": {("row", "vjp")},
    "various": {("product", "vjp"), ("smooth", "forward"), ("smooth", "vjp")},
}


@pytest.mark.parametrize("file", DRAWN)
def test_all_have_cuda_code_but_for_known_reasons(file: str) -> None:
    with tiaot.open(cuda_export.emulated_path(file)) as module:
        missing = {
            (kernel["name"], entry["kind"])
            for kernel in module.info()["kernels"]
            for variant in kernel["variants"]
            for entry in variant["entries"]
            if not entry["cuda"]
        }
    assert missing == WITHOUT.get(file, set())


@pytest.mark.parametrize("file", DRAWN)
def test_results_are_those_of_the_cpu(file: str, library: Path) -> None:
    folder = cuda_export.emulated_path(file).parent
    assert " 0 failed, 0 skipped" in run(folder, library, "check", "--only", file)


def test_results_are_the_same_bits_for_any_grid(library: Path) -> None:
    folders = {cuda_export.emulated_path(file).parent for file in DRAWN}
    found = [
        json.loads(run(folder, library, "digests", "--multiprocessors", str(count)))
        for folder in folders
        for count in (1, 2, 200)
    ]
    assert len(found) == 3 and len(found[0]) > 150
    for other in found[1:]:
        assert [what for what in found[0] if found[0][what] != other[what]] == []


def test_products_by_atomics_do_not_depend_on_the_threads() -> None:
    """A loop around a compare-and-exchange: in pieces its result would be that of whichever thread came first."""
    with tiaot.open(cuda_export.emulated_path("device")) as module:
        entries = [e for k in module.info()["kernels"] if k["name"] == "multiply" for e in k["variants"][0]["entries"]]
        assert [entry["cuda_order"] for entry in entries] == ["unordered"]
        (x,) = draw("device", "multiply", 50000)
        found = {module.multiply(x, num_threads=threads).tobytes() for threads in [1] + [2] * 20 + [7] * 20}
    assert len(found) == 1
