"""Forward mode and second derivatives of kernels on JAX arrays, against those of the same formula in jax.numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tiaot

jax = pytest.importorskip("jax")
import tiaot.jax  # noqa: E402
from jax import numpy as jnp  # noqa: E402

SIZES = [(3, 8, 4), (5, 7, 3), (1, 4, 8), (0, 8, 4)]  # one of them of open sizes
Function = Callable[..., Any]


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture
def kernel() -> tiaot.jax.Kernel:
    return tiaot.jax.load("dense_tanh")


def layer(x: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.tanh(x @ W.T + b)


def draw(size: tuple[int, int, int], dtype: Any = np.float64) -> list[jax.Array]:
    """Inputs and tangents of them."""
    B, n, m = size
    rng = np.random.default_rng(size)
    return [jnp.asarray(rng.normal(size=shape) / np.sqrt(n), dtype) for shape in 2 * ((B, n), (m, n), (m,))]


def close(results: Any, expected: Any, dtype: Any = np.float64) -> None:
    # Sums of some 10 products of numbers of order 1, twice.
    bound = 200 * np.finfo(dtype).eps
    results, expected = jax.tree.leaves(results), jax.tree.leaves(expected)
    for result, value in zip(results, expected, strict=True):
        assert result.dtype == value.dtype == dtype
        np.testing.assert_allclose(result, value, rtol=bound, atol=bound)


def loss(f: Function) -> Function:
    return lambda *inputs: (f(*inputs) ** 2).sum()


def along(f: Function, inputs: Any, tangents: Any) -> Function:
    """The sum of squares of f's derivative along the tangents, as a function of the inputs."""
    return lambda *inputs: (jax.jvp(f, inputs, tuple(tangents))[1] ** 2).sum()


TRANSFORMS: dict[str, Callable[[Function, Any, Any], Any]] = {
    "jvp": lambda f, a, t: jax.jvp(f, tuple(a), tuple(t)),
    "jvp of x": lambda f, a, t: jax.jvp(lambda x: f(x, *a[1:]), (a[0],), (t[0],)),
    "jvp of b": lambda f, a, t: jax.jvp(lambda b: f(*a[:2], b), (a[2],), (t[2],)),
    "jacfwd": lambda f, a, t: jax.jacfwd(f, (0, 1, 2))(*a),
    "linearize": lambda f, a, t: jax.linearize(f, *a)[1](*t),
    "hessian": lambda f, a, t: jax.hessian(loss(f), (0, 1, 2))(*a),
    "grad of grad": lambda f, a, t: jax.grad(lambda *b: (jax.grad(loss(f))(*b) * t[0]).sum(), (0, 1, 2))(*a),
    "linearized gradient": lambda f, a, t: jax.linearize(jax.grad(loss(f), (0, 1, 2)), *a)[1](*t),
    "jacrev of jacfwd": lambda f, a, t: jax.jacrev(jax.jacfwd(f), (0, 1))(*a),
    "grad of jvp": lambda f, a, t: jax.grad(along(f, a, t), (0, 1, 2))(*a),
    "transposed in the cotangent": lambda f, a, t: jax.grad(lambda v: (jax.vjp(f, *a)[1](v)[1] * t[1]).sum())(
        jnp.ones((a[0].shape[0], a[2].shape[0]), a[0].dtype)
    ),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("size", SIZES)
def test_as_the_formula_has_them(kernel: tiaot.jax.Kernel, name: str, size: tuple[int, int, int]) -> None:
    arrays = draw(size)
    transform = TRANSFORMS[name]
    close(*(jax.jit(lambda *a, f=f: transform(f, a[:3], a[3:]))(*arrays) for f in (kernel, layer)))


@pytest.mark.parametrize("name", ["jvp", "linearized gradient"])
def test_in_single_precision_and_without_jit(kernel: tiaot.jax.Kernel, name: str) -> None:
    arrays = draw((33, 8, 4), np.float32)
    close(*(TRANSFORMS[name](f, arrays[:3], arrays[3:]) for f in (kernel, layer)), np.float32)


@pytest.mark.parametrize("axes", [(0, None, None), (None, 0, None), (None, None, 0), (0, -1, 0)])
def test_under_vmap(kernel: tiaot.jax.Kernel, axes: tuple[int | None, ...]) -> None:
    """The jvp, the Hessian's product and the gradient of a jvp, mapped over some inputs and all of the tangents."""
    *inputs, tx, tW, tb = draw((3, 8, 4))
    stacked = [a if i is None else jnp.stack([a, 2 * a, -a], i) for a, i in zip(inputs, axes, strict=True)]
    tangents = [jnp.stack([t, -t, 3 * t]) for t in (tx, tW, tb)]

    def derivatives(f: Function, x: Any, W: Any, b: Any, *t: Any) -> Any:
        some = jax.jvp(lambda x: f(x, W, b), (x,), (t[0],))
        product = jax.jvp(jax.grad(loss(f), (0, 1)), (x, W, b), t)[1]
        return some, product, jax.grad(along(f, (x, W, b), t), (0, 2))(x, W, b)

    close(
        *(
            jax.jit(jax.vmap(lambda *a, f=f: derivatives(f, *a), (*axes, 0, 0, 0)))(*stacked, *tangents)
            for f in (kernel, layer)
        )
    )


def test_in_loops_and_checkpoints(kernel: tiaot.jax.Kernel) -> None:
    x, W, b, *t = draw((4, 4, 4))

    def repeated(f: Function, x: jax.Array, b: jax.Array) -> jax.Array:
        step = jax.checkpoint(lambda carry, _: (f(carry, W, b), None))
        return jax.lax.scan(step, x, None, length=3)[0]

    def derivatives(f: Function) -> Any:
        tangents = t[0], t[2]
        return jax.jvp(f, (x, b), tangents), jax.jvp(jax.grad(loss(f), (0, 1)), (x, b), tangents)[1]

    close(*(jax.jit(lambda f=f: derivatives(lambda *a: repeated(f, *a)))() for f in (kernel, layer)))


def test_what_no_module_has(kernel: tiaot.jax.Kernel) -> None:
    x, W, b, *_ = draw((3, 8, 4))
    f = lambda x: kernel(x, W, b)  # noqa: E731
    with pytest.raises(NotImplementedError, match="dense_tanh: a forward-mode derivative of a forward-mode derivative"):
        jax.jacfwd(jax.jacfwd(f))(x)
    third = jax.grad(lambda x: (jax.jvp(jax.grad(loss(f)), (x,), (x,))[1] ** 2).sum())
    with pytest.raises(NotImplementedError, match="dense_tanh: a third derivative was asked for"):
        third(x)


def test_what_the_module_lacks(small_path: Any) -> None:
    kernel = tiaot.jax.wrap(tiaot.open(small_path).pair)
    x, s = jnp.ones((5, 3), jnp.float32), jnp.ones(3, jnp.float32)
    total = lambda x: kernel(x, s)[1].sum()  # noqa: E731
    message = (
        r"pair: a derivative along tangents was asked for; it takes a jvp with respect to \(x\), which the module "
        r"lacks: export it with derivatives=\['jvp'\]"
    )
    for function in (jax.jacfwd(total), jax.jit(lambda x: jax.jvp(total, (x,), (x,))[1])):
        with pytest.raises(NotImplementedError, match=message):
            function(x)
    message = r"a derivative of its gradient .* an hvp with respect to \(x\).*derivatives=\['jvp', 'hvp'\]"
    for function in (jax.jit(jax.hessian(total)), lambda x: jax.grad(lambda x: jax.grad(total)(x).sum())(x)):
        with pytest.raises(NotImplementedError, match=message):
            function(x)
    assert jax.grad(total)(x).shape == x.shape


def test_a_kernel_without_a_vjp(tmp_path: Any) -> None:
    """A `while` and a number by value, along which there is a jvp all the same; the gradient says what is missing."""
    pytest.importorskip("taichi")
    pytest.importorskip("llvmlite")
    import module_files

    source = tmp_path / "root.py"
    source.write_text(ROOT)
    kernel = tiaot.jax.wrap(tiaot.open(module_files.exported(source, tmp_path / "root.so", "--no-verify")).root)
    a, power = jnp.asarray([0.5, 8.0, 1000.0]), jnp.asarray(2.0)
    expected = jax.jvp(lambda a, p: p * jnp.cbrt(a), (a, power), (a, 1.5 * power))
    results = jax.jit(lambda a, p: jax.jvp(kernel, (a, p), (a, 1.5 * p)))(a, power)
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-6)  # the last turn moves by a third of its square root
    np.testing.assert_allclose(jax.jacfwd(kernel, 1)(a, power), jnp.cbrt(a), rtol=1e-12)
    with pytest.raises(NotImplementedError, match="root: the module has no gradient for argument 'p'"):
        jax.grad(lambda p: kernel(a, p).sum())(power)


ROOT = """
import taichi as ti
from tiaot.export import kernel
f64_1 = ti.types.ndarray(ti.f64, ndim=1)

@kernel("a[n], p -> y[n]", wrt=[], derivatives=["jvp"])
@ti.kernel
def root(a: f64_1, p: ti.f64, y: f64_1):
    for i in a:
        x = 1.0 + 0.0 * a[i]
        while ti.abs(x * x * x - a[i]) > 1e-14 * ti.abs(a[i]):
            x = x - (x * x * x - a[i]) / (3.0 * x * x)
        y[i] = p * x
"""
