"""What of a kernel ran at no point of its verification: told, recorded, and with --strict an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = """\
import taichi as ti
from tiaot.export import kernel
array = ti.types.ndarray(ti.f64, ndim=1)
held = ti.field(ti.f64, shape=8, needs_grad=True)

@ti.func
def clip(v):
    r = v
    if v > 5000.0:
        r = 5000.0
    else:
        r = v * 2
    return r

@kernel("x[n], m -> y[n]", sizes=[{"n": 40}])
@ti.kernel
def several(x: array, m: ti.i32, y: array):
    for i in x:
        y[i] = clip(x[i])
        if ti.static(False):
            y[i] += 1.0
        if m == 777 and x[i] > 0:
            y[i] *= 2
        for j in range(m - 1000):
            y[i] += x[i]
        y[i] += 1.0 if x[i] > -1e6 else x[i]
        if x[i] == 0.0:
            y[i] += 3 * x[i]

@kernel("x[n] -> y[n]", sizes=[{"n": 3}], wrt=[])
@ti.kernel
def leaving(x: array, y: array):
    for i in x:
        if i < 100:
            continue
        y[i] = x[i]
        while y[i] > 1e9:
            y[i] -= 1

@kernel("x[n] -> y[n]", sizes=[{"n": 3}], draw={"x": lambda rng, shape, sizes: rng.uniform(4000, 6000, shape)})
@ti.kernel
def reached(x: array, y: array):
    for i in x:
        y[i] = clip(x[i]) * x[i]

@kernel()
@ti.kernel
def over_fields(c: ti.f64):
    for i in held:
        if held[i] < -1e6:
            held[i] += 2 * c

@ti.kernel
def backward(x: array, grad_y: array, grad_x: array):
    for i in x:
        if x[i] > 1e6:
            grad_x[i] = 7.0
        else:
            grad_x[i] = 2 * x[i] * grad_y[i]

@kernel("x[n] -> y[n]", vjp={"x": backward}, sizes=[{"n": 3}])
@ti.kernel
def by_hand(x: array, y: array):
    for i in x:
        y[i] = x[i] * x[i]
"""

NEVER = {
    "several": [
        "source.py:9: the branch of `if v > 5000.0` never ran",
        "source.py:22: the branch of `if m == 777 and x[i] > 0` never ran",
        "source.py:24: the loop `for j in range(m - 1000)` never ran",
        "source.py:26: the last side of `1.0 if x[i] > -1000000.0 else x[i]` never ran",
        "source.py:27: the branch of `if x[i] == 0.0` ran only where no derivative was checked",
    ],
    "leaving": [
        "source.py:34: what follows, past `if i < 100`, never ran",
        "source.py:37: the loop `while y[i] > 1000000000.0` never ran",
    ],
    "over_fields": ["source.py:50: the branch of `if held[i] < -1000000.0` never ran"],
    "by_hand": ["source.py:56: the branch of `if x[i] > 1000000.0` never ran"],
}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiaot", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_branches_that_never_ran_are_told(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE)
    done = run(tmp_path, "export", "source.py", "-o", "module.so")
    assert done.returncode == 0, done.stderr
    notes = [line.strip() for line in done.stderr.splitlines() if line.startswith("  source.py:")]
    assert notes == [line for lines in NEVER.values() for line in lines], done.stderr
    assert "several: nothing is known of what did not run" in done.stderr
    assert "draw={'m': lambda rng, shape, sizes: rng.integers(0, 100, shape)}" in done.stderr
    assert "draw={'held': lambda rng, shape, sizes: rng.uniform(-10, 10, shape)}" in done.stderr
    with tiaot.open(tmp_path / "module.so") as module:
        records = {kernel["name"]: kernel["verification"] for kernel in module.info()["kernels"]}
    for name, lines in NEVER.items():
        assert "; ".join(lines[:4]) in records[name], records[name]
    assert "and 1 more ways were not checked" in records["several"]
    assert "source.py" not in records["reached"]
    strict = run(tmp_path, "verify", "module.so", "--against", "source.py", "--strict")
    assert strict.returncode == 1
    for lines in NEVER.values():
        assert all(line in strict.stderr for line in lines), strict.stderr
    assert "reached" not in strict.stderr
