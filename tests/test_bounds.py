"""`tiaot export --check-bounds`: an index out of range is an error with its line, forward and backward."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = """\
import taichi as ti
from tiaot.export import kernel
held = ti.field(ti.f64, shape=(4, 5), needs_grad=True)
array = ti.types.ndarray(ti.f64, ndim=1)
pairs = ti.types.ndarray(ti.math.vec2, ndim=2)

@kernel("x[n], k -> y[n]", derivatives=["jvp"])
@ti.kernel
def shift(x: array, k: ti.i32, y: array):
    for i in x:
        y[i] = x[i + k - 1] * x[i]

@kernel("p[n, m, 2], k -> p[n, m, 2]", wrt=[])
@ti.kernel
def planes(p: pairs, k: ti.i32):
    for i, j in p:
        p[i, j] += p[i, k - 1]

@kernel()
@ti.kernel
def over_fields(k: ti.i32):
    for i in range(4):
        held[i, 0] += held[i, k] * 2.0

@kernel("x[B, 3], k -> y[B]", batch="B")
@ti.kernel
def rows(x: ti.types.ndarray(ti.f64, ndim=2), k: ti.i32, y: array):
    for i in y:
        y[i] = x[i, k - 1] ** 2

@kernel("x[n] -> x[n]", derivative="tiaot")
@ti.kernel
def squares(x: array):
    for i in x:
        x[i] = x[i] * x[i]

@kernel(wrt=[])
@ti.kernel
def after_a_failure(n: ti.i32):
    for i in range(1):
        held[n + i, 0] = 1.0
    for _ in range(1):
        while held[0, 1] == 0.0:  # for ever, where the line above has not run
            held[0, 1] = held[2, 0]
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    folder = tmp_path_factory.mktemp("bounds")
    (folder / "source.py").write_text(SOURCE)
    path = module_files.exported(folder / "source.py", folder / "checked.so", "--check-bounds", "--no-verify")
    return tiaot.open(path)


def test_what_is_in_range_is_right(module: tiaot.Module) -> None:
    x = np.linspace(0, 1, 9)
    np.testing.assert_array_equal(module.shift(x, 1), x * x)
    np.testing.assert_allclose(module.shift.vjp(x, 1, np.ones(9), wrt="x"), 2 * x)
    np.testing.assert_allclose(module.rows(np.full((70, 3), 2.0), 3), np.full(70, 4.0))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [3, 5000])
def test_an_array(module: tiaot.Module, size: int, threads: int) -> None:
    x = np.ones(size)
    with pytest.raises(ValueError, match=r"source.py:11: shift: x\[i \+ k - 1\] is out of range: the index is \("):
        module.shift(x, size + 1, num_threads=threads)
    with pytest.raises(ValueError, match=rf"the index is \(-?\d+\), its size \({size}\)"):
        module.shift(x, -size, num_threads=threads)
    with pytest.raises(ValueError, match=r"shift, its gradient: .* is out of range"):
        module.shift.vjp(x, size + 1, np.ones(size), wrt="x", num_threads=threads)
    np.testing.assert_array_equal(module.shift(x, 1), x)  # and the module is as it was


def test_an_array_of_vectors_and_a_batch(module: tiaot.Module) -> None:
    with pytest.raises(ValueError, match=r"source.py:17: planes: p\[i, k - 1\] .* \(\d, 7\), its size \(2, 3\)"):
        module.planes(np.ones((2, 3, 2), np.float32), 8)
    with pytest.raises(ValueError, match=r"source.py:29: rows: x\[i, k - 1\] .* \(\d+, 3\), its size \(\d+, 3\)"):
        module.rows(np.ones((70, 3)), 4)
    with pytest.raises(ValueError, match=r"rows, its gradient: .* is out of range"):
        module.rows.vjp(np.ones((70, 3)), 4, np.ones(70), wrt="x")


def test_a_field(module: tiaot.Module) -> None:
    state = module.state()
    with pytest.raises(ValueError, match=r"source.py:23: over_fields: held\[i, k\] .* \(\d, 5\), its size \(4, 5\)"):
        state.over_fields(5)
    with pytest.raises(ValueError, match=r"over_fields, its gradient: held\[i, k\] .* \(\d, -1\), its size \(4, 5\)"):
        state.over_fields.grad(-1)
    state.over_fields(4)


def test_nothing_runs_after_a_failure(module: tiaot.Module) -> None:
    state = module.state()
    with pytest.raises(ValueError, match=r"after_a_failure: held\[n \+ i, 0\] is out .* \(4, 0\), its size \(4, 5\)"):
        state.after_a_failure(4)
    assert state.held[0, 1] == 0.0
    state.after_a_failure(2)
    assert state.held[0, 1] == 1.0


def test_what_is_not_checked_is_left_out(tmp_path: Path, module: tiaot.Module) -> None:
    entries = {
        kernel["name"]: {entry["kind"] for entry in kernel["variants"][0]["entries"]}
        for kernel in module.info()["kernels"]
    }
    assert entries["shift"] == {"forward", "vjp"} and entries["squares"] == {"forward"}
    (tmp_path / "source.py").write_text(SOURCE)
    command = [sys.executable, "-m", "tiaot", "export", "source.py", "--check-bounds", "--cuda=sm_90"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--check-bounds is for CPUs: leave --cuda out" in done.stderr
