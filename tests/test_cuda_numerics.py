"""The numbers of exported CUDA code: the stand-in for the driver interprets the PTX that modules ship, and reports what
a device would not forgive. On a real GPU the same checks are run by `benchmarks/gpu.py`."""

from __future__ import annotations

import json
import os
import re
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


SIZES = ("0", "1", "31", "33", "130", "513")
# What no size launches: sums of a type that a file has none of, and additions in place where copies would be too large.
UNUSED = re.compile(r"tiaot_sum_float(32|64)")


def run(folder: Path, library: Path, what: str, *options: str) -> str:
    """What cuda_numerics.py prints, in a process whose driver is the stand-in."""
    script = Path(cuda_export.__file__).with_name("cuda_numerics.py")
    command = [sys.executable, str(script), what, "interpreted", str(folder), "--standin", str(library), *options]
    environment = {**os.environ, "TIAOT_CUDA_PTX": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def library(shared_folder: Path) -> Path:
    return cuda_arrays.build_standin(shared_folder)


# Stacks of unknown length, and a kernel that is written for blocks of rows.
WITHOUT = {
    "whole": {("recurrence", "vjp")},
    "rows": {("move", "vjp"), ("tally", "vjp")},
    "half": {("row", "vjp")},
    "derivatives": {("recurrence", "vjp"), ("recurrence", "hvp")},
    "various": {("product", "vjp"), ("smooth", "forward"), ("smooth", "vjp")},
}


@pytest.mark.parametrize("file", DRAWN)
def test_all_have_cuda_code_but_for_known_reasons(file: str) -> None:
    with tiaot.open(cuda_export.exported_path(file)) as module:
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
    """Every entry, and every kernel of the variants that are run, with the warps of a grid shuffled and approximations
    off by a bit."""
    folder = cuda_export.exported_path(file).parent
    said = run(folder, library, "check", "--only", file, "--sizes", *SIZES, "--order", "2", "--launched")
    assert " 0 failed, 0 skipped" in said
    launched = set(said.split("launched: ")[1].splitlines()[0].split())
    with tiaot.open(folder / f"{file}.so") as module:
        kernels = set(module.info()["cuda"]["kernels"])

    def variant(name: str) -> str:
        return re.split("_(?:forward|vjp|jvp|hvp)", name)[0]

    wanted = {each for each in kernels if variant(each) in set(map(variant, launched))}
    unused = {each for each in wanted if UNUSED.fullmatch(each) or f"{each}_copies" in kernels}
    assert launched <= kernels and wanted - launched - unused == set()


def test_results_are_the_same_bits_for_any_grid(library: Path) -> None:
    folder = {cuda_export.exported_path(file).parent for file in DRAWN}.pop()
    found, grids = [], []
    for count in (1, 2, 200):
        said = run(folder, library, "digests", "--launched", "--multiprocessors", str(count)).splitlines()
        found.append(json.loads(said[-1]))
        grids.append(said[0].removeprefix("grids: ").split())
    assert len(found[0]) > 150
    for other in found[1:]:
        assert [what for what in found[0] if found[0][what] != other[what]] == []
    # The grids do differ, at the larger one of the sizes: but for sums, whose grids follow from the sizes.
    large = [grid for grid in zip(*grids, strict=True) if int(grid[2].split(":")[1]) > 16]
    assert sum(len(set(grid)) == 3 for grid in large) > len(large) / 2 > 100


def test_products_by_atomics_do_not_depend_on_the_threads() -> None:
    """A loop around a compare-and-exchange: in pieces its result would be that of whichever thread came first."""
    with tiaot.open(cuda_export.exported_path("device")) as module:
        entries = [e for k in module.info()["kernels"] if k["name"] == "multiply" for e in k["variants"][0]["entries"]]
        assert [entry["cuda_order"] for entry in entries] == ["unordered"]
        (x,) = draw("device", "multiply", 50000)
        found = {module.multiply(x, num_threads=threads).tobytes() for threads in [1] + [2] * 20 + [7] * 20}
    assert len(found) == 1
