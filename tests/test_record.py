"""Recorded launches: what is kept of a program's, and that the gate tries its kernels with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

PROGRAM = """
import sys
import taichi as ti
from tiaot.export import kernel
ti.init(arch=ti.cpu)
n = 16
grid = ti.field(ti.f64, shape=n, needs_grad=True)
index = ti.field(ti.i32, shape=n)
loss = ti.field(ti.f64, shape=(), needs_grad=True)
array = ti.types.ndarray(ti.f64, ndim=1)

@kernel()
@ti.kernel
def spread(t: ti.i32):  # of the fields as they are drawn the logarithm is no number
    for i in grid:
        loss[None] += ti.log(grid[i] - 4.0) * grid[index[i]]

@kernel("x[n], m -> x[n]", derivative="taichi")  # which is wrong where elements are read and overwritten
@ti.kernel
def update(x: array, m: ti.i32):
    for i in x:
        if m == 4321:
            x[i] = UPDATE

@kernel("x[n] -> y[n]", sizes=[{"n": 3}])
@ti.kernel
def unused(x: array, y: array):
    for i in x:
        y[i] = x[i]

if __name__ == "__main__":
    import numpy as np
    assert sys.argv[1:] == ["--frames", "12"], sys.argv
    for frame in range(12):
        grid.from_numpy(np.full(n, 5.0 + frame))
        index.from_numpy(np.arange(n)[::-1].astype(np.int32))
        spread(frame)
        update(np.full(7, 0.5 + frame), 4321)
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def export(folder: Path, update: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "program.py").write_text(PROGRAM.replace("UPDATE", update))
    return run(folder, "-m", "tiaot", "export", "program.py", "-o", "module.so", *options)


def test_kernels_are_tried_with_what_a_program_gives_them(tmp_path: Path) -> None:
    done = export(tmp_path, "x[i] * 3", "--record", "--", "--frames", "12")
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "module.so") as module:
        records = {kernel["name"]: kernel["verification"] for kernel in module.info()["kernels"]}
    assert "verified at 3 points (3 recorded)" in records["spread"]
    assert "(3 recorded)" in records["update"] and "never ran" not in records["update"]
    assert "recorded" not in records["unused"]
    assert "the recording has no launch of unused: values were drawn" in done.stderr


def test_what_only_a_program_reaches_is_checked(tmp_path: Path) -> None:
    """Taichi's adjoint of an update from the old value is wrong, behind a condition that no drawn number meets."""
    done = export(tmp_path, "x[i] * x[i]", "--record", "--", "--frames", "12")
    assert done.returncode == 1
    assert "update, float64_dynamic, at n=7, values as recorded: gradient of 'x' (wrt x) beside" in done.stderr
    assert "spread," not in done.stderr
    without = export(tmp_path, "x[i] * x[i]")
    assert "spread, float32_dynamic: gradient of field 'grid' is not a number" in without.stderr
    assert "update," not in without.stderr


SCRIPT = """
import numpy as np
import taichi as ti
import tiaot.export
ti.init(arch=ti.cpu)
held = ti.field(ti.f32, shape=3)
pairs = ti.types.ndarray(ti.math.vec2, ndim=1)

@ti.kernel
def step(x: pairs, c: ti.f32, which: ti.template()):
    for i in held:
        held[i] += c * x[0][0]

step(np.zeros((4, 2), np.float32), 1.0, held)
with tiaot.export.recording("kept"):
    for turn in range(1, 101):
        step(np.full((4, 2), turn, np.float32), 0.5, held)
    try:
        with tiaot.export.recording("other"):
            raise AssertionError
    except RuntimeError as error:
        assert "at work already" in str(error)
step(np.zeros((4, 2), np.float32), 1.0, held)
"""


def test_what_a_recording_keeps(tmp_path: Path) -> None:
    from tiaot.export.gate.recorded import RecordError, read_recording

    (tmp_path / "script.py").write_text(SCRIPT)
    done = run(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    launches = read_recording(tmp_path / "kept")
    assert [each.number for each in launches] == [1, 10, 30, 100]  # the first, and the last of some
    assert all(each.names == ("step",) and each.templates == {"which": "held"} for each in launches)
    for each in launches:
        arrays = each.arrays()
        np.testing.assert_array_equal(arrays["input.x"], np.full((4, 2), each.number))
        assert arrays["input.c"] == 0.5
        before = each.number - 1
        np.testing.assert_allclose(arrays["state.held"], 0.5 * before * (before + 1) / 2)
    assert len(list((tmp_path / "kept").glob("*.npz"))) == 4
    with pytest.raises(RecordError, match="there is no recording: make one by"):
        read_recording(tmp_path)


def test_what_cannot_be_recorded_is_told(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import sys\nsys.exit(3)\n")
    done = run(tmp_path, "-m", "tiaot", "export", "program.py", "--record", "--", "a")
    assert done.returncode == 1
    assert "program.py a: the program that was to be recorded ended with code 3" in done.stderr
    done = run(tmp_path, "-m", "tiaot", "export", "program.py", "--", "a")
    assert done.returncode == 1 and "are for the program that --record runs" in done.stderr
    (tmp_path / "program.py").write_text("pass\n")
    done = run(tmp_path, "-m", "tiaot", "export", "program.py", "--record")
    assert done.returncode == 1 and "launched no kernel of its own" in done.stderr
