"""jvp and hvp: against derivatives by hand and differences in float64; jvp and vjp by <v, J t> = <J^T v, t>."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot
from numerics import Arrays

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "derivatives.py"
LEVELS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.exported(SOURCE, tmp_path_factory.mktemp("derivatives") / "derivatives.so", "--no-verify")


@pytest.fixture(scope="module")
def module(path: Path) -> tiaot.Module:
    return tiaot.open(path)


def tuple_of(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def differences(function: Any, inputs: Sequence[Any], tangents: dict[int, Any]) -> list[np.ndarray]:
    """The derivative of a function along tangents of some inputs, by five points in float64: error of order 1e-10."""
    h = 1e-3

    def at(steps: int) -> list[np.ndarray]:
        moved = [each + steps * h * tangents[i] if i in tangents else each for i, each in enumerate(inputs)]
        return list(tuple_of(function(*moved)))

    return [(8 * (b - a) - (d - c)) / (12 * h) for a, b, c, d in zip(at(-1), at(1), at(-2), at(2), strict=True)]


def draw(name: str, size: int) -> tuple[list[Any], list[str]]:
    """Inputs of a kernel, and their names."""
    rng = np.random.default_rng([size, len(name)])
    if name == "functions":
        return [rng.uniform(0.5, 0.9, size)], ["x"]
    if name == "scatter":
        return [rng.normal(size=size), rng.integers(0, 5, size, dtype=np.int32), rng.normal(size=5)], [
            "x",
            "target",
            "w",
        ]
    if name == "update":
        return [rng.normal(size=size), rng.normal(size=size), 0.1], ["x", "v", "dt"]
    if name == "recurrence":
        return [rng.uniform(-1, 1, size), 50], ["x", "m"]
    if name == "weigh":
        return [rng.normal(size=(size, 5)), rng.normal(size=5)], ["x", "w"]
    return [rng.normal(size=(size, 3)), rng.normal(size=(2, 3))], ["x", "W"]


WITH_VJP = {
    "functions": [("x",)],
    "scatter": [("x", "w")],
    "update": [("x", "v")],
    "recurrence": [("x",)],
    "weigh": [("x",), ("w",), ("x", "w")],
    "layer": [("x",), ("W",), ("x", "W")],
}


@pytest.mark.parametrize("name", WITH_VJP)
@pytest.mark.parametrize("size", [1, 2, 33, 4000])
def test_jvp_vjp_and_hvp_agree(module: tiaot.Module, name: str, size: int) -> None:
    kernel = module.kernels[name]
    inputs, names = draw(name, size)
    rng = np.random.default_rng(size)
    outputs = tuple_of(kernel(*inputs))
    cotangents = [rng.normal(size=each.shape) for each in outputs]
    for wrt in WITH_VJP[name]:
        places = [names.index(each) for each in wrt]
        tangents = [rng.normal(size=inputs[place].shape) for place in places]
        along = dict(zip(places, tangents, strict=True))
        primal, moved = kernel.jvp(*inputs, *tangents, wrt=wrt)
        for got, value in zip(tuple_of(primal), outputs, strict=True):
            # Two entries may fuse other multiplications and additions: some roundings of the largest terms.
            np.testing.assert_allclose(got, value, rtol=1e-14, atol=1e-14 * np.abs(value).max(initial=0))
        gradients = kernel.vjp(*inputs, *cotangents, wrt=wrt)
        left = [v * each for v, each in zip(cotangents, tuple_of(moved), strict=True)]
        right = [g * each for g, each in zip(gradients, tangents, strict=True)]
        scale = sum(np.abs(each).sum() for each in (*left, *right))
        assert abs(sum(e.sum() for e in left) - sum(e.sum() for e in right)) <= 1e-13 * scale, wrt
        for got, value in zip(tuple_of(moved), differences(kernel, inputs, along), strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-7, atol=1e-7 * max(1, np.abs(value).max()))
        same, products = kernel.hvp(*inputs, *cotangents, *tangents, wrt=wrt)
        for got, value in zip(same, gradients, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-12, atol=1e-12 * np.abs(value).max())
        slopes = differences(lambda *moved, wrt=wrt: kernel.vjp(*moved, *cotangents, wrt=wrt), inputs, along)
        for got, value in zip(products, slopes, strict=True):
            np.testing.assert_allclose(got, value, rtol=1e-7, atol=1e-7 * max(1, np.abs(value).max()))


@pytest.mark.parametrize("name", ["weigh", "scatter"])
def test_the_second_derivative_is_symmetric(module: tiaot.Module, name: str) -> None:
    kernel = module.kernels[name]
    inputs, names = draw(name, 500)
    rng = np.random.default_rng(1)
    cotangent = rng.normal(size=kernel(*inputs).shape)
    wrt = WITH_VJP[name][-1]
    shapes = [inputs[names.index(each)].shape for each in wrt]
    s, t = ([rng.normal(size=shape) for shape in shapes] for _ in range(2))
    along_s, along_t = (kernel.hvp(*inputs, cotangent, *each, wrt=wrt)[1] for each in (s, t))
    left = sum((a * b).sum() for a, b in zip(along_s, t, strict=True))
    right = sum((a * b).sum() for a, b in zip(along_t, s, strict=True))
    scale = sum(np.abs(a * b).sum() for a, b in zip(along_s, t, strict=True))
    assert abs(left - right) <= 1e-13 * scale


@pytest.mark.parametrize("name", WITH_VJP)
def test_results_are_the_same_bits_for_any_number_of_threads(module: tiaot.Module, name: str) -> None:
    kernel = module.kernels[name]
    inputs, names = draw(name, 70000)
    rng = np.random.default_rng(2)
    cotangents = [rng.normal(size=each.shape) for each in tuple_of(kernel(*inputs))]
    wrt = WITH_VJP[name][-1]
    tangents = [rng.normal(size=inputs[names.index(each)].shape) for each in wrt]
    one = kernel.hvp(*inputs, *cotangents, *tangents, wrt=wrt, num_threads=1)
    along = kernel.jvp(*inputs, *tangents, wrt=wrt, num_threads=1)
    for count in (2, 3, 7):
        for part, other in zip(
            one, kernel.hvp(*inputs, *cotangents, *tangents, wrt=wrt, num_threads=count), strict=True
        ):
            for a, b in zip(part, other, strict=True):
                assert a.tobytes() == b.tobytes()
        for part, other in zip(along, kernel.jvp(*inputs, *tangents, wrt=wrt, num_threads=count), strict=True):
            for a, b in zip(tuple_of(part), tuple_of(other), strict=True):
                assert a.tobytes() == b.tobytes()


def test_an_orbit_in_small_steps(module: tiaot.Module) -> None:
    """The derivative of 200 small steps, where an adjoint that is wrong by 1e-5 a step would be off by a third."""
    place, speed, turns, dt = np.array([[1, 0.1]]), np.array([[0.0, 1.0]]), 200, 0.01

    def end(place: np.ndarray, speed: np.ndarray, turns: int, dt: complex) -> np.ndarray:
        for _ in range(turns):
            r = np.sqrt((place * place).sum(1, keepdims=True))
            speed = speed - dt * place / r**3
            place = place + dt * speed
        return place

    kernel = module.orbit
    assert kernel.jvp is not None
    wrt = ("place", "speed", "dt")
    tangents = [np.array([[1.0, 0.5]]), np.array([[0.25, -1.0]]), 0.125]
    moved = [each + 1e-30j * t for each, t in zip((place, speed, dt), tangents, strict=True)]
    exact = end(moved[0], moved[1], turns, moved[2])
    primal, along = kernel.jvp(place, speed, turns, dt, *tangents, wrt=wrt)
    np.testing.assert_allclose(primal, exact.real, rtol=1e-12)
    np.testing.assert_allclose(along, exact.imag / 1e-30, rtol=1e-11)


def test_a_loop_whose_turns_depend_on_the_data(module: tiaot.Module) -> None:
    a = np.array([0.001, 0.5, 8.0, 1000.0])
    root, along = module.newton.jvp(a, np.ones(4))
    np.testing.assert_allclose(root, np.cbrt(a), rtol=1e-13)
    np.testing.assert_allclose(along, 1 / (3 * np.cbrt(a) ** 2), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 5, 40000])
def test_an_atomic_maximum_has_the_winners_tangent(module: tiaot.Module, count: int) -> None:
    rng = np.random.default_rng(count)
    x, t = rng.normal(size=(2, count))
    for threads in (1, 2, 3):
        most, along = module.extent.jvp(x, t, num_threads=threads)
        winner = np.argmax(x * x)
        assert most[0] == x[winner] ** 2 and along[0] == 2 * x[winner] * t[winner]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(0, 8, 4), (1, 8, 4), (2, 4, 4), (33, 8, 8), (257, 5, 3), (64, 40, 17), (9, 64, 64)])
def test_the_shipped_layer(dense_tanh: tiaot.Kernel, size: tuple[int, int, int], dtype: Any) -> None:
    B, n, m = size
    rng = np.random.default_rng(B)
    x, W, b, v, tx, tW, tb = (
        rng.normal(size=shape).astype(dtype) for shape in ((B, n), (m, n), (m,), (B, m), (B, n), (m, n), (m,))
    )
    W /= np.sqrt(n).astype(dtype)
    tW /= np.sqrt(n).astype(dtype)
    wide = [each.astype(float) for each in (x, W, b, v, tx, tW, tb)]
    arrays = Arrays()
    given = [arrays.put(each) for each in (x, W, b)]
    for wrt in (("x",), ("W", "b"), ("x", "W", "b")):
        dx, dW, db = (each if name in wrt else 0 * each for name, each in zip("xWb", wide[4:], strict=True))
        X, M, c, V = wide[:4]
        y = np.tanh(X @ M.T + c)
        slope = 1 - y * y
        dz = dx @ M.T + X @ dW.T + db
        g, dg = V * slope, -2 * V * y * slope * dz
        gradients = {"x": g @ M, "W": g.T @ X, "b": g.sum(0)}
        products = {"x": dg @ M + g @ dW, "W": dg.T @ X + g.T @ dx, "b": dg.sum(0)}
        tangents = [arrays.put(t) for t, name in zip((tx, tW, tb), "xWb", strict=True) if name in wrt]
        # Sums of n, m and B products, each rounded, of numbers of order 1 to 10.
        bound = 40 * np.finfo(dtype).eps * (n + m + max(B, 1) + 10)
        out = tuple(arrays.room((B, m), dtype) for _ in range(2))
        dense_tanh.jvp(*given, *tangents, wrt=wrt, out=out)
        for array, value in zip(out, (y, slope * dz), strict=True):
            np.testing.assert_allclose(array, value, rtol=bound, atol=bound)
            assert arrays.guards_hold(array)
        shapes = {"x": (B, n), "W": (m, n), "b": (m,)}
        both = tuple(tuple(arrays.room(shapes[name], dtype) for name in wrt) for _ in range(2))
        dense_tanh.hvp(*given, arrays.put(v), *tangents, wrt=wrt, out=both)
        for part, values in zip(both, (gradients, products), strict=True):
            for name, array in zip(wrt, part, strict=True):
                np.testing.assert_allclose(array, values[name], rtol=bound, atol=bound * max(1, np.sqrt(B)))
                assert arrays.guards_hold(array), name
    for array, copy in zip(given, (x, W, b), strict=True):
        assert arrays.read(array).tobytes() == copy.tobytes() and arrays.guards_hold(array)


def test_every_level_computes_the_same_derivatives(path: Path) -> None:
    code = f"""
import numpy as np, sys, tiaot
module = tiaot.open({str(path)!r})
rng = np.random.default_rng(0)
x, w, v, tx, tw = (rng.normal(size=s) for s in ((300, 5), 5, 300, (300, 5), 5))
results = [*module.weigh.jvp(x, w, tx, tw, wrt=("x", "w"))]
for part in module.weigh.hvp(x, w, v, tx, tw, wrt=("x", "w")):
    results += part
results += module.functions.hvp(x[:, 0] / 9 + 0.7, v, tx[:, 0].copy(), wrt="x")
np.savez(sys.argv[1], *results)
"""
    found = []
    for level in LEVELS[: LEVELS.index(tiaot.cpu_level()) + 1]:
        file = path.with_name(f"{level}.npz")
        environment = {"TIAOT_CPU_LEVEL": level}
        done = subprocess.run(
            [sys.executable, "-c", code, file],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with np.load(file) as stored:
            found.append([stored[name] for name in stored.files])
    assert found
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11 * np.abs(a).max())


def test_calls_by_name_and_bound(dense_tanh: tiaot.Kernel) -> None:
    rng = np.random.default_rng(0)
    x, W, b, v, t = (rng.normal(size=shape) for shape in ((5, 8), (4, 8), (4,), (5, 4), (5, 8)))
    y, along = dense_tanh.jvp(x, W, b, t)
    again = dense_tanh.jvp(x_tangent=t, b=b, W=W, x=x)
    assert np.array_equal(y, again[0]) and np.array_equal(along, again[1])
    call = dense_tanh.hvp.bind(x, W, b, v, t, wrt=["x"])
    (gradient,), (product,) = call()
    expected = dense_tanh.vjp(x, W, b, v)
    np.testing.assert_allclose(gradient, expected, rtol=1e-14, atol=1e-14 * np.abs(expected).max())  # other roundings
    t[...] = 0
    call()
    assert not product.any()
    assert str(inspect.signature(dense_tanh.jvp)).startswith("(x, W, b, x_tangent, *, wrt='x'")
    assert np.array_equal(pickle.loads(pickle.dumps(dense_tanh.jvp))(x, W, b, x)[0], y)


def test_what_is_wrong_is_told(dense_tanh: tiaot.Kernel, small: tiaot.Module) -> None:
    x, W, b, t = np.ones((5, 8)), np.ones((4, 8)), np.ones(4), np.ones((5, 8))
    with pytest.raises(TypeError, match=r"dense_tanh.jvp: expected 4 arrays .*: tangent of 'x' is missing"):
        dense_tanh.jvp(x, W, b)
    with pytest.raises(ValueError, match=r"tangent of 'x': expected float64\[5, 8\], got float64\[2, 8\]"):
        dense_tanh.jvp(x, W, b, t[:2].copy())
    with pytest.raises(ValueError, match=r"wrt.*in the order of the inputs"):
        dense_tanh.jvp(x, W, b, b, W, wrt=("b", "W"))
    with pytest.raises(NotImplementedError, match=r"has no jvp with respect to \(W\); it has"):
        dense_tanh.jvp(x, W, b, W, wrt="W")
    with pytest.raises(ValueError, match=r"tangent of 'y': overlaps output 'y'"):
        y = np.empty((5, 4))
        dense_tanh.jvp(x, W, b, t, out=(y, y))
    kernel = next(iter(small.kernels.values()))
    with pytest.raises(NotImplementedError, match=r"has no hvp of this kernel: export it with derivatives=\['hvp'\]"):
        kernel.hvp()


REFUSED = {
    "derivatives=['hessian']": "derivatives: expected some of jvp, hvp, got 'hessian'",
    "derivatives='jvp'": "derivatives: expected a list of names, got the text 'jvp'",
    "derivatives=['jvp', 'jvp']": "derivatives: expected each name once, got jvp, jvp",
    "derivatives=['jvp'], cuda_derivatives=['hvp']": "cuda_derivatives: expected some of derivatives (jvp), got 'hvp'",
    "cuda_derivatives=['jvp']": "cuda_derivatives: expected none, since derivatives has none, got 'jvp'",
    "derivatives=['jvp'], cuda_derivatives='jvp'": "cuda_derivatives: expected a list of names, got the text 'jvp'",
    "derivatives=['jvp'], cuda_derivatives=['jvp', 'jvp']": "cuda_derivatives: expected each name once, got jvp, jvp",
}


@pytest.mark.parametrize("option", REFUSED)
def test_the_option_is_checked(option: str, tmp_path: Path) -> None:
    text = f"""
import taichi as ti
from tiaot.export import kernel
f32_1 = ti.types.ndarray(ti.f32, ndim=1)

@kernel("x[n] -> y[n]", {option})
@ti.kernel
def double(x: f32_1, y: f32_1):
    for i in x:
        y[i] = 2 * x[i]
"""
    source = tmp_path / "double.py"
    source.write_text(text)
    command = [sys.executable, "-m", "tiaot", "export", "--no-verify", source, "-o", tmp_path / "double_module.so"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and REFUSED[option] in done.stderr


@pytest.mark.parametrize(
    "name, wrt, default",
    [
        ("functions", ("x",), "reverse"),
        ("scatter", ("w",), "reverse"),
        ("update", ("x",), "forward"),
        ("update", ("x", "v"), "reverse"),
        ("weigh", ("x",), "reverse"),
        ("weigh", ("x", "w"), "reverse"),
        ("layer", ("W",), "reverse"),
        ("layer", ("x", "W"), "reverse"),
    ],
)
def test_jacobian_modes(module: tiaot.Module, name: str, wrt: tuple[str, ...], default: str) -> None:
    kernel = getattr(module, name)
    operands, _ = draw(name, 7)
    by = {mode: kernel.jacobian(*operands, wrt=wrt, mode=mode) for mode in (None, "forward", "reverse")}

    def parts(value: Any) -> list[np.ndarray]:
        return [each for output in tuple_of(value) for each in tuple_of(output)]

    for forward, reverse in zip(parts(by["forward"]), parts(by["reverse"]), strict=True):
        assert forward.shape == reverse.shape
        np.testing.assert_allclose(forward, reverse, rtol=1e-12, atol=1e-14)
    for chosen, expected in zip(parts(by[None]), parts(by[default]), strict=True):
        np.testing.assert_array_equal(chosen, expected)
    call = kernel.jacobian.bind(*operands, wrt=wrt, mode="forward", num_threads=2)
    for bound, expected in zip(parts(call()), parts(by["forward"]), strict=True):
        np.testing.assert_array_equal(bound, expected)


def test_default_mode_is_forward_for_tall_jacobians(module: tiaot.Module) -> None:
    rng = np.random.default_rng(4)
    x, target, w = rng.normal(size=3), np.zeros(3, np.int32), rng.normal(size=5)
    forward = module.scatter.jacobian(x, target, w, wrt="x", mode="forward")
    assert forward.shape == (5, 3)
    np.testing.assert_array_equal(module.scatter.jacobian(x, target, w, wrt="x"), forward)


def test_jacobian_without_a_vjp_is_forward(module: tiaot.Module) -> None:
    a = np.array([2.0, 3.0, 5.0])
    columns = [differences(module.newton, [a], {0: basis})[0] for basis in np.eye(3)]
    np.testing.assert_allclose(module.newton.jacobian(a), np.stack(columns, 1), rtol=1e-8, atol=1e-10)
    with pytest.raises(ValueError, match=r"newton\.jacobian: argument 'a': is not differentiable"):
        module.newton.jacobian(a, mode="reverse")


def test_bad_jacobian_modes(module: tiaot.Module) -> None:
    x = np.ones(3)
    message = r"functions.jacobian: argument 'mode': expected 'forward', 'reverse' or None, got "
    with pytest.raises(ValueError, match=message + "'backward'"):
        module.functions.jacobian(x, mode="backward")
    with pytest.raises(TypeError, match=message + "1"):
        module.functions.jacobian(x, mode=1)
    with pytest.raises(TypeError, match=r"expected keywords .* got 'mode'"):
        module.functions.vjp(x, x, mode="forward")
    assert "mode=None" in str(inspect.signature(module.functions.jacobian))
