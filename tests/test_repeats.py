"""Calls that look like earlier ones, which go a quicker way: the same results, and nothing of the last call in them."""

import gc
import sys
import weakref
from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot

f32 = np.float32
SHAPES = [(2, 8, 4), (3, 8, 4), (2, 3, 4), (2, 8, 5), (7, 1, 1), (1, 16, 2)]  # more than are remembered


def operands(B: int, n: int, m: int, seed: int = 0, dtype: object = f32) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((B, n), (m, n), (m,), (B, m))]


def fresh() -> tiaot.Kernel:
    """A kernel that has never been called."""
    return tiaot.open(tiaot.load("dense_tanh").module.path).dense_tanh


def long_way(wrt: object, *arrays: np.ndarray) -> list[np.ndarray]:
    """y and the gradients. Calls with num_threads are not remembered."""
    kernel = tiaot.load("dense_tanh")
    gradients = kernel.vjp(*arrays, wrt=wrt, num_threads=1)
    return [kernel(*arrays[:3], num_threads=1), *(gradients if isinstance(gradients, tuple) else [gradients])]


@pytest.mark.parametrize("wrt", ["x", ("x",), ("b", "W", "x")])
def test_each_call_has_results_of_its_own(wrt: object) -> None:
    kernel = fresh()
    kept = []
    for turn in range(8):
        for place, shape in enumerate(SHAPES[: 1 + turn]):  # at first one shape alone, in the end all in turn
            for dtype in (f32, np.float64):
                x, W, b, v = arrays = operands(*shape, seed=turn * 10 + place, dtype=dtype)
                wanted = long_way(wrt, *arrays)
                gradients = kernel.vjp(x, W, b, v, wrt=wrt)
                assert type(gradients) is (tuple if isinstance(wrt, tuple) else np.ndarray)
                got = [kernel(x, W, b), *(gradients if isinstance(gradients, tuple) else [gradients])]
                kept.append((got, wanted))
                y = np.full_like(wanted[0], np.nan)
                into = tuple(np.full_like(each, np.nan) for each in wanted[1:])
                out = into if isinstance(wrt, tuple) else into[0]
                assert kernel(x, W, b, out=y) is y and kernel.vjp(x, W, b, v, wrt=wrt, out=out) is out
                kept.append(([y, *into], wanted))
    for got, wanted in kept:  # also of calls long ago: no later one has written to them
        for one, other in zip(got, wanted, strict=True):
            assert type(one) is np.ndarray and one.dtype == other.dtype and one.tobytes() == other.tobytes()
            assert one.flags.c_contiguous and one.flags.writeable and one.flags.owndata


def test_spellings_of_a_call_take_turns() -> None:
    kernel = fresh()
    x, W, b, v = operands(2, 8, 4)
    y, gx, gW, gb = long_way(("x", "W", "b"), x, W, b, v)
    alone = long_way("x", x, W, b, v)[1]
    names = ["W", "b"]
    for turn in range(5):
        assert (kernel(x, b=b, W=W) == y).all() and (kernel(W=W, x=x, b=b, out=None) == y).all()
        assert (kernel.vjp(x, W, b, y_cotangent=v) == alone).all()
        assert (kernel.vjp(x, W, b, v, wrt=("x", "W", "b"))[0] == gx).all()
        got = kernel.vjp(x, W, b, v, wrt=("b", "x", "W"))
        assert (got[0] == gb).all() and (got[2] == gW).all()
        for wrt in (names, tuple(names)):
            for name, each in zip(names, kernel.vjp(x, W, b, v, wrt=wrt), strict=True):
                assert each.shape == {"W": W, "b": b}[name].shape
        names.reverse()  # the list says something else next time
        if turn % 2:
            x = x.copy()


def test_several_results(small: tiaot.Module) -> None:
    kernel = fresh()
    for turn in range(6):
        rng = np.random.default_rng(turn)
        p, q = (rng.standard_normal(shape).astype(f32) for shape in ((5, 3), (5,)))
        x, s = p + 1, p[0].copy()
        wanted = [*small.pair(x, s, num_threads=1), *small.pair.vjp(x, s, p, q, wrt=("s", "x"), num_threads=1)]
        got = [*small.pair(x, s), *small.pair.vjp(x, s, p, q, wrt=("s", "x"))]
        out = tuple(np.empty_like(each) for each in wanted)
        assert small.pair(x, s, out=out[:2]) and small.pair.vjp(x, s, p, q, wrt=("s", "x"), out=out[2:])
        for each, into, want in zip(got, out, wanted, strict=True):
            assert each.tobytes() == into.tobytes() == want.tobytes()
        if turn > 2:
            with pytest.raises(TypeError, match=r"expected a tuple of 2 arrays, got list"):
                small.pair(x, s, out=list(out[:2]))
            with pytest.raises(ValueError, match=r"output 'p': overlaps argument 'x'"):
                small.pair(x, s, out=(x, out[1]))

        x, W, b, v = operands(2, 8, 4, seed=turn)
        for wrt, tangents in (("x", [x]), (("x", "W", "b"), [x, W, b])):
            for entry, before in ((kernel.jvp, (x, W, b)), (kernel.hvp, (x, W, b, v))):
                both = entry(*before, *tangents, wrt=wrt)
                for one, other in zip(both, entry(*before, *tangents, wrt=wrt, num_threads=1), strict=True):
                    pairs = zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]
                    assert all(a.tobytes() == b.tobytes() for a, b in pairs)
                assert entry(*before, *tangents, wrt=wrt, out=both) is both


def test_numbers(tmp_path: Path) -> None:
    weigh = tiaot.open(module_files.write_module("numbers.c", tmp_path / "numbers.so")).weigh
    x = np.arange(3.0)
    for turn in range(6):
        wanted = 0.5 * turn * x + (7 + turn) + 3 + 1
        assert (weigh(x, 0.5 * turn, 7 + turn, 3, 1) == wanted).all()
        assert (weigh(x, factor=0.5 * turn, count=7 + turn, small=1, wide=3) == wanted).all()
        assert (weigh(x, np.array(0.5 * turn), 7 + turn, 3, 1) == wanted).all()
    assert np.isnan(weigh(x, float("nan"), 1, 1, 1)).all()
    for name, value in (("count", 2**31), ("count", 7.0), ("count", True), ("small", -1), ("wide", 2**63)):
        operands = {"factor": 0.5, "count": 1, "wide": 1, "small": 1, name: value}
        with pytest.raises((ValueError, TypeError), match=f"argument '{name}': expected a.* int"):
            weigh(x, **operands)


def test_what_does_not_fit_is_refused_as_at_first() -> None:
    def outcome(call: object) -> str:
        try:
            return repr(call())
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    x, W, b, v = operands(2, 8, 4)
    gx = np.empty_like(x)
    raw = np.zeros(4 * 16 + 1, np.uint8)
    unaligned = raw[1 : 1 + 4 * 16].view(f32).reshape(2, 8)
    assert not unaligned.flags.aligned
    frozen = np.zeros_like(x)
    frozen.flags.writeable = False
    both = np.zeros(24, f32)  # two arrays of 16 that share 8
    one, other = both[:16].reshape(2, 8), both[8:].reshape(2, 8)

    class Tuple(tuple):
        pass

    wrong = {
        "x": lambda k: k.vjp(x[:, ::2], W, b, v, out=gx),
        "reversed": lambda k: k.vjp(x[::-1], W, b, v, out=gx),
        "Fortran": lambda k: k.vjp(np.asfortranarray(x), W, b, v, out=gx),
        "big-endian": lambda k: k.vjp(x.astype(">f4"), W, b, v, out=gx),
        "integers": lambda k: k.vjp(x.view(np.int32), W, b, v, out=gx),
        "float64": lambda k: k.vjp(x, W, b, v.astype(np.float64), out=gx),
        "a column": lambda k: k.vjp(x, W, b[:, None], v, out=gx),
        "rows": lambda k: k.vjp(x, W, b, v[:1], out=gx),
        "a list": lambda k: k.vjp(x, W, b.tolist(), v, out=gx),
        "None": lambda k: k.vjp(x, W, None, v, out=gx),
        "a subclass": lambda k: k.vjp(x, W, b, np.ma.array(v), out=gx),
        "the gradient unaligned": lambda k: k.vjp(x, W, b, v, out=unaligned),
        "x unaligned": lambda k: k.vjp(unaligned, W, b, v, out=gx),
        "x unaligned, new": lambda k: k.vjp(unaligned, W, b, v),
        "read-only": lambda k: k.vjp(x, W, b, v, out=frozen),
        "the input": lambda k: k.vjp(x, W, b, v, out=x),
        "begins in the input": lambda k: k.vjp(one, W, b, v, out=other),
        "the input begins in it": lambda k: k.vjp(other, W, b, v, out=one),
        "twice": lambda k: k.vjp(x, W, b, v, wrt=("x", "W"), out=(both[:16].reshape(2, 8), np.zeros((4, 8), f32)[:3])),
        "gradients overlap": lambda k: k.vjp(x, W, b, v, wrt=("x", "b"), out=(gx, gx[0, :4])),
        "a list for a tuple": lambda k: k.vjp(x, W, b, v, wrt=("x", "b"), out=[gx, b.copy()]),
        "a short tuple": lambda k: k.vjp(x, W, b, v, wrt=("x", "b"), out=(gx,)),
        "an array for a tuple": lambda k: k.vjp(x, W, b, v, wrt=("x", "b"), out=gx),
        "a tuple for an array": lambda k: k.vjp(x, W, b, v, out=(gx,)),
        "too few": lambda k: k.vjp(x, W, b, out=gx),
        "too many": lambda k: k.vjp(x, W, b, v, v, out=gx),
        "by both": lambda k: k.vjp(x, W, b, v, b=b, out=gx),
        "no keyword": lambda k: k.vjp(x, W, b, v, outs=gx),
        "no name": lambda k: k.vjp(x, W, b, v, wrt="y", out=gx),
        "wrt is None": lambda k: k.vjp(x, W, b, v, wrt=None, out=gx),
        "wrt of forward": lambda k: k(x, W, b, wrt="x"),
        "threads": lambda k: k.vjp(x, W, b, v, out=gx, num_threads=0),
        "a stream": lambda k: k.vjp(x, W, b, v, out=gx, stream=1),
    }
    known, unknown = fresh(), fresh()
    for _ in range(3):
        known(x, W, b)
        known.vjp(x, W, b, v)
        known.vjp(x, W, b, v, out=gx)
        known.vjp(x, W, b, v, wrt=("x", "b"))
        known.vjp(x, W, b, v, wrt=("x", "W"))
    before = [array.tobytes() for array in (x, W, b, v, both, unaligned, frozen)]
    for name, call in wrong.items():
        wanted = outcome(lambda call=call: call(unknown))
        assert ": " in wanted, name
        assert outcome(lambda call=call: call(known)) == wanted, name
        assert [array.tobytes() for array in (x, W, b, v, both, unaligned, frozen)] == before, name
    pair = Tuple((gx, np.zeros_like(b)))
    assert known.vjp(x, W, b, v, wrt=("x", "b"), out=pair) is pair


def test_an_array_that_takes_another_shape() -> None:
    kernel = fresh()
    x, W, b, v = operands(2, 8, 4)
    for _ in range(3):
        kernel.vjp(x, W, b, v)
    x.shape = (4, 4)
    with pytest.raises(ValueError, match=r"argument 'W': expected float32\[m, 4\], got float32\[4, 8\]"):
        kernel.vjp(x, W, b, v)
    x.shape = (2, 8)
    x.dtype = np.int32
    with pytest.raises(TypeError, match="expected float32"):
        kernel.vjp(x, W, b, v)


def test_a_module_that_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "copy.tiaot.so"
    path.write_bytes(Path(tiaot.load("dense_tanh").module.path).read_bytes())
    module = tiaot.open(path)
    kernel = module.dense_tanh
    x, W, b, v = operands(2, 8, 4)
    for _ in range(3):
        kernel.vjp(x, W, b, v)
    module.close()
    with pytest.raises(tiaot.ModuleError, match="is closed"):
        kernel.vjp(x, W, b, v)


def test_nothing_is_kept_of_the_arrays() -> None:
    kernel = fresh()
    arrays = operands(2, 8, 4)
    out = np.empty((2, 8), f32)
    for _ in range(4):
        kernel.vjp(*arrays, out=out)
    counts = [sys.getrefcount(each) for each in (*arrays, out, None)]
    for _ in range(100):
        kernel.vjp(*arrays, out=out)
    assert [sys.getrefcount(each) for each in (*arrays, out)] == counts[:5]
    result = kernel.vjp(*arrays)
    assert sys.getrefcount(result) == 2
    gone = weakref.ref(result)
    del result
    assert gone() is None


def test_other_calls_from_a_finalizer() -> None:
    """The collector runs where results are put into a tuple; by then other looks have taken the place of the call's."""
    kernel = fresh()
    arrays = operands(2, 8, 4)
    wanted = kernel.vjp(*arrays, wrt=("x", "W"))
    ran = []

    class Node:
        def __del__(self) -> None:
            for shape in SHAPES:
                for _ in range(3):
                    kernel.vjp(*operands(*shape), wrt=("x", "b"))
            ran.append(True)

    thresholds = gc.get_threshold()
    try:
        for threshold in range(1, 30):
            gc.disable()
            gc.collect()
            for _ in range(3):
                kernel.vjp(*arrays, wrt=("x", "W"))
            one, other = Node(), Node()
            one.other, other.other = other, one  # type: ignore[attr-defined]
            del one, other
            gc.set_threshold(threshold, 1000, 1000)
            gc.enable()
            got = kernel.vjp(*arrays, wrt=("x", "W"))
            assert all((a == b).all() for a, b in zip(got, wanted, strict=True))
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    assert ran


def test_on_tensors() -> None:
    torch = pytest.importorskip("torch")
    import tiaot.torch

    kernel = tiaot.torch.wrap(fresh())
    kept = []
    for turn in range(6):
        for shape in SHAPES[: 1 + turn]:
            for dtype in (f32, np.float64):
                arrays = operands(*shape, seed=turn, dtype=dtype)
                wanted = long_way(("x", "W", "b"), *arrays)
                tensors = [torch.from_numpy(array) for array in arrays[:3]]
                kept.append(([kernel(*tensors)], wanted[:1]))
                leaves = [tensor.clone().requires_grad_() for tensor in tensors]
                y = kernel(*leaves)
                kept.append(([y.detach(), *torch.autograd.grad(y, leaves, torch.from_numpy(arrays[3]))], wanted))
                for some in 2 * ((0,), (1, 2), (0, 2)):
                    given = [leaves[i] if i in some else tensors[i] for i in range(3)]
                    found = torch.autograd.grad(kernel(*given), [leaves[i] for i in some], torch.from_numpy(arrays[3]))
                    kept.append((list(found), long_way(tuple("xWb"[i] for i in some), *arrays)[1:]))
                # What has to be copied first, between calls on tensors that need not.
                strided = torch.from_numpy(np.repeat(arrays[0], 2, axis=1))[:, ::2]
                for first in (strided, torch._neg_view(-tensors[0])):
                    kept.append(([kernel(first, *tensors[1:])], wanted[:1]))
                with pytest.raises(TypeError, match="argument 'W': expected float"):
                    kernel(tensors[0], tensors[1].to(torch.int32), tensors[2])
                with pytest.raises(ValueError, match="argument 'b': expected float"):
                    kernel(*tensors[:2], torch.zeros(shape[2] + 1, dtype=tensors[2].dtype))
    for got, wanted in kept:
        for one, other in zip(got, wanted, strict=True):
            want = other.detach().numpy() if isinstance(other, torch.Tensor) else other
            assert one.numpy().dtype == want.dtype and one.numpy().tobytes() == want.tobytes()
            assert one.is_contiguous() and one.data_ptr() % 64 == 0
