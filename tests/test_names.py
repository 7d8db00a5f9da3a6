"""Operands by name, gradients by a list of names, and NumPy's scalars as numbers: the same calls, spelt otherwise."""

import inspect
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from cuda_arrays import CPU, OnDevice
from expecting import expect

f32 = np.float32


@pytest.fixture
def a() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (3, 8), "W": (4, 8), "b": (4,), "y_cotangent": (3, 4)}
    return {name: rng.standard_normal(shape).astype(f32) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    return tiaot.open(module_files.write_module("numbers.c", tmp_path_factory.mktemp("numbers") / "numbers.so"))


def test_operands_by_name(dense_tanh: tiaot.Kernel, a: dict[str, np.ndarray]) -> None:
    inputs = {name: a[name] for name in "xWb"}
    y = dense_tanh(*inputs.values())
    out = np.empty_like(y)
    for got in (
        dense_tanh(**inputs),
        dense_tanh(b=a["b"], W=a["W"], x=a["x"]),
        dense_tanh(a["x"], b=a["b"], W=a["W"], num_threads=1),
        dense_tanh(a["x"], out=out, b=a["b"], W=a["W"]),
        dense_tanh.bind(**inputs)(),
        dense_tanh(**{"".join(name): array for name, array in inputs.items()}),  # names that are not interned
    ):
        assert (got == y).all()
    assert (out == y).all()
    wanted = dense_tanh.vjp(*a.values(), wrt=("W", "x"))
    for got in (
        dense_tanh.vjp(**a, wrt=("W", "x")),
        dense_tanh.vjp.bind(a["x"], **dict(list(a.items())[1:]), wrt=["W", "x"])(),
    ):
        assert all((each == want).all() for each, want in zip(got, wanted, strict=True))
    assert (dense_tanh.jacobian(**inputs, wrt="b") == dense_tanh.jacobian(*inputs.values(), wrt="b")).all()


def test_bound_calls_keep_operands_by_name(dense_tanh: tiaot.Kernel, a: dict[str, np.ndarray]) -> None:
    bound = dense_tanh.bind(x=a["x"].copy(), W=a["W"].copy(), b=a["b"].copy())
    taken = [np.full((3, 8), 9, f32) for _ in range(100)]  # what was freed would be theirs
    assert (bound() == dense_tanh(a["x"], a["W"], a["b"])).all() and len(taken) == 100


def test_operands_of_other_libraries_by_name(dense_tanh: tiaot.Kernel, a: dict[str, np.ndarray]) -> None:
    spoken = {name: OnDevice(a[name], kind=CPU) for name in "xWb"}
    assert (dense_tanh(spoken["x"], b=spoken["b"], W=a["W"]) == dense_tanh(a["x"], a["W"], a["b"])).all()


@pytest.mark.parametrize("wrt", [["x"], ["W", "b"], ["b", "x", "W"]])
def test_a_list_of_names(dense_tanh: tiaot.Kernel, a: dict[str, np.ndarray], wrt: list[str]) -> None:
    got = dense_tanh.vjp(**a, wrt=wrt)
    assert isinstance(got, tuple)
    assert all((each == want).all() for each, want in zip(got, dense_tanh.vjp(**a, wrt=tuple(wrt)), strict=True))
    first = wrt[0]
    wrt[0] = "nothing"  # a list is read anew each time
    expect(
        ValueError,
        "dense_tanh.vjp: argument 'wrt': expected names out of x, W, b, got 'nothing'",
        lambda: dense_tanh.vjp(**a, wrt=wrt),
    )
    wrt[0] = first
    assert len(dense_tanh.vjp(**a, wrt=wrt)) == len(wrt)


def test_signatures_can_be_bound(dense_tanh: tiaot.Kernel, a: dict[str, np.ndarray]) -> None:
    for entry in (dense_tanh.vjp, dense_tanh, dense_tanh.jacobian):
        names = [p.name for p in inspect.signature(entry).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        assert names == list(a)[: len(names)]
        bound = inspect.signature(entry).bind(**{name: a[name] for name in names})
        entry(*bound.args, **bound.kwargs)


def test_names_on_a_state(tmp_path: Path) -> None:
    state = tiaot.open(module_files.write_module("state.c", tmp_path / "state.so")).state()
    state.v[...] = 1
    state.move(dt=2.0)
    assert state.x.tolist() == [2] * 4
    state.loss.grad[...] = 0
    with state.tape(state.loss):
        state.move(dt=0.5, num_threads=1)
        state.move.bind(dt=0.25)()
        grad = state.move.grad  # what a tape calls has the operands in their order
        assert [record[1:] for record in state._memory.tape] == [((0.5,), {"num_threads": 1}), ((0.25,), {})]
        assert {type(record[0]) for record in state._memory.tape} == {type(grad)}
    assert grad(dt=1.0) is None


def test_numbers(numbers: tiaot.Module) -> None:
    x = np.arange(3.0)
    wanted = [11 + 2 * i for i in range(3)]
    for two, seven, three, one in (
        (2, 7, 3, 1),
        (2.0, np.int64(7), np.int32(3), np.uint8(1)),
        (f32(2), np.int32(7), np.uint64(3), np.int64(1)),
        (np.float16(2), np.uint8(7), np.int8(3), np.int16(1)),
        (np.int64(2), np.intp(7), np.longlong(3), np.uint16(1)),
    ):
        assert numbers.weigh(x, two, seven, three, one).tolist() == wanted
        assert numbers.weigh(x, small=one, wide=three, count=seven, factor=two).tolist() == wanted
    assert numbers.weigh(x, f32(0.1), 0, 0, 0)[1] == float(f32(0.1))
    assert numbers.weigh(x, 0, 0, np.int64(2**53 - 1), 0)[0] == 2**53 - 1


def test_numbers_that_are_refused(numbers: tiaot.Module) -> None:
    x, prefix = np.arange(3.0), "weigh.forward: argument "
    cases = [
        ("count", np.int64(2**31), ValueError, "an integer that fits int32, got 2147483648"),
        ("count", -(2**31) - 1, ValueError, "an integer that fits int32, got -2147483649"),
        ("wide", np.uint64(2**63), ValueError, f"an integer that fits int64, got {2**63}"),
        ("small", np.int8(-1), ValueError, "an integer that fits uint8, got -1"),
        ("count", f32(7), TypeError, "an integer, got numpy.float32"),
        ("count", 7.0, TypeError, "an integer, got float"),
        ("count", True, TypeError, "a number or an array of int32, got bool"),
        ("count", np.True_, TypeError, f"a number or an array of int32, got numpy.{np.bool_.__name__}"),
        ("count", np.timedelta64(7, "s"), TypeError, "a number or an array of int32, got numpy.timedelta64"),
        ("factor", np.longdouble(2), TypeError, f"a number or an array of float64, got numpy.{np.longdouble.__name__}"),
        ("factor", np.complex64(2), TypeError, "a number or an array of float64, got numpy.complex64"),
        ("factor", 10**400, ValueError, f"a number that fits float64, got 1{36 * '0'}..."),
        ("factor", "2", TypeError, "a number or an array of float64, got str"),
    ]
    for name, value, exception, message in cases:
        operands = {"x": x, "factor": 1, "count": 1, "wide": 1, "small": 1, name: value}
        expect(exception, f"{prefix}'{name}': expected {message}", lambda operands=operands: numbers.weigh(**operands))


def test_the_gradient_of_a_number(numbers: tiaot.Module) -> None:
    x = np.arange(3.0)
    assert numbers.weigh.vjp(x, 3, 0, 0, 0, x, wrt=["x"])[0].tolist() == [0, 3, 6]
    expect(
        ValueError,
        "weigh.vjp: argument 'factor': is not differentiable, being a number: annotated as "
        "ti.types.ndarray(dtype, ndim=0) it would have a gradient",
        lambda: numbers.weigh.vjp(x, 3, 0, 0, 0, x, wrt="factor"),
    )


def test_types_that_go_with_sizes(numbers: tiaot.Module) -> None:
    ones = {size: np.ones(size, f32) for size in (3, 4)}
    for size, dtype in ((3, np.int32), (4, np.int64)):
        assert numbers.sift(ones[size], np.ones(size, dtype)).tolist() == [1] * size
        expect(
            ValueError,
            f"sift.forward: argument 'k': expected {np.dtype(dtype)}[{size}], "
            f"got {np.dtype(np.int64 if size == 3 else np.int32)}[{size}]",
            lambda size=size: numbers.sift(ones[size], np.ones(size, np.int64 if size == 3 else np.int32)),
        )


def test_numbers_for_torch(numbers: tiaot.Module) -> None:
    torch = pytest.importorskip("torch")
    kernel = tiaot.torch.wrap(numbers.weigh)
    x = torch.arange(3.0, dtype=torch.float64, requires_grad=True)
    y = kernel(x, f32(2), np.int64(7), np.uint8(3), 1)
    assert y.tolist() == [11, 13, 15]
    with pytest.raises(TypeError, match=r"argument 'count': expected an integer, got float32$"):
        kernel(x, 2, f32(7), 3, 1)
    with pytest.raises(ValueError, match=r"argument 'count': expected an integer that fits int32, got 2147483648$"):
        kernel(x, 2, np.int64(2**31), 3, 1)
    factor = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match=r"no gradient for it, being a number: annotated as .*ndim=0\)"):
        kernel(x, factor, 7, 3, 1)


def test_numbers_for_jax(numbers: tiaot.Module) -> None:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        kernel, x = tiaot.jax.wrap(numbers.weigh), jax.numpy.arange(3.0)
        assert kernel(x, f32(2), np.int64(7), np.uint8(3), 1).tolist() == [11, 13, 15]
        with pytest.raises(NotImplementedError, match=r"argument 'factor', being a number: annotated as .*ndim=0\)"):
            jax.grad(lambda factor: kernel(x, factor, 7, 3, 1).sum())(2.0)
