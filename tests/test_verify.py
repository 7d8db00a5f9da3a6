"""The gate of `tiaot export`, and `tiaot verify`: what agrees is recorded, what does not writes no module."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

WHOLE = Path(__file__).parent / "kernels" / "whole.py"
VARIOUS = Path(__file__).parent / "kernels" / "various.py"


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tiaot", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verified")
    done = run("export", WHOLE, "-o", "whole.so", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "whole.so"


def test_what_was_compared_is_recorded(exported: Path) -> None:
    with tiaot.open(exported) as module:
        records = {kernel["name"]: kernel["verification"] for kernel in module.info()["kernels"]}
    for name in ("step", "scatter", "transform", "recurrence", "functions", "folded"):
        for part in ("forward from the JIT", "vjp from the JIT", "vjp from finite differences", "vjp from float64"):
            assert part in records[name], name
        assert int(re.findall(r"verified at (\d+) points", records[name])[0]) >= 10  # sizes, and values further off
    assert "vjp" not in records["stencil"] and "forward from the JIT" in records["stencil"]
    assert "JIT" not in records["noise"]  # its numbers are its own
    assert "finite differences" not in records["clipped"]
    done = run("inspect", exported, cwd=exported.parent)
    assert records["step"] in done.stdout


def test_a_module_can_be_verified_later(exported: Path, tmp_path: Path) -> None:
    done = run("verify", exported, "--against", WHOLE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("verified at") == 17
    changed = tmp_path / "changed.py"
    changed.write_text(WHOLE.read_text().replace("x[i] += dt * v[i]", "x[i] += 2 * dt * v[i]"))
    done = run("verify", exported, "--against", changed, cwd=tmp_path)
    assert done.returncode == 1
    assert "step, float64_dynamic, at n=1: output 'x' beside Taichi's JIT: off by" in done.stderr


def test_kernels_with_a_batch(tmp_path: Path) -> None:
    done = run("export", VARIOUS, "-o", "various.so", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "various.so") as module:
        for kernel in module.info()["kernels"]:
            assert "vjp from finite differences" in kernel["verification"] or kernel["name"] == "wrapped"


ON_CUDA = """
import taichi as ti
from tiaot.export import autodiff, family

@family("x[B, 4], w[4] -> y[B]", batch="B", dtypes=["float64"], wrt=["x", "w"])
def weighed(variant):
    factor = FACTOR if variant.target == "cuda" else 1.0

    @ti.kernel
    def forward(x: variant.array(2), w: variant.array(1), y: variant.array(1)):
        for i in range(y.shape[0]):
            total = ti.cast(0, ti.f64)
            for k in ti.static(range(4)):
                total += factor * ti.sin(w[k]) * x[i, k]
            y[i] = total
    return autodiff(forward)
"""


def test_code_for_cuda_is_held_against_that_for_the_cpu(tmp_path: Path) -> None:
    """What a GPU would run differs in a factor of its own: in the result and in the gradients."""
    source = tmp_path / "weighed.py"
    source.write_text(ON_CUDA.replace("FACTOR", "1.0"))
    done = run("export", "--cuda=sm_90", source, "-o", "weighed.so", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "weighed.so") as module:
        (about,) = module.info()["kernels"]
        assert all(entry["cuda"] for variant in about["variants"] for entry in variant["entries"])
    assert "CUDA from the CPU" in about["verification"]
    source.write_text(ON_CUDA.replace("FACTOR", "1.01"))
    done = run("export", "--cuda=sm_90", source, "-o", "other.so", cwd=tmp_path)
    assert done.returncode == 1 and not (tmp_path / "other.so").exists()
    for what in ("output 'y' of", "gradient 'x' (wrt x) of", "gradient 'w' (wrt w) of"):
        assert f"{what} the code for CUDA beside that for the CPU: off by" in done.stderr, done.stderr


def test_what_a_device_would_not_forgive_writes_no_module(tmp_path: Path) -> None:
    """On a device a thread may read its neighbour's element before or after it is written. Threads that write the same
    are no fault."""
    source = tmp_path / "shift.py"
    forms = {"x[i] = x[ti.max(i - 1, 0)]": 1, "x[0] = 1.0": 0}
    for form, status in forms.items():
        source.write_text(
            HEADER
            + f'@kernel("x[n] -> x[n]", wrt=[])\n@ti.kernel\ndef shift(x: array):\n    for i in x:\n        {form}\n'
        )
        done = run("export", "--cuda=sm_90", source, "-o", f"made{status}.so", cwd=tmp_path)
        assert done.returncode == status and (tmp_path / f"made{status}.so").exists() == (status == 0), done.stderr
        said = "shift_float32_dynamic_forward: its code for CUDA is wrong on a device: a write beside another thread"
        assert (said in done.stderr) == (status == 1), done.stderr


HEADER = """
import taichi as ti
from tiaot.export import kernel
array = ti.types.ndarray(ti.f32, ndim=1)
"""
WRONG = {
    "a wrong gradient by hand": (
        """
@ti.kernel
def backward(x: array, grad_y: array, grad_x: array):
    for i in x:
        grad_x[i] = 2.1 * x[i] * grad_y[i]

@kernel("x[n] -> y[n]", vjp={"x": backward})
@ti.kernel
def square(x: array, y: array):
    for i in x:
        y[i] = x[i] * x[i]
""",
        "square, float32_dynamic, at n=1: gradient of 'x' (wrt x) beside finite differences in float64: off by",
    ),
    "an array read before it is updated": (
        """
@kernel("x[n] -> x[n]", derivative="taichi")
@ti.kernel
def squared(x: array):
    for i in x:
        x[i] = x[i] * x[i]
""",
        "squared, float32_dynamic, at n=1: gradient of 'x' (wrt x) beside finite differences in float64: off by",
    ),
    "draws of another shape": (
        """
@kernel("x[n] -> y[n]", draw={"x": lambda rng, shape, sizes: rng.uniform(size=3)})
@ti.kernel
def odd(x: array, y: array):
    for i in x:
        y[i] = x[i]
""",
        "odd: draw for 'x': expected an array of numbers of shape (1,), got float64 of shape (3,)",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_disagrees_writes_no_module(what: str, tmp_path: Path) -> None:
    source, message = WRONG[what]
    (tmp_path / "wrong.py").write_text(HEADER + source)
    done = run("export", "wrong.py", "-o", "wrong.so", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("wrong.so*")) and not (tmp_path / "wrong.h").exists()
    if "shape" not in message:
        done = run("export", "wrong.py", "-o", "wrong.so", "--no-verify", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        maker = "Taichi" if "array" in what else "its author"
        with tiaot.open(tmp_path / "wrong.so") as module:
            assert [each["verification"] for each in module.info()["kernels"]] == [f"not verified; vjp by {maker}"]


def test_indices_are_drawn_by_the_author(tmp_path: Path) -> None:
    source = (
        HEADER
        + """
@kernel("x[n], at[m] -> y[m]", sizes=[{"n": 5, "m": 40}],
        draw={"at": lambda rng, shape, sizes: rng.integers(0, sizes["n"], shape)})
@ti.kernel
def gather(x: array, at: ti.types.ndarray(ti.i32, ndim=1), y: array):
    for i in at:
        y[i] = x[at[i]] ** 2
"""
    )
    (tmp_path / "gather.py").write_text(source)
    done = run("export", "gather.py", "-o", "gather.so", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with tiaot.open(tmp_path / "gather.so") as module:
        assert "verified at" in module.info()["kernels"][0]["verification"]
