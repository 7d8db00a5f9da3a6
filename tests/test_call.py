"""How calls take arrays and give results: out, wrt, bind, DLPack, memory. Their numbers are tested elsewhere."""

import gc
import sys
import tracemalloc
import types
from pathlib import Path

import numpy as np
import pytest
import tiaot

NAMES = ("x", "W", "b", "v")


@pytest.fixture
def operands() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((5, 8), (4, 8), (4,), (5, 4))]


def expected(x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs and gradients in float64."""
    x, W, b, v = (array.astype(np.float64) for array in (x, W, b, v))
    y = np.tanh(x @ W.T + b)
    g = v * (1 - y * y)
    return {"y": y, "x": g @ W, "W": g.T @ x, "b": g.sum(0), "J": (1 - y * y)[:, :, None] * W}


def check(actual: np.ndarray, reference: np.ndarray) -> None:
    assert type(actual) is np.ndarray
    assert actual.dtype == np.float32
    # A sum of up to 9 products: 9 roundings and the function's own, of values up to about 10.
    np.testing.assert_allclose(actual, reference, rtol=0, atol=10 * 12 * np.finfo(np.float32).eps)


def test_results_are_new_arrays(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    x, W, b, _ = operands
    reference = expected(*operands)
    check(dense_tanh(x, W, b), reference["y"])
    check(dense_tanh.vjp(*operands), reference["x"])
    check(dense_tanh.jacobian(x, W, b), reference["J"])
    first, second = dense_tanh(x, W, b), dense_tanh(x, W, b)
    assert first is not second
    assert not np.shares_memory(first, second)
    assert first.flags.owndata
    assert first.flags.writeable


@pytest.mark.parametrize(
    "wrt", ["x", "W", "b", ("x",), ("W", "b"), ("b", "W"), ("b", "x"), ("x", "W", "b"), ("b", "W", "x")]
)
@pytest.mark.parametrize("rows", [0, 5, 16])
def test_wrt_gives_its_names_in_order(
    dense_tanh: tiaot.Kernel, operands: list[np.ndarray], wrt: str | tuple[str, ...], rows: int
) -> None:
    x, W, b, v = operands
    x, v = np.resize(x, (rows, 8)), np.resize(v, (rows, 4))
    reference = expected(x, W, b, v)
    names = (wrt,) if isinstance(wrt, str) else wrt
    shapes = dict(zip(NAMES, (x.shape, W.shape, b.shape), strict=False))
    out = tuple(np.full(shapes[name], np.nan, np.float32) for name in names)
    out = out[0] if isinstance(wrt, str) else out
    given = dense_tanh.vjp(x, W, b, v, wrt=wrt, out=out)
    assert given is out
    fresh = dense_tanh.vjp(x, W, b, v, wrt=wrt)
    assert isinstance(fresh, tuple) is isinstance(wrt, tuple)
    for results in (given, fresh):
        for name, result in zip(names, (results,) if isinstance(wrt, str) else results, strict=True):
            check(result, reference[name])


def test_wrt_is_compared_by_value(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    class Name(str):
        pass

    reference = expected(*operands)
    for spelling in ("".join(["", "W"]), Name("W")):
        check(dense_tanh.vjp(*operands, wrt=spelling), reference["W"])
        check(dense_tanh.vjp(*operands, wrt=(spelling, "b"))[0], reference["W"])
    # Two tuples at one address after another: what was remembered of the first must not answer for the second.
    for name in ("b", "W", "x", "W", "b") * 20:
        check(dense_tanh.vjp(*operands, wrt=(name,))[0], reference[name])


def test_out_is_returned_as_it_is(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    x, W, b, _ = operands
    y = np.full((7, 4), 7.0, np.float32)
    inner = y[1:6]
    assert dense_tanh(x, W, b, out=inner) is inner
    check(inner, expected(*operands)["y"])
    assert (y[[0, 6]] == 7).all()
    assert dense_tanh(x, W, b, out=None, num_threads=None).shape == (5, 4)


def test_inputs_may_be_read_only_and_alike(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    before = [array.copy() for array in operands]
    for array in operands:
        array.flags.writeable = False
    dense_tanh.vjp(*operands, wrt=("x", "W", "b"))
    dense_tanh.jacobian(*operands[:3])
    for array, copy in zip(operands, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    x = np.ones((4, 4), np.float32)
    np.testing.assert_array_equal(dense_tanh(x, x, x[0]), dense_tanh(x, x.copy(), x[0].copy()))


def test_several_outputs(small: tiaot.Module) -> None:
    x, s = np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1, 2, 3], np.float32)
    p, q = small.pair(x, s)
    np.testing.assert_array_equal(p, x * s)
    np.testing.assert_array_equal(q, (x * s).sum(1))
    out = (np.empty_like(p), np.empty_like(q))
    assert small.pair(x, s, out=out) is out
    np.testing.assert_array_equal(out[1], q)
    gs, gx = small.pair.vjp(x, s, p, q, wrt=("s", "x"))
    np.testing.assert_array_equal(gx, s * (p + q[:, None]))
    np.testing.assert_array_equal(gs, (x * (p + q[:, None])).sum(0))

    # Over the outputs first, then over wrt where that is a tuple.
    (p_s, p_x), (q_s, q_x) = small.pair.jacobian(x, s, wrt=("s", "x"))
    eye = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(p_s, x[:, :, None] * eye)
    np.testing.assert_array_equal(p_x, np.broadcast_to(s[:, None] * eye, (2, 3, 3)))
    np.testing.assert_array_equal(q_s, x)
    np.testing.assert_array_equal(q_x, np.broadcast_to(s, (2, 3)))
    p_x_alone, q_x_alone = small.pair.jacobian(x, s)
    np.testing.assert_array_equal(p_x_alone, p_x)
    np.testing.assert_array_equal(q_x_alone, q_x)
    out = ((np.empty_like(p_s), np.empty_like(p_x)), (np.empty_like(q_s), np.empty_like(q_x)))
    assert small.pair.jacobian(x, s, wrt=("s", "x"), out=out) is out
    np.testing.assert_array_equal(out[0][0], p_s)
    np.testing.assert_array_equal(out[1][1], q_x)


def test_a_kernel_without_batch_dimension(small: tiaot.Module) -> None:
    x, k = np.arange(3, dtype=np.float32), np.ones(3, np.int32)
    np.testing.assert_array_equal(small.kernels["close"](x, k), 2 * x)


def test_bound_calls(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    x, W, b, v = operands
    gx = np.zeros_like(x)
    call = dense_tanh.vjp.bind(x, W, b, v, out=gx)
    assert (gx == 0).all()  # nothing is computed yet
    assert call() is gx
    check(gx, expected(*operands)["x"])
    v *= 2  # what the arrays hold when it is called
    call()
    check(gx, expected(*operands)["x"])
    for entry, arrays, names in (
        (dense_tanh, (x, W, b), {}),
        (dense_tanh.jacobian, (x, W, b), {"wrt": ("x", "b")}),
        (dense_tanh.vjp, (x, W, b, v), {"wrt": ("W", "b"), "num_threads": 1}),
    ):
        bound = entry.bind(*arrays, **names)
        first = bound()
        assert bound() is first
        np.testing.assert_equal(first, entry(*arrays, **names))
    assert repr(call) == "<tiaot.BoundCall dense_tanh.vjp>"


def test_a_bound_call_keeps_its_arrays(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    reference = expected(*operands)
    call = dense_tanh.vjp.bind(*[array.copy() for array in operands])
    gc.collect()
    rubbish = [np.full(array.shape, np.nan, np.float32) for array in operands for _ in range(10)]
    check(call(), reference["x"])
    del rubbish


def test_memory_mapped_files(dense_tanh: tiaot.Kernel, operands: list[np.ndarray], tmp_path: Path) -> None:
    x, W, b, _ = operands
    x.tofile(tmp_path / "x")
    mapped = np.memmap(tmp_path / "x", np.float32, "r", shape=x.shape)
    y = np.memmap(tmp_path / "y", np.float32, "w+", shape=(5, 4))
    assert dense_tanh(mapped, W, b, out=y) is y
    check(np.asarray(y), expected(*operands)["y"])


def test_torch_tensors(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    tensors = [torch.from_numpy(array) for array in operands]
    x, W, b, v = tensors
    reference = expected(*operands)
    check(dense_tanh.vjp(*tensors), reference["x"])
    gx = torch.empty_like(x)
    assert dense_tanh.vjp(x, W, b, v, out=gx) is gx
    check(gx.numpy(), reference["x"])
    call = dense_tanh.vjp.bind(x.clone(), operands[1], b, v, out=gx.zero_())
    gc.collect()
    assert call() is gx
    check(gx.numpy(), reference["x"])
    offset = torch.cat([torch.zeros(3, 8), x])[3:]
    check(dense_tanh(offset, W, b), reference["y"])
    with torch.no_grad():
        check(dense_tanh(x, torch.nn.Parameter(W).detach(), b), reference["y"])


def test_jax_arrays(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    jax = pytest.importorskip("jax")
    arrays = [jax.numpy.asarray(array) for array in operands]
    gx = dense_tanh.vjp(*arrays)
    assert isinstance(gx, jax.Array)
    check(np.asarray(gx), expected(*operands)["x"])
    with pytest.raises(ValueError, match="gradient of 'x': expected a writable array, got jax"):
        dense_tanh.vjp(*arrays, out=jax.numpy.zeros((5, 8), np.float32))


class Library:
    """A library that follows the array API standard as far as a call needs it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __dlpack__(self, **keywords: object) -> object:
        return self.array.__dlpack__(**keywords)

    def __array_namespace__(self) -> object:
        return types.SimpleNamespace(from_dlpack=lambda array: Library(np.from_dlpack(array)))


def test_results_come_in_the_callers_array_type(
    dense_tanh: tiaot.Kernel, small: tiaot.Module, operands: list[np.ndarray]
) -> None:
    x, W, b, v = operands
    for arrays in ((Library(x), W, b), (x, W, Library(b))):
        y = dense_tanh(*arrays)
        assert isinstance(y, Library)
        check(y.array, expected(*operands)["y"])
    gW, gb = dense_tanh.vjp(Library(x), W, b, v, wrt=("W", "b"))
    check(gW.array, expected(*operands)["W"])
    check(gb.array, expected(*operands)["b"])
    p, q = small.pair.jacobian(Library(x), W[0], wrt=("x",))
    assert isinstance(p[0], Library) and isinstance(q[0], Library)
    out = np.empty_like(v)
    assert dense_tanh(Library(x), W, b, out=out) is out
    check(out, expected(*operands)["y"])
    assert type(dense_tanh(Counted(x, True), W, b)) is np.ndarray  # which does not say what it belongs to
    broken = Library(x)
    broken.__dict__["__array_namespace__"] = lambda: types.SimpleNamespace()
    with pytest.raises(AttributeError, match="from_dlpack"):
        dense_tanh(broken, W, b)


def test_read_only_arrays_are_inputs(dense_tanh: tiaot.Kernel, operands: list[np.ndarray]) -> None:
    for array in operands:
        array.flags.writeable = False
    x, W, b, _ = operands
    check(dense_tanh(x, W, b), expected(*operands)["y"])
    if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # which flags the export as read-only
        check(dense_tanh(Counted(x, True), W, b), expected(*operands)["y"])


class Counted:
    """Speaks DLPack in the form asked for, by way of NumPy."""

    def __init__(self, array: np.ndarray, versioned: bool) -> None:
        self.array, self.versioned = array, versioned

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __dlpack__(self, *, max_version: tuple[int, int] | None = None) -> object:
        if self.versioned:
            return self.array.__dlpack__(max_version=max_version)
        if max_version is not None:
            raise TypeError("unexpected keyword")
        return self.array.__dlpack__()


@pytest.mark.parametrize("versioned", [True, False])
def test_what_dlpack_lends_is_given_back(dense_tanh: tiaot.Kernel, operands: list[np.ndarray], versioned: bool) -> None:
    if versioned and np.lib.NumpyVersion(np.__version__) < "2.1.0":
        pytest.skip("this NumPy exports unversioned capsules only")
    x, W, b, _ = operands
    references = sys.getrefcount(x)
    lent = Counted(x, versioned)
    check(dense_tanh(lent, W, b), expected(*operands)["y"])
    for _ in range(10):
        dense_tanh(lent, W, b)
        with pytest.raises(TypeError):
            dense_tanh(lent, W, None)
        with pytest.raises(ValueError, match="float32"):
            dense_tanh(lent, lent, b)
    bound = dense_tanh.bind(lent, W, b)
    bound()
    del bound, lent
    gc.collect()
    assert sys.getrefcount(x) == references


def test_nothing_leaks(dense_tanh: tiaot.Kernel, small: tiaot.Module, operands: list[np.ndarray]) -> None:
    x, W, b, v = operands
    gx, wrt, names = np.empty_like(x), ("x", "b"), ["x", "W"]
    out = dense_tanh.vjp(x, W, b, v, wrt=wrt)

    def everything() -> None:
        dense_tanh(x, W, b)
        dense_tanh.vjp(x, W, b, v, out=gx)
        dense_tanh.vjp(x, W, b, v, wrt=wrt, out=out)
        dense_tanh.vjp(x, W, b, v, wrt=tuple(names))
        dense_tanh.jacobian(x, W, b, wrt=("x", "W"))
        dense_tanh.vjp.bind(x, W, b, v, out=gx)()
        small.pair(x, W[0])
        small.pair.jacobian(x, W[0], wrt=("s", "x"))
        dense_tanh.restrict("float32_dynamic")(x, W, b)
        for bad in (
            lambda: dense_tanh(x, W),
            lambda: dense_tanh(x, [], b),
            lambda: dense_tanh(x, W, b, out=x),
            lambda: dense_tanh.vjp(x, W, b, v, wrt=("x", "q")),
            lambda: dense_tanh.bind(x, W, b, num_threads=0),
        ):
            try:  # pytest.raises would keep memory of its own
                bad()
                pytest.fail("no exception")
            except (TypeError, ValueError):
                pass

    everything()
    references = [sys.getrefcount(each) for each in (x, W, b, v, gx, wrt, out, out[0], None, dense_tanh)]
    tracemalloc.start()
    try:
        for _ in range(10):
            everything()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(200):
            everything()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 200 * 16  # less than the smallest object a round
    after = [sys.getrefcount(each) for each in (x, W, b, v, gx, wrt, out, out[0], None, dense_tanh)]
    if sys.version_info >= (3, 12):  # None counts no references there
        references[8] = after[8] = 0
    assert [abs(now - then) < 20 for now, then in zip(after, references, strict=True)] == [True] * 10
