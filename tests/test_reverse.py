"""The exporter's own reverse mode: every vjp against the jvp by <v, J t> = <J^T v, t>, second derivatives against
differences, a simulation against the complex step; and what it refuses, with the reason."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

from tiaot.export.taichi.trace import trace_file

SOURCE = Path(__file__).parent / "kernels" / "reverse.py"
LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]
SIZES = [(1, 1), (2, 3), (5, 7), (13, 34), (70, 3), (600, 2)]
NAMES = [
    "triangle",
    "until",
    "skips",
    "branches",
    "orbit",
    "scan",
    "running",
    "apart",
    "relax",
    "moment",
    "chained",
    "gather",
    "scatter",
    "mixed",
    "turned",
    "adaptive",
    "layer",
    "powers",
    "chain",
    "jacobi",
    "sweeps",
    "scaled",
    "bins",
    "weighed",
    "layers",
    "log_sum",
    "capped",
    "peaks",
    "ranked",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.exported(SOURCE, tmp_path_factory.mktemp("reverse") / "reverse.so", "--no-verify")


@pytest.fixture(scope="module")
def module(path: Path) -> tiaot.Module:
    return tiaot.open(path)


def tuple_of(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def draw(name: str, n: int, m: int) -> tuple[list[Any], list[str]]:
    """Inputs of a kernel, and the names of those that are differentiated, all of which come first."""
    rng = np.random.default_rng([n, m, len(name)])
    x, w = rng.uniform(-1.5, 1.5, n), rng.uniform(-1.5, 1.5, m)
    if name in ("orbit", "relax", "chain", "ranked"):
        return [x, rng.uniform(-1.5, 1.5, n)], ["x", "v"]
    if name in ("scan", "moment", "chained", "powers", "scaled", "bins", "log_sum", "capped"):
        return [x], ["x"]
    if name == "peaks":
        return [x, rng.uniform(-1.5, 1.5, n), rng.integers(0, n, n, dtype=np.int32)], ["x", "w"]
    if name == "gather":
        return [x, rng.integers(0, n, m, dtype=np.int32)], ["x"]
    if name == "adaptive":
        return [x, 0.1], ["x"]
    if name == "turned":
        return [rng.uniform(-1.5, 1.5, (n, 3)), w], ["x", "w"]
    if name == "jacobi":
        return [rng.uniform(-1.5, 1.5, (n, 3)), rng.uniform(-1.5, 1.5, n)], ["x", "w"]
    if name == "weighed":
        return [x, w[:1], rng.uniform(-1.5, 1.5, 3)], ["x", "d"]
    if name == "layers":
        return [rng.uniform(-1.5, 1.5, shape) for shape in ((n, 3), (m, 3))], ["x", "W"]
    if name == "layer":
        k, rows = (4, 3) if n % 2 else (5, m)
        return [rng.normal(size=shape).astype(np.float32) for shape in ((n, k), (rows, k))], ["x", "W"]
    return [x, w], ["x", "w"]


def like(arrays: Sequence[Any], rng: np.random.Generator) -> list[Any]:
    return [rng.normal(size=np.shape(each)).astype(np.asarray(each).dtype) for each in arrays]


@pytest.mark.parametrize(("n", "m"), SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_the_vjp_is_the_transpose_of_the_jvp(module: tiaot.Module, name: str, n: int, m: int) -> None:
    kernel = getattr(module, name)
    inputs, names = draw(name, n, m)
    rng = np.random.default_rng(1)
    tangents = like(inputs[: len(names)], rng)
    cotangents = like(tuple_of(kernel(*inputs)), rng)
    _, along = kernel.jvp(*inputs, *tangents, wrt=names)
    gradients = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names))
    forward = sum(np.vdot(v, t) for v, t in zip(cotangents, tuple_of(along), strict=True))
    backward = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
    size = sum(np.abs(g * t).sum() for g, t in zip(gradients, tangents, strict=True))
    assert np.isfinite(size)
    assert abs(forward - backward) <= (2e-5 if name == "layer" else 1e-13) * max(size, 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_each_input_alone_has_the_gradient_that_it_has_with_the_others(module: tiaot.Module, name: str) -> None:
    kernel = getattr(module, name)
    inputs, names = draw(name, 5, 7)
    cotangents = like(tuple_of(kernel(*inputs)), np.random.default_rng(1))
    together = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names))
    for place, each in enumerate(names):
        (alone,) = kernel.vjp(*inputs, *cotangents, wrt=[each])
        np.testing.assert_allclose(alone, together[place], rtol=2e-5 if name == "layer" else 1e-12, atol=1e-13)


@pytest.mark.parametrize(
    "name", ["triangle", "scatter", "gather", "moment", "layer", "chain", "scaled", "layers", "peaks"]
)
def test_results_are_the_same_bits_for_any_number_of_threads(module: tiaot.Module, name: str) -> None:
    kernel = getattr(module, name)
    inputs, names = draw(name, 3000, 20)
    cotangents = like(tuple_of(kernel(*inputs)), np.random.default_rng(1))
    expected = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names, num_threads=1))
    for threads in (2, 3, 7):
        found = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names, num_threads=threads))
        assert all(map(np.array_equal, found, expected))


@pytest.mark.parametrize("name", ["orbit", "moment", "powers", "scaled", "log_sum"])
def test_second_derivatives_are_those_of_the_vjp(module: tiaot.Module, name: str) -> None:
    kernel = getattr(module, name)
    inputs, names = draw(name, 6, 1)
    rng = np.random.default_rng(2)
    tangents, cotangents = like(inputs, rng), like(tuple_of(kernel(*inputs)), rng)
    _, second = kernel.hvp(*inputs, *cotangents, *tangents, wrt=names)

    def gradient(step: float) -> tuple[np.ndarray, ...]:
        moved = [each + step * tangent for each, tangent in zip(inputs, tangents, strict=True)]
        return tuple_of(kernel.vjp(*moved, *cotangents, wrt=names))

    h = 1e-3
    for found, a, b, c, d in zip(tuple_of(second), *map(gradient, (-h, h, -2 * h, 2 * h)), strict=True):
        np.testing.assert_allclose(found, (8 * (b - a) - (d - c)) / (12 * h), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["log_sum", "peaks", "ranked"])
def test_of_equal_numbers_the_first_takes_the_gradient(module: tiaot.Module, name: str) -> None:
    """As in the jvp, for any number of threads; the turns are more than a piece has."""
    kernel = getattr(module, name)
    inputs, names = draw(name, 3000, 1)
    inputs = [np.round(each) if each.dtype == np.float64 else each for each in inputs]
    rng = np.random.default_rng(4)
    tangents, cotangents = like(inputs[: len(names)], rng), like(tuple_of(kernel(*inputs)), rng)
    _, along = kernel.jvp(*inputs, *tangents, wrt=names)
    for threads in (1, 7):
        gradients = tuple_of(kernel.vjp(*inputs, *cotangents, wrt=names, num_threads=threads))
        backward = sum(np.vdot(g, t) for g, t in zip(gradients, tangents, strict=True))
        forward = sum(np.vdot(v, t) for v, t in zip(cotangents, tuple_of(along), strict=True))
        size = sum(np.abs(g * t).sum() for g, t in zip(gradients, tangents, strict=True))
        assert abs(forward - backward) <= 1e-13 * size
    if name == "log_sum":
        (gradient,) = kernel.vjp(*inputs, 1.0, wrt=["x"])
        np.testing.assert_allclose(gradient, np.exp(inputs[0]) / np.exp(inputs[0]).sum(), rtol=1e-10)


def test_an_orbit_in_place(module: tiaot.Module) -> None:
    """Against the complex step, which has no cancellation."""
    (place, speed), _ = draw("orbit", 4, 1)
    cotangents = like([place, speed], np.random.default_rng(3))

    def end(x: np.ndarray, v: np.ndarray) -> complex:
        for _ in range(40):
            v = v - x / (1 + x * x) * 0.05
            x = x + v * 0.05
        return np.sum(x * cotangents[0] + v * cotangents[1])

    found = module.orbit.vjp(place, speed, *cotangents, wrt=["x", "v"])
    for i, gradient in enumerate(found):
        for j in range(4):
            moved = [place.astype(complex), speed.astype(complex)]
            moved[i][j] += 1e-30j
            assert gradient[j] == pytest.approx(end(*moved).imag / 1e-30, rel=1e-12)


def test_every_level_computes_the_same(path: Path) -> None:
    program = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
import numpy as np, tiaot
from test_reverse import NAMES, draw, like, tuple_of
module = tiaot.open({str(path)!r})
for name in NAMES:
    inputs, names = draw(name, 5, 7)
    cotangents = like(tuple_of(getattr(module, name)(*inputs)), np.random.default_rng(1))
    for gradient in tuple_of(getattr(module, name).vjp(*inputs, *cotangents, wrt=names)):
        print(name, *(float(each) for each in np.ravel(gradient)))
"""
    printed = []
    for level in LEVELS[: LEVELS.index(tiaot.cpu_level()) + 1]:
        environment = {**os.environ, "TIAOT_CPU_LEVEL": level}
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert run.returncode == 0, run.stderr
        printed.append([line.split() for line in run.stdout.splitlines() if line.split()[0] in NAMES])
    for other in printed[1:]:
        for expected, found in zip(printed[0], other, strict=True):
            assert expected[0] == found[0]
            np.testing.assert_allclose(
                [float(each) for each in found[1:]],
                [float(each) for each in expected[1:]],
                rtol=1e-4 if expected[0] == "layer" else 1e-11,
                atol=1e-5 if expected[0] == "layer" else 1e-12,
            )


HEAD = """
import taichi as ti
from tiaot.export import kernel

f64_1 = ti.types.ndarray(dtype=ti.f64, ndim=1)
"""


def export(tmp_path: Path, body: str, *options: str) -> subprocess.CompletedProcess:
    source = tmp_path / "source.py"
    source.write_text(HEAD + body)
    command = [sys.executable, "-m", "tiaot", "export", str(source), "-o", str(tmp_path / "made.so"), *options]
    return subprocess.run(command, capture_output=True, text=True)


OWN = """
@kernel("x[n], w[n] -> y[n]", wrt=["x w"], derivative="tiaot")
@ti.kernel
def f(x: f64_1, w: f64_1, y: f64_1):
    for i in {over}:
        y[i] = {value}
"""


@pytest.mark.parametrize(
    ("over", "value", "additions"),
    [
        ("x", "x[i] * x[i] * w[i]", 0),
        ("range(x.shape[0])", "x[i] * w[i] * w[i]", 0),
        ("range(x.shape[0] - 1)", "x[i + 1] * x[i + 1] * w[i]", 0),
        ("range(x.shape[0] - 1)", "x[i + 1] * x[i] * w[i]", 2),
    ],
)
def test_a_turns_own_elements_take_no_atomic_additions(tmp_path: Path, over: str, value: str, additions: int) -> None:
    source = tmp_path / "source.py"
    source.write_text(HEAD + OWN.format(over=over, value=value))
    (adjoint,) = (each for each in trace_file(source).traces if each.wrt)
    assert adjoint.derivative == "tiaot"
    assert sum(task.count("atomicrmw") for task in adjoint.tasks) == additions


OUTSIDE = """
@kernel("x[n] -> y[n]", derivative="tiaot")
@ti.kernel
def f(x: f64_1, y: f64_1):
    total = 0.0
    for i in x:
        {statement}
    for i in x:
        y[i] = total * total
"""


@pytest.mark.parametrize(
    ("statement", "cleared_by"),
    [("total += x[i]", "store float 0.000000e+00"), ("ti.atomic_max(total, x[i])", "store i64 0")],
)
def test_what_belongs_to_a_variable_outside_of_the_loops_begins_as_zero(
    tmp_path: Path, statement: str, cleared_by: str
) -> None:
    """Its gradient, and who has won it, lie on the stack, where anything may be before."""
    (tmp_path / "source.py").write_text(HEAD + OUTSIDE.format(statement=statement))
    (adjoint,) = (each for each in trace_file(tmp_path / "source.py").traces if each.wrt)
    cleared = re.search(r"define void @cleared_serial\((.|\n)*?\n}", adjoint.tasks[0])
    assert cleared and cleared[0].count(cleared_by) == 1


IN_PLACE = """
@kernel("x[n], v[n] -> x[n]", sizes=[{{"n": 5}}, {{"n": 33}}], derivative={derivative!r})
@ti.kernel
def kick(x: f64_1, v: f64_1):
    for i in range(x.shape[0]):
        for _ in range(3):
            x[i] = x[i] * x[i] * v[i]
"""


def test_the_gate_takes_ours_where_taichis_is_wrong(tmp_path: Path) -> None:
    refused = export(tmp_path, IN_PLACE.format(derivative="taichi"))
    assert refused.returncode != 0 and "no module was written" in refused.stderr
    taken = export(tmp_path, IN_PLACE.format(derivative="tiaot"))
    assert taken.returncode == 0, taken.stderr
    x, v, c = np.array([0.5, 1.1]), np.array([0.9, 1.2]), np.array([1.0, -2.0])
    (gradient,) = tiaot.open(tmp_path / "made.so").kick.vjp(x, v, c, wrt=["x"])  # x^8 v^7
    np.testing.assert_allclose(gradient, c * 8 * x**7 * v**7, rtol=1e-14)


REFUSED: list[tuple[str, Callable[[str], bool]]] = [
    (
        """
@kernel("x[n] -> y[n]", derivative="tiaot")
@ti.kernel
def f(x: f64_1, y: f64_1):
    for i in range(x.shape[0]):
        y[i] = x[i] * ti.random(ti.f64)
""",
        lambda said: "random numbers" in said,
    ),
    (
        """
@kernel("x[n], k[n] -> y[n]", wrt=["x"], derivative="tiaot")
@ti.kernel
def f(x: f64_1, k: ti.types.ndarray(dtype=ti.i32, ndim=1), y: f64_1):
    for i in range(x.shape[0]):
        y[i] = 1.0
    for i in range(x.shape[0]):
        ti.atomic_mul(y[k[i]], x[i])
""",
        lambda said: "does not follow a compare-and-exchange" in said,
    ),
    (
        """
@kernel("x[n], k[n] -> z[n]", wrt=["x"], scratch={"y": ["n"]}, derivative="tiaot")
@ti.kernel
def f(x: f64_1, k: ti.types.ndarray(dtype=ti.i32, ndim=1), y: f64_1, z: f64_1):
    for i in range(x.shape[0]):
        y[i] = x[i]
    for i in range(x.shape[0]):
        z[i] = ti.atomic_max(y[k[i]], 0.3)
""",
        lambda said: "uses what it takes the minimum or maximum of in another way" in said,
    ),
    (
        """
@kernel("x[n] -> result[]", derivative="tiaot")
@ti.kernel
def f(x: f64_1) -> ti.f64:
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i]
    return s
""",
        lambda said: "returns a value, which has no gradient" in said,
    ),
    (
        """
@kernel("x[n] -> y[n]", derivative="enzyme")
@ti.kernel
def f(x: f64_1, y: f64_1):
    for i in range(x.shape[0]):
        y[i] = x[i]
""",
        lambda said: "derivative: expected one of 'tiaot', 'taichi', got 'enzyme'" in said,
    ),
]


@pytest.mark.parametrize(("body", "is_told"), REFUSED, ids=["random", "product", "old", "returned", "option"])
def test_what_it_does_not_take_is_refused(tmp_path: Path, body: str, is_told: Callable[[str], bool]) -> None:
    refused = export(tmp_path, body, "--no-verify")
    assert refused.returncode != 0
    assert is_told(refused.stderr), refused.stderr
