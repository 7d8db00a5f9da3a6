"""Kernels on JAX arrays, against jax.numpy and the table's references: under each transform, and what is refused."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import tiaot
from cases import CASES, Case

jax = pytest.importorskip("jax")
import tiaot.jax  # noqa: E402
from jax import numpy as jnp  # noqa: E402

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]


@pytest.fixture(autouse=True)
def in_double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def kernel(case: Case) -> tiaot.jax.Kernel:
    return tiaot.jax.load(case.name)


@pytest.fixture
def small(case: Case) -> tuple[list[jax.Array], jax.Array]:
    """Inputs and a cotangent, float64, with a batch of three or more."""
    size = next(size for size in case.sizes if size[0] >= 3)
    inputs, cotangent = case.draw(size, DTYPES[1])
    return [jnp.asarray(array) for array in inputs], jnp.asarray(cotangent)


def close(results, expected) -> None:
    results, expected = jax.tree.leaves(results), jax.tree.leaves(expected)
    assert len(results) == len(expected)
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients_lie_within_the_bounds(case: Case, kernel: tiaot.jax.Kernel, dtype: np.dtype) -> None:
    pull_back = jax.jit(lambda v, *inputs: jax.vjp(kernel, *inputs)[1](v))
    for size in case.sizes:
        inputs, cotangent = case.draw(size, dtype)
        before = [array.tobytes() for array in inputs]
        case.forward(inputs).check(np.asarray(kernel(*inputs)), f"{size}")
        gradients = pull_back(cotangent, *inputs)
        for gradient, (name, reference) in zip(gradients, case.vjp(inputs, cotangent).items(), strict=True):
            reference.check(np.asarray(gradient), f"{size}: gradient of {name}")
        assert before == [array.tobytes() for array in inputs]


def test_every_set_of_gradients_under_jit_and_not(case: Case, kernel: tiaot.jax.Kernel, small) -> None:
    inputs, v = small
    references = list(case.vjp([np.asarray(array) for array in inputs], np.asarray(v)).values())

    def loss(*inputs: jax.Array) -> jax.Array:
        return (kernel(*inputs) * v).sum()

    for count in range(1, len(inputs) + 1):
        for argnums in itertools.combinations(range(len(inputs)), count):
            gradient = jax.grad(loss, argnums)
            for function in (gradient, jax.jit(gradient)):
                for result, place in zip(function(*inputs), argnums, strict=True):
                    references[place].check(np.asarray(result), f"{argnums}")


def test_jacrev(case: Case, kernel: tiaot.jax.Kernel, small) -> None:
    inputs, _ = small
    signature = kernel._signature
    expected = tiaot.load(case.name).jacobian(*map(np.asarray, inputs), wrt=signature.inputs)
    jacobians = jax.jacrev(kernel, tuple(range(len(inputs))))(*inputs)
    for name, jacobian, value in zip(signature.inputs, jacobians, expected, strict=True):
        if name in signature.batched:  # ours is the diagonal over the batch, all else is zero
            diagonal = jnp.moveaxis(jnp.diagonal(jacobian, axis1=0, axis2=jacobian.ndim - value.ndim + 1), -1, 0)
            assert jnp.count_nonzero(jacobian) == jnp.count_nonzero(diagonal)
            jacobian = diagonal
        close(jacobian, value)


def test_vmap(kernel: tiaot.jax.Kernel, small) -> None:
    """Every set of mapped inputs, at the first and the last axis, against call by call; gradients too; jitted too."""
    inputs, _ = small
    count = 3

    def value_and_gradients(*inputs: jax.Array) -> list[jax.Array]:
        y, pull_back = jax.vjp(kernel, *inputs)
        return [y, *pull_back(jnp.ones_like(y))]

    for axes in itertools.product([None, 0, -1], repeat=len(inputs)):
        if all(axis is None for axis in axes):
            continue
        stacked = [
            array if axis is None else jnp.stack([array * (i + 1) for i in range(count)], axis)
            for array, axis in zip(inputs, axes, strict=True)
        ]
        each = [
            value_and_gradients(*(a if x is None else jnp.take(a, i, x) for a, x in zip(stacked, axes, strict=True)))
            for i in range(count)
        ]
        mapped = jax.vmap(value_and_gradients, axes)
        expected = [jnp.stack(results) for results in zip(*each, strict=True)]
        close(mapped(*stacked), expected)
        close(jax.jit(mapped)(*stacked), expected)


def test_vmap_nested_and_under_grad(kernel: tiaot.jax.Kernel, small) -> None:
    (first, *rest), _ = small
    outer, inner = jnp.stack([first, 2 * first]), [jnp.stack([array, -array, 3 * array]) for array in rest]
    each = jax.vmap(kernel, (None, *(0 for _ in inner)))
    expected = jnp.stack([each(array, *inner) for array in outer])
    close(jax.vmap(each, (0, *(None for _ in inner)))(outer, *inner), expected)
    mapped = jax.vmap(kernel, (0, *(None for _ in rest)))
    by_vmap = jax.grad(lambda *rest: mapped(outer, *rest).sum(), tuple(range(len(rest))))(*rest)
    by_sum = jax.grad(lambda *rest: sum(kernel(a, *rest).sum() for a in outer), tuple(range(len(rest))))(*rest)
    close(by_vmap, by_sum)


def test_control_flow_and_donated_buffers() -> None:
    kernel = tiaot.jax.load("dense_tanh")
    rng = np.random.default_rng(0)
    x, W, b = (jnp.asarray(rng.standard_normal(shape)) for shape in ((4, 4), (4, 4), (4,)))

    def layer(x: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.tanh(x @ W.T + b)

    def repeated(function, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda carry, _: (function(carry, W, b), None), x, None, length=5)[0]

    close(jax.jit(lambda x: repeated(kernel, x))(x), repeated(layer, x))
    close(jax.grad(lambda x: repeated(kernel, x).sum())(x), jax.grad(lambda x: repeated(layer, x).sum())(x))
    twice = jax.jit(lambda x: kernel(kernel(x, W, b), W, b), donate_argnums=0)
    expected = layer(layer(x, W, b), W, b)
    given = x + 0
    close(twice(given), expected)
    assert given.is_deleted()
    step = jax.jit(lambda x: x - 0.1 * jax.grad(lambda x: kernel(x, W, b).sum())(x), donate_argnums=0)
    close(step(x + 0), x - 0.1 * jax.grad(lambda x: layer(x, W, b).sum())(x))


def test_linear_parts() -> None:
    """What linearize gives, transposed; the gradient's derivative in the cotangent, in which it is linear."""
    kernel = tiaot.jax.load("dense_tanh")
    rng = np.random.default_rng(0)
    x, W, b, v = (jnp.asarray(rng.standard_normal(shape)) for shape in ((5, 8), (4, 8), (4,), (5, 4)))
    expected = jax.vjp(kernel, x, W, b)[1]
    _, linear = jax.linearize(lambda x, W: kernel(x, W, b), x, W)
    close(jax.linear_transpose(linear, x, W)(v), expected(v)[:2])
    close(jax.jvp(lambda v: expected(v), (v,), (2 * v,)), (expected(v), expected(2 * v)))


def test_exported_programs(tmp_path) -> None:
    """A program for any batch, with its gradient, run in another process; the refusal without the named check."""
    pytest.importorskip("flatbuffers")  # what jax.export writes with
    from jax import export

    kernel = tiaot.jax.load("dense_tanh")
    rng = np.random.default_rng(0)
    x, W, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 8), (4, 8), (4,)))
    arguments = (jax.ShapeDtypeStruct(export.symbolic_shape("B, 8"), np.float32), W, b)
    with pytest.raises(ValueError, match="no compatibility guarantees"):
        export.export(jax.jit(kernel))(*arguments)
    mapped = export.export(jax.jit(jax.vmap(kernel, (0, None, None))), disabled_checks=tiaot.jax.DISABLED_CHECKS)(
        jax.ShapeDtypeStruct(export.symbolic_shape("N, B, 8"), np.float32), W, b
    )
    np.testing.assert_array_equal(mapped.call(np.stack([x, -x]), W, b), [kernel(x, W, b), kernel(-x, W, b)])
    exported = export.export(jax.jit(kernel), disabled_checks=tiaot.jax.DISABLED_CHECKS)(*arguments)
    (tmp_path / "program").write_bytes(exported.serialize(vjp_order=1))
    np.savez(tmp_path / "arrays.npz", x=x, W=W, b=b)
    code = """
import jax, numpy as np, sys, tiaot.jax
program = jax.export.deserialize(open(sys.argv[1] + "/program", "rb").read())
arrays = np.load(sys.argv[1] + "/arrays.npz")
if sys.argv[2] == "load":
    tiaot.jax.load("dense_tanh")
f = lambda W: program.call(arrays["x"], W, arrays["b"])
np.savez(sys.argv[1] + "/results.npz", y=f(arrays["W"]), gW=jax.grad(lambda W: f(W).sum())(arrays["W"]))
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run([*command, "load"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = np.load(tmp_path / "results.npz")
    np.testing.assert_array_equal(results["y"], kernel(x, W, b))
    np.testing.assert_allclose(results["gW"], jax.grad(lambda W: kernel(x, W, b).sum())(W), rtol=1e-6)
    done = subprocess.run([*command, "not"], capture_output=True, text=True, check=False)
    assert "the kernel 'dense_tanh:" in done.stderr and "not loaded with tiaot.jax" in done.stderr


def test_many_threads_at_once() -> None:
    kernel = tiaot.jax.load("dense_tanh")
    rng = np.random.default_rng(0)
    x, W, b = (jnp.asarray(rng.standard_normal(shape)) for shape in ((5000, 8), (4, 8), (4,)))
    function = jax.jit(jax.grad(lambda W: kernel(x, W, b).sum()))
    expected = np.asarray(function(W))
    wrong = []

    def work() -> None:
        with jax.enable_x64(True):  # known to its thread only
            wrong.extend(i for i in range(50) if not np.array_equal(function(W), expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_subnormal_numbers_do_not_show_the_threads() -> None:
    """XLA's threads flush them to zero; those of the pool then do the same, whichever thread a piece falls to."""
    kernel = jax.jit(tiaot.jax.load("dense_tanh"))
    rng = np.random.default_rng(0)
    x, W = (jnp.asarray(rng.standard_normal(shape) * 1e-20, jnp.float32) for shape in ((200_000, 8), (4, 8)))
    before = tiaot.get_num_threads()
    try:
        tiaot.set_num_threads(1)
        expected = np.asarray(kernel(x, W, jnp.zeros(4, jnp.float32)))
        tiaot.set_num_threads(2)
        for _ in range(8):
            np.testing.assert_array_equal(kernel(x, W, jnp.zeros(4, jnp.float32)), expected)
    finally:
        tiaot.set_num_threads(before)


REFUSED = {
    "half": (lambda x: x.astype(jnp.float16), TypeError, "'x': expected float32 or float64, got float16"),
    "integers": (lambda x: x.astype(jnp.int32), TypeError, "'x': expected float32 or float64, got int32"),
    "single": (lambda x: x.astype(jnp.float32), TypeError, "'W': expected float32, got float64"),
    "rank": (lambda x: x[0], ValueError, r"'x': expected float64\[B, n\], got float64\[8\]"),
    "size": (lambda x: x[:, :7], ValueError, r"'W': expected float64\[m=4, n=7\]|'W': expected float64\[m, n=7\]"),
    "list": (lambda x: [1.0], TypeError, "'x': expected a jax.Array, got list"),
    "number": (lambda x: 1.0, TypeError, "'x': expected a jax.Array, got float"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_arrays_that_are_refused(what: str) -> None:
    make, exception, message = REFUSED[what]
    kernel = tiaot.jax.load("dense_tanh")
    W, b = jnp.zeros((4, 8)), jnp.zeros(4)
    with pytest.raises(exception, match=message):
        kernel(make(jnp.zeros((3, 8))), W, b)


def test_calls_that_are_refused() -> None:
    kernel = tiaot.jax.load("dense_tanh")
    x, W, b = jnp.zeros((3, 8)), jnp.zeros((4, 8)), jnp.zeros(4)
    with pytest.raises(TypeError, match=r"expected 3 arrays \(x, W, b\), got 2"):
        kernel(x, W)
    close(kernel(b=b, x=x, W=W), kernel(x, W, b))
    with pytest.raises(TypeError, match="missing 'W'"):
        kernel(x, b=b)
    with pytest.raises(TypeError, match=r"expected a tiaot\.Kernel, got int"):
        tiaot.jax.wrap(3)
    with jax.enable_x64(False), pytest.raises(TypeError, match="'x': float64 needs jax_enable_x64"):
        kernel(np.zeros((3, 8)), np.zeros((4, 8)), np.zeros(4))


def test_an_older_jax_is_refused() -> None:
    code = "import jax; jax.__version_info__ = (0, 6, 2); import tiaot.jax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ImportError: tiaot.jax: expected jax 0.8.1 or newer, for Python 3.11 or newer" in done.stderr


def test_handles_pickle_and_close() -> None:
    kernel = tiaot.jax.load("dense_tanh")
    x, W, b = jnp.ones((3, 8)), jnp.ones((4, 8)), jnp.ones(4)
    close(pickle.loads(pickle.dumps(kernel))(x, W, b), kernel(x, W, b))
    module = tiaot.open(kernel.module.path)
    other = tiaot.jax.wrap(module.dense_tanh)
    close(other(x, W, b), kernel(x, W, b))
    assert other.signature == kernel.signature and "dense_tanh" in repr(other)
    module.close()
    with pytest.raises(ValueError, match="is closed"):
        jax.block_until_ready(other(x, W, b))
    close(tiaot.jax.load("dense_tanh")(x, W, b), jnp.tanh(x @ W.T + b))
    dynamic = tiaot.load("dense_tanh").restrict("float64_dynamic")
    close(tiaot.jax.wrap(dynamic)(x, W, b), jnp.tanh(x @ W.T + b))


def test_several_outputs_and_missing_gradients(small_path) -> None:
    module = tiaot.open(small_path)
    kernel = tiaot.jax.wrap(module.pair)  # p = x * s, q = the sum of p over n
    x, s = jnp.arange(15, dtype=jnp.float32).reshape(5, 3), jnp.arange(1, 4, dtype=jnp.float32)

    def reference(x: jax.Array, s: jax.Array) -> tuple[jax.Array, jax.Array]:
        return x * s, (x * s).sum(-1)

    close(kernel(x, s), reference(x, s))
    close(jax.jacrev(kernel, (0, 1))(x, s), jax.jacrev(reference, (0, 1))(x, s))
    of_q = [jax.grad(lambda x, s, f=f: f(x, s)[1].sum(), (0, 1)) for f in (kernel, reference)]
    close(of_q[0](x, s), of_q[1](x, s))
    none = tiaot.jax.wrap(module.kernels["close"])
    k = jnp.zeros(3, jnp.int32)
    close(none(s, k), 2 * s)
    with pytest.raises(NotImplementedError, match="no gradient for argument 'x'"):
        jax.grad(lambda x: none(x, k).sum())(s)


@pytest.mark.parametrize(("entry", "wrt"), [(2**32, 0), (-(2**32), 0), (0, 2**32), (1, 1 - 2**32)])
def test_attributes_that_no_kernel_has(entry: int, wrt: int) -> None:
    kernel = tiaot.jax.load("dense_tanh")
    arrays = [jnp.ones(shape) for shape in ((2, 8), (4, 8), (4,))]
    call = jax.ffi.ffi_call("tiaot_call", jax.ShapeDtypeStruct((2, 4), np.float64))
    attributes = {"kernel": kernel._callee.key, "entry": np.int64(entry), "wrt": np.int64(wrt)}
    with pytest.raises(jax.errors.JaxRuntimeError, match="attributes are not those"):
        jax.block_until_ready(call(*arrays, **attributes))
