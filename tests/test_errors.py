"""Every input that cannot be right raises an exception that says so, in full, and nothing is computed or written."""

import numpy as np
import pytest
import tiaot
from expecting import expect

B, N, M = 2, 8, 4


def arrays(dtype: str = "float32") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"x": (B, N), "W": (M, N), "b": (M,), "v": (B, M), "gx": (B, N), "y": (B, M), "gW": (M, N), "gb": (M,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def strided(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def packed(array: np.ndarray) -> np.ndarray:
    """The same values, one field of a packed struct: strides of 5 bytes."""
    struct = np.zeros(array.shape, dtype=[("value", "f4"), ("other", "i1")])
    struct["value"] = array
    return struct["value"]


def misaligned(array: np.ndarray) -> np.ndarray:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


class Speaks:
    """Speaks DLPack as it is told to: each attribute is returned, or raised."""

    def __init__(self, device: object, capsule: object = None) -> None:
        self.device, self.capsule = device, capsule

    def __dlpack_device__(self) -> object:
        return self.device

    def __dlpack__(self, **_: object) -> object:
        if isinstance(self.capsule, Exception):
            raise self.capsule
        return self.capsule


# What stands in for `x` of dense_tanh.vjp, the exception, and the message after "dense_tanh.vjp: argument 'x': ".
EITHER = "expected float32[B, n] or float64[B, n], got "
PLAIN = "expected a plain numpy.ndarray, got its subclass "
FLOATS = "expected an array of float32 or float64, got "
INPUTS = {
    "list": (lambda x: x.tolist(), TypeError, FLOATS + "list"),
    "None": (lambda x: None, TypeError, FLOATS + "NoneType"),
    "float": (lambda x: 1.5, TypeError, FLOATS + "float"),
    "scalar": (lambda x: np.float32(1), TypeError, FLOATS + "numpy.float32"),
    "bytes": (lambda x: x.tobytes(), TypeError, FLOATS + "bytes"),
    "memoryview": (lambda x: memoryview(x), TypeError, FLOATS + "memoryview"),
    "the type": (lambda x: np.ndarray, TypeError, FLOATS + "type"),
    "object": (lambda x: x.astype(object), TypeError, FLOATS + "object[2, 8]"),
    "str": (lambda x: x.astype("U3"), TypeError, FLOATS + "<U3[2, 8]"),
    "datetime": (lambda x: np.zeros((2, 8), "M8[s]"), TypeError, FLOATS + "datetime64[s][2, 8]"),
    "structured": (lambda x: np.zeros(2, "f4,f4"), TypeError, FLOATS + "[('f0', '<f4'), ('f1', '<f4')][2]"),
    "longdouble": (lambda x: x.astype("g"), TypeError, FLOATS + "float128[2, 8]"),
    "complex": (
        lambda x: x.astype("c8"),
        TypeError,
        EITHER + "complex64[2, 8]",
    ),
    "bool": (lambda x: x > 0, TypeError, EITHER + "bool[2, 8]"),
    "int": (lambda x: x.astype("i8"), TypeError, EITHER + "int64[2, 8]"),
    "half": (lambda x: x.astype("f2"), TypeError, EITHER + "float16[2, 8]"),
    "byte order": (lambda x: x.astype(">f4"), TypeError, "expected float32 in native byte order, got >f4"),
    "masked": (
        lambda x: np.ma.array(x),
        TypeError,
        PLAIN + f"{np.ma.MaskedArray.__module__}.MaskedArray; pass numpy.asarray of it",
    ),
    "subclass": (
        lambda x: x.view(Subclass),
        TypeError,
        PLAIN + f"{Subclass.__module__}.Subclass; pass numpy.asarray of it",
    ),
    "rank 1": (lambda x: x[0], ValueError, EITHER + "float32[8]"),
    "rank 3": (lambda x: x[None], ValueError, EITHER + "float32[1, 2, 8]"),
    "rank 0": (lambda x: np.array(1, np.float32), ValueError, EITHER + "float32[]"),
    "rank 30": (
        lambda x: np.ones((1,) * 30, np.float32),
        ValueError,
        EITHER + f"float32[{', '.join('1' * 30)}]",
    ),
    "no columns": (lambda x: x[:, :0], ValueError, "'n' must be at least 1, got float32[2, 0]"),
    "transposed": (
        lambda x: np.ones((8, 2), np.float32).T,
        ValueError,
        "expected strides [8, 1] (dense, row-major), got [1, 2] for float32[2, 8]",
    ),
    "strided": (strided, ValueError, "expected strides [8, 1] (dense, row-major), got [16, 2] for float32[2, 8]"),
    "reversed": (
        lambda x: x[::-1],
        ValueError,
        "expected strides [8, 1] (dense, row-major), got [-8, 1] for float32[2, 8]",
    ),
    "broadcast": (
        lambda x: np.broadcast_to(x[:1], (2, 8)),
        ValueError,
        "expected strides [8, 1] (dense, row-major), got [0, 1] for float32[2, 8]",
    ),
    "packed struct": (
        lambda x: packed(x[0]),
        ValueError,
        "expected a dense row-major array, got one with a stride of 5 bytes for elements of 4",
    ),
    "no capsule on a device": (
        lambda x: Speaks((2, 1)),
        TypeError,
        "expected a DLPack capsule from __dlpack__, got NoneType",
    ),
    "other device": (
        lambda x: Speaks((10, 1)),
        TypeError,
        "expected an array on the CPU or a CUDA device, got one on rocm:1",
    ),
    "unknown device": (
        lambda x: Speaks((99, 0)),
        TypeError,
        "expected an array on the CPU or a CUDA device, got one on DLPack device type 99:0",
    ),
    "no device": (lambda x: Speaks(None), TypeError, "expected a pair from __dlpack_device__, got NoneType"),
    "no capsule": (lambda x: Speaks((1, 0), 3), TypeError, "expected a DLPack capsule from __dlpack__, got int"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_input(dense_tanh: tiaot.Kernel, case: str) -> None:
    make, exception, message = INPUTS[case]
    a = arrays()
    gx = a["gx"].copy()
    with pytest.raises(exception) as caught:
        dense_tanh.vjp(make(a["x"]), a["W"], a["b"], a["v"], out=gx)
    assert str(caught.value) == "dense_tanh.vjp: argument 'x': " + message
    assert type(caught.value) is exception
    np.testing.assert_array_equal(gx, a["gx"])


def test_misaligned_input(dense_tanh: tiaot.Kernel) -> None:
    a = arrays()
    x = misaligned(a["x"])
    address = hex(x.__array_interface__["data"][0])
    expect(
        ValueError,
        f"dense_tanh.forward: argument 'x': expected data aligned to 4 bytes, got address {address}",
        lambda: dense_tanh(x, a["W"], a["b"]),
    )


# Calls with the kernel k and the arrays a; the message as a whole.
CALLS = {
    "dtypes differ": (
        lambda k, a: k.vjp(a["x"], a["W"].astype("f8"), a["b"], a["v"]),
        TypeError,
        "dense_tanh.vjp: argument 'W': expected float32[m, 8], got float64[4, 8]",
    ),
    "shapes differ": (
        lambda k, a: k(a["x"], a["W"][:, :7].copy(), a["b"]),
        ValueError,
        "dense_tanh.forward: argument 'W': expected float32[m, 8], got float32[4, 7]",
    ),
    "bias": (
        lambda k, a: k.jacobian(a["x"], a["W"], a["b"][:3]),
        ValueError,
        "dense_tanh.jacobian: argument 'b': expected float32[4], got float32[3]",
    ),
    "cotangent": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"][:1]),
        ValueError,
        "dense_tanh.vjp: cotangent of 'y': expected float32[2, 4], got float32[1, 4]",
    ),
    "cotangent is a list": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], [1.0]),
        TypeError,
        "dense_tanh.vjp: cotangent of 'y': expected an array of float32 or float64, got list",
    ),
    "no arrays": (
        lambda k, a: k.vjp(),
        TypeError,
        "dense_tanh.vjp: expected 4 arrays (x, W, b, cotangent of 'y'), got 0: "
        "argument 'x', argument 'W', argument 'b', cotangent of 'y' are missing",
    ),
    "too few": (
        lambda k, a: k(a["x"], a["W"]),
        TypeError,
        "dense_tanh.forward: expected 3 arrays (x, W, b), got 2: argument 'b' is missing",
    ),
    "one of the first is missing": (
        lambda k, a: k.vjp(W=a["W"], y_cotangent=a["v"], b=a["b"]),
        TypeError,
        "dense_tanh.vjp: expected 4 arrays (x, W, b, cotangent of 'y'), got 3: argument 'x' is missing",
    ),
    "too many": (
        lambda k, a: k.jacobian(a["x"], a["W"], a["b"], a["v"]),
        TypeError,
        "dense_tanh.jacobian: expected 3 arrays (x, W, b), got 4",
    ),
    "very many": (
        lambda k, a: k(*[a["x"]] * 1000),
        TypeError,
        "dense_tanh.forward: expected 3 arrays (x, W, b), got 1000",
    ),
    "unknown keyword": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], output=a["gx"]),
        TypeError,
        "dense_tanh.vjp: expected keywords x, W, b, y_cotangent, out, wrt, num_threads or stream, got 'output'",
    ),
    "wrt of forward": (
        lambda k, a: k(a["x"], a["W"], a["b"], wrt="x"),
        TypeError,
        "dense_tanh.forward: expected keywords x, W, b, out, num_threads or stream, got 'wrt'",
    ),
    "array twice": (
        lambda k, a: k(a["x"], a["W"], a["b"], W=a["W"]),
        TypeError,
        "dense_tanh.forward: argument 'W': expected it once, got it twice, by position and by name",
    ),
    "cotangent of forward": (
        lambda k, a: k(a["x"], a["W"], a["b"], y_cotangent=a["v"]),
        TypeError,
        "dense_tanh.forward: expected keywords x, W, b, out, num_threads or stream, got 'y_cotangent'",
    ),
    "out is a list": (
        lambda k, a: k(a["x"], a["W"], a["b"], out=[a["y"]]),
        TypeError,
        "dense_tanh.forward: output 'y': expected an array of float32 or float64, got list",
    ),
    "out is a tuple": (
        lambda k, a: k(a["x"], a["W"], a["b"], out=(a["y"],)),
        TypeError,
        "dense_tanh.forward: output 'y': expected an array of float32 or float64, got tuple",
    ),
    "out is no tuple": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], wrt=("x",), out=a["gx"]),
        TypeError,
        "dense_tanh.vjp: argument 'out': expected a tuple of 1 arrays, got numpy.ndarray",
    ),
    "out too short": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], wrt=("x", "W"), out=(a["gx"],)),
        ValueError,
        "dense_tanh.vjp: argument 'out': expected a tuple of 2 arrays, got a tuple of 1",
    ),
    "out in another order": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], wrt=("W", "x"), out=(a["gx"], a["gW"])),
        ValueError,
        "dense_tanh.vjp: gradient of 'x': expected float32[2, 8], got float32[4, 8]",
    ),
    "out of another type": (
        lambda k, a: k(a["x"], a["W"], a["b"], out=a["y"].astype("f8")),
        TypeError,
        "dense_tanh.forward: output 'y': expected float32[2, 4], got float64[2, 4]",
    ),
    "out read-only": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], out=read_only(a["gx"])),
        ValueError,
        "dense_tanh.vjp: gradient of 'x': expected a writable array, got a read-only one",
    ),
    "out strided": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], out=strided(a["gx"])),
        ValueError,
        "dense_tanh.vjp: gradient of 'x': expected strides [8, 1] (dense, row-major), got [16, 2] for float32[2, 8]",
    ),
    "out is an input": (
        lambda k, a: k.vjp(a["x"], a["W"], a["b"], a["v"], out=a["x"]),
        ValueError,
        "dense_tanh.vjp: gradient of 'x': overlaps argument 'x'",
    ),
    "out overlaps partly": (
        lambda k, a: (lambda r: k.vjp(r[:2], a["W"], a["b"], a["v"], out=r[1:]))(np.ones((3, N), np.float32)),
        ValueError,
        "dense_tanh.vjp: gradient of 'x': overlaps argument 'x'",
    ),
    "out twice": (
        lambda k, a: k.vjp(
            a["x"][:1], a["W"][:1], a["b"][:1], a["b"][None, :1], wrt=("x", "W"), out=(a["gW"][:1],) * 2
        ),
        ValueError,
        "dense_tanh.vjp: gradient of 'W': overlaps gradient of 'x'",
    ),
    "jacobian's out": (
        lambda k, a: k.jacobian(a["x"], a["W"], a["b"], out=a["y"]),
        ValueError,
        "dense_tanh.jacobian: Jacobian of 'y' with respect to 'x': expected float32[2, 4, 8], got float32[2, 4]",
    ),
    "jacobian's out is a list": (
        lambda k, a: k.jacobian(a["x"], a["W"], a["b"], wrt="W", out=[]),
        TypeError,
        "dense_tanh.jacobian: Jacobian of 'y' with respect to 'W': expected an array of float32 or float64, got list",
    ),
}
WRT = {
    "unknown": ("q", ValueError, "expected names out of x, W, b, got 'q'"),
    "an output": ("y", ValueError, "expected names out of x, W, b, got 'y'"),
    "not UTF-8": ("\ud800", ValueError, "expected names out of x, W, b, got '\\ud800'"),
    "unknown in tuple": (("x", ""), ValueError, "expected names out of x, W, b, got ''"),
    "repeated": (("x", "W", "x"), ValueError, "expected each name once, got 'x' twice"),
    "empty": ((), ValueError, "expected at least one name, got an empty tuple"),
    "None": (None, TypeError, "expected a name, or a tuple or list of names, got NoneType"),
    "empty list": ([], ValueError, "expected at least one name, got an empty list"),
    "index": (0, TypeError, "expected a name, or a tuple or list of names, got int"),
    "set": ({"x"}, TypeError, "expected a name, or a tuple or list of names, got set"),
    "indices": ([0, 1], TypeError, "expected a name, or a tuple or list of names, got int"),
}
THREADS = {
    "zero": (0, ValueError, "expected at least 1, got 0"),
    "negative": (-1, ValueError, "expected at least 1, got -1"),
    "very negative": (-(10**30), ValueError, f"expected at least 1, got {-(10**30)}"),
    "huge": (10**30, ValueError, f"expected an integer of 32 bits, got {10**30}"),
    "beyond 32 bits": (2**32 + 1, ValueError, f"expected an integer of 32 bits, got {2**32 + 1}"),
    "bool": (True, TypeError, "expected an integer, got bool"),
    "float": (2.0, TypeError, "expected an integer, got float"),
    "str": ("2", TypeError, "expected an integer, got str"),
}


@pytest.mark.parametrize("case", CALLS)
def test_call(dense_tanh: tiaot.Kernel, case: str) -> None:
    call, exception, message = CALLS[case]
    expect(exception, message, lambda: call(dense_tanh, arrays()))


@pytest.mark.parametrize("case", WRT)
@pytest.mark.parametrize("entry", ["vjp", "jacobian"])
def test_wrt(dense_tanh: tiaot.Kernel, entry: str, case: str) -> None:
    wrt, exception, message = WRT[case]
    a = arrays()
    operands = [a[name] for name in ("x", "W", "b", "v")[: 4 if entry == "vjp" else 3]]
    for call in (getattr(dense_tanh, entry), getattr(dense_tanh, entry).bind):
        expect(exception, f"dense_tanh.{entry}: argument 'wrt': {message}", lambda call=call: call(*operands, wrt=wrt))


@pytest.mark.parametrize("case", THREADS)
def test_num_threads(dense_tanh: tiaot.Kernel, case: str) -> None:
    count, exception, message = THREADS[case]
    a = arrays()
    expect(
        exception,
        f"dense_tanh.forward: argument 'num_threads': {message}",
        lambda: dense_tanh(a["x"], a["W"], a["b"], num_threads=count),
    )
    expect(exception, f"set_num_threads: {message}", lambda: tiaot.set_num_threads(count))


def test_bind_checks_what_a_call_checks(dense_tanh: tiaot.Kernel) -> None:
    a = arrays()
    expect(
        ValueError,
        "dense_tanh.vjp: gradient of 'x': overlaps argument 'x'",
        lambda: dense_tanh.vjp.bind(a["x"], a["W"], a["b"], a["v"], out=a["x"]),
    )
    expect(
        TypeError,
        "dense_tanh.forward: argument 'W': expected an array of float32 or float64, got list",
        lambda: dense_tanh.bind(a["x"], [], a["b"]),
    )
    bound = dense_tanh.vjp.bind(a["x"], a["W"], a["b"], a["v"])
    for call in (lambda: bound(1), lambda: bound(out=a["gx"])):
        expect(TypeError, "dense_tanh.vjp: expected no arguments, its arrays are bound", call)


def test_restricted_variant_does_not_fit(dense_tanh: tiaot.Kernel) -> None:
    a = arrays()
    expect(
        ValueError,
        "dense_tanh.restrict: argument 'variant': expected one of " + ", ".join(dense_tanh.variants) + ", got 'float8'",
        lambda: dense_tanh.restrict("float8"),
    )
    restricted = dense_tanh.restrict(variant="float64_dynamic")
    assert restricted.variants == ("float64_dynamic",)
    expect(
        TypeError,
        "dense_tanh.forward: argument 'x': expected float64[B, n], got float32[2, 8]",
        lambda: restricted(a["x"], a["W"], a["b"]),
    )
    with pytest.raises(ValueError, match="expected one of float64_dynamic, got 'float32_dynamic'"):
        restricted.restrict("float32_dynamic")


def test_missing_gradients(small: tiaot.Module) -> None:
    x, k = np.ones(3, np.float32), np.ones(3, np.int32)
    kernel = small.kernels["close"]
    missing = "variant 'float32_dynamic' has no vjp with respect to (x); it has forward"
    expect(NotImplementedError, f"close.vjp: {missing}", lambda: kernel.vjp(x, k, x))
    expect(NotImplementedError, f"close.jacobian: {missing}", lambda: kernel.jacobian.bind(x, k))
    expect(ValueError, "close.vjp: argument 'k': is not differentiable", lambda: kernel.vjp(x, k, x, wrt="k"))


def test_structure_of_several_outputs(small: tiaot.Module) -> None:
    x, s = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    p, q = small.pair(x, s)
    expect(
        TypeError,
        "pair.forward: argument 'out': expected a tuple of 2 arrays, got numpy.ndarray",
        lambda: small.pair(x, s, out=p),
    )
    expect(
        ValueError,
        "pair.jacobian: argument 'out': expected a tuple of 2 tuples, got a tuple of 1",
        lambda: small.pair.jacobian(x, s, wrt=("x",), out=(p,)),
    )
    expect(
        TypeError,
        "pair.jacobian: argument 'out': expected a tuple of 1 arrays, got numpy.ndarray",
        lambda: small.pair.jacobian(x, s, wrt=("x",), out=(p, q)),
    )
    expect(
        TypeError,
        "pair.vjp: expected 4 arrays (x, s, cotangent of 'p', cotangent of 'q'), got 3: cotangent of 'q' is missing",
        lambda: small.pair.vjp(x, s, p),
    )


def test_torch_refusals(dense_tanh: tiaot.Kernel) -> None:
    torch = pytest.importorskip("torch")
    a = {name: torch.from_numpy(array) for name, array in arrays().items()}
    call = lambda x: dense_tanh(x, a["W"], a["b"])  # noqa: E731
    with pytest.raises(BufferError, match="require gradient"):
        call(a["x"].clone().requires_grad_())
    with pytest.raises(BufferError, match="strided"):
        call(a["x"].to_sparse())
    with pytest.raises(ValueError, match="meta"):
        call(a["x"].to("meta"))
    prefix = "dense_tanh.forward: argument 'x': "
    expect(
        TypeError,
        prefix + EITHER + "bfloat16[2, 8]",
        lambda: call(a["x"].bfloat16()),
    )
    expect(
        ValueError,
        prefix + "expected a tensor that holds its values, got one with its negative bit set; pass its resolve_neg()",
        lambda: call(torch._neg_view(a["x"])),
    )
    with pytest.warns(UserWarning, match="FakeTensor"):
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode():
            fake = torch.ones(3, 8)
        for tensor in (fake, fake[1:]):
            expect(
                ValueError,
                prefix + "expected a tensor that holds its values, got a fake or wrapped one without memory",
                lambda tensor=tensor: call(tensor),
            )


def test_out_that_dlpack_does_not_let_write(dense_tanh: tiaot.Kernel) -> None:
    a = arrays()

    class ReadOnly:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack_device__(self) -> tuple[int, int]:
            return self.array.__dlpack_device__()

        def __dlpack__(self) -> object:  # without max_version: an unversioned capsule
            return self.array.__dlpack__()

    np.testing.assert_array_equal(dense_tanh(ReadOnly(a["x"]), a["W"], a["b"]), dense_tanh(a["x"], a["W"], a["b"]))
    with pytest.raises(ValueError, match=r"output 'y': expected a writable array, got .*ReadOnly, which DLPack does"):
        dense_tanh(a["x"], a["W"], a["b"], out=ReadOnly(a["y"]))


def test_exceptions_of_the_array_come_through(dense_tanh: tiaot.Kernel) -> None:
    a = arrays()
    for error in (RuntimeError("mine"), TypeError("mine"), KeyError("mine")):
        with pytest.raises(type(error), match="mine"):
            dense_tanh(a["x"], Speaks((1, 0), error), a["b"])
