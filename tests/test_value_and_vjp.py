"""kernel.value_and_vjp against the two calls that it stands for."""

import numpy as np
import pytest
import tiaot
from cuda_arrays import CPU, OnDevice
from expecting import expect

f32 = np.float32


def operands(rows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape).astype(f32) for shape in ((rows, 8), (4, 8), (4,), (rows, 4))]


@pytest.mark.parametrize("rows", [0, 1, 3, 20011])  # the last without the GIL
@pytest.mark.parametrize("wrt", ["x", "b", ("W", "x"), ["x", "W", "b"]])
def test_both(dense_tanh: tiaot.Kernel, rows: int, wrt: object) -> None:
    x, W, b, v = operands(rows)
    value, gradient = dense_tanh.value_and_vjp(x, W, b, v, wrt=wrt, num_threads=2)
    assert value.tobytes() == dense_tanh(x, W, b).tobytes()
    wanted = dense_tanh.vjp(x, W, b, v, wrt=wrt)
    assert type(gradient) is type(wanted)
    pairs = zip(gradient, wanted, strict=True) if isinstance(wanted, tuple) else [(gradient, wanted)]
    assert all(got.tobytes() == want.tobytes() for got, want in pairs)


def test_names_and_the_default(dense_tanh: tiaot.Kernel) -> None:
    x, W, b, v = operands(3)
    value, gradient = dense_tanh.value_and_vjp(x, b=b, y_cotangent=v, W=W)
    assert (value == dense_tanh(x, W, b)).all() and (gradient == dense_tanh.vjp(x, W, b, v)).all()


def test_several_outputs(small: tiaot.Module) -> None:
    rng = np.random.default_rng(1)
    x, s, p, q = (rng.standard_normal(shape).astype(f32) for shape in ((5, 3), 3, (5, 3), 5))
    values, gradients = small.pair.value_and_vjp(x, s, p, q, wrt=("s", "x"))
    for got, want in zip(
        values + gradients, small.pair(x, s) + small.pair.vjp(x, s, p, q, wrt=("s", "x")), strict=True
    ):
        assert (got == want).all()


def test_out(dense_tanh: tiaot.Kernel) -> None:
    x, W, b, v = operands(3)
    wanted, gx, gW = dense_tanh(x, W, b), *dense_tanh.vjp(x, W, b, v, wrt=("x", "W"))
    y, out = np.empty_like(wanted), (np.empty_like(gW), np.empty_like(gx))
    value, gradients = dense_tanh.value_and_vjp(x, W, b, v, wrt=("W", "x"), out=(y, out))
    assert value is y and gradients is out
    assert (y == wanted).all() and (out[0] == gW).all() and (out[1] == gx).all()
    # The cotangent's memory may take the output: the gradient is what it was.
    alone = dense_tanh.vjp(x, W, b, v)  # by another entry than with W, whose roundings may be others
    value, gradient = dense_tanh.value_and_vjp(x, W, b, v, out=(v, out[1]))
    assert value is v and (v == wanted).all() and (gradient == alone).all()


def test_arrays_of_other_libraries(dense_tanh: tiaot.Kernel) -> None:
    x, W, b, v = operands(3)
    value, gradient = dense_tanh.value_and_vjp(OnDevice(x, kind=CPU), W, b, OnDevice(v, kind=CPU))
    assert (value == dense_tanh(x, W, b)).all() and (gradient == dense_tanh.vjp(x, W, b, v)).all()


def test_what_is_refused(dense_tanh: tiaot.Kernel, small: tiaot.Module) -> None:
    x, W, b, v = operands(3)
    y, both = np.full((3, 4), 7, f32), np.full(24, 7, f32)
    label = "dense_tanh.vjp: argument 'out': "
    pair = "expected a pair (outputs, gradients), got "
    call = dense_tanh.value_and_vjp
    expect(TypeError, f"{label}{pair}numpy.ndarray", lambda: call(x, W, b, v, out=y))
    expect(TypeError, f"{label}{pair}tuple", lambda: call(x, W, b, v, out=(y,)))
    expect(
        ValueError,
        f"{label}an output overlaps a gradient",
        lambda: call(x, W, b, v, out=(both[12:].reshape(3, 4), both.reshape(3, 8))),
    )
    expect(
        ValueError,
        "dense_tanh.forward: output 'y': overlaps argument 'x'",
        lambda: call(x, W, b, v, out=(x.reshape(-1)[:12].reshape(3, 4), np.empty((3, 8), f32))),
    )
    expect(
        ValueError,
        "dense_tanh.vjp: cotangent of 'y': expected float32[3, 4], got float32[2, 4]",
        lambda: call(x, W, b, v[:2], out=(y, np.empty((3, 8), f32))),
    )
    expect(
        TypeError,
        "dense_tanh.vjp: expected 4 arrays (x, W, b, cotangent of 'y'), got 3: cotangent of 'y' is missing",
        lambda: call(x, W, b),
    )
    assert (y == 7).all() and (both == 7).all()
    with pytest.raises(NotImplementedError, match=r"has no vjp with respect to \(x\)"):
        small.kernels["close"].value_and_vjp(v[0], np.zeros(4, np.int32), v[0])
