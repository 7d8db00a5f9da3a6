"""Calls from Python with arguments drawn at random, some of them made to break a reader: each is refused by an
exception or gives a right result, no operand changes, and a call that fails writes nothing.

    python fuzz_arguments.py SEED SECONDS

Prints how many calls succeeded and how many were refused.
"""

import random
import sys
import time
from collections.abc import Callable

import numpy as np
import tiaot

KERNEL = tiaot.load("dense_tanh")
INPUTS = ("x", "W", "b")


class Speaks:
    """Speaks DLPack as it likes."""

    def __init__(self, device: object, answer: Callable[[], object]) -> None:
        self.device, self.answer = device, answer

    def __dlpack_device__(self) -> object:
        return self.device

    def __dlpack__(self, **_: object) -> object:
        return self.answer()


class Claims:
    """Claims to be an array, by interfaces that hold anything."""

    def __init__(self, interface: object) -> None:
        self.__array_interface__ = self.__cuda_array_interface__ = interface


def fail() -> None:
    raise RuntimeError("mine")


def changed(draw: random.Random, array: np.ndarray) -> np.ndarray:
    """An array like this one, but for one thing or none."""
    shape, size = array.shape, array.itemsize
    odd = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(shape) if array.nbytes else array
    frozen = array.copy()
    frozen.flags.writeable = False
    return draw.choice([
        array, frozen, odd, array.astype(draw.choice("?bBhHiIqQefdgFDO")), array.astype(array.dtype.newbyteorder()),
        array.T, array[::2], array[::-1], array[..., :0], array[None], array.reshape(-1),
        np.broadcast_to(array.ravel()[:1], shape) if array.size else array,
        np.lib.stride_tricks.as_strided(array, shape, [0] * array.ndim),
        np.lib.stride_tricks.as_strided(array, [2**draw.randrange(20, 56)] + [1] * (array.ndim - 1), [0] * array.ndim),
        array.view(f"V{size}"), np.ma.masked_array(array), np.asfortranarray(array), array.view(np.recarray),
    ])  # fmt: skip


def hostile(draw: random.Random, array: np.ndarray) -> object:
    used = array.__dlpack__()
    np.from_dlpack(Speaks((1, 0), lambda: used))
    pointer = draw.choice([0, 1, array.ctypes.data, -1, 2**70, None])
    shape = draw.choice([array.shape, (-1,), (2**62, 2**62), None, "ab"])
    data = draw.choice([(pointer, False), pointer, ()])
    interface = {"shape": shape, "typestr": "<f4", "data": data, "version": draw.choice([3, 0, None])}
    other = changed(draw, array.astype(np.float32))
    recursive: list[object] = []
    recursive.append(recursive)
    device = (draw.randrange(-2, 20), draw.randrange(-2, 9))
    return draw.choice([
        None, 0, -1, 2**64, float("nan"), "x", "x" * 10**5, "\0", "\ud800", b"x", (), ("x", ()), ("x", "x"), recursive,
        type, KERNEL, used, Speaks((1, 0), lambda: used), Speaks((1, 0), fail), Speaks(None, fail),
        Speaks((2, 0), fail), Speaks(device, array.__dlpack__), Speaks((1, 0), lambda: array),
        Speaks((1, 0), lambda: other.__dlpack__()), Claims(interface), Claims(None),
    ])  # fmt: skip


def right(result: object, x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray | None) -> bool:
    """Whether it is the layer's output, or with `v` its vjp with respect to x."""
    x, W, b = (each.astype(np.float64) for each in (x, W, b))
    y = np.tanh(x @ W.T + b)
    expected = y if v is None else ((1 - y * y) * v.astype(np.float64)) @ W
    return isinstance(result, np.ndarray) and np.allclose(result, expected, rtol=1e-4, atol=1e-4)


def call_once(draw: random.Random, rng: np.random.Generator) -> bool:
    """Whether the call succeeded. SystemExit when a promise is broken."""
    B, n, m = (draw.choice((0, 1, 2, 3, 8, 17)) for _ in range(3))
    dtype = draw.choice((np.float32, np.float64))
    good = [rng.standard_normal(shape).astype(dtype) for shape in ((B, n), (m, n), (m,), (B, m), (B, n))]
    if draw.random() < 0.3 and n > 0 and m > 0:
        for _ in range(2):  # so that calls of this look go the quicker way
            KERNEL(*good[:3])
            KERNEL.vjp(*good[:4])
    arguments: list[object] = list(good)
    for place in range(5):
        kind = draw.random()
        if kind < 0.08:
            arguments[place] = changed(draw, good[place])
        elif kind < 0.12:
            arguments[place] = hostile(draw, good[place])
    x, W, b, v, t = arguments
    options: dict[str, object] = {}
    if draw.random() < 0.1:
        options["num_threads"] = draw.choice([1, 2, 0, -1, 2**40, hostile(draw, good[0])])
    target = np.full((B, n), 7, dtype)
    if draw.random() < 0.1:
        options["out"] = draw.choice([target, changed(draw, target), hostile(draw, target)])
    if draw.random() < 0.1:
        names = [draw.choice([*INPUTS, "y", "", "x\0", 3]) for _ in range(draw.randrange(4))]
        options["wrt"] = draw.choice([names, tuple(names), "x", hostile(draw, good[0])])
    if draw.random() < 0.05:
        options[draw.choice(["x", "W", "y_cotangent", "", "o\ud800"])] = draw.choice([x, hostile(draw, good[0])])
    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: KERNEL(x, W, b, **options),
        "vjp": lambda: KERNEL.vjp(x, W, b, v, **options),
        "value_and_vjp": lambda: KERNEL.value_and_vjp(x, W, b, v, **options),
        "jacobian": lambda: KERNEL.jacobian(x, W, b, **options),
        "jvp": lambda: KERNEL.jvp(x, W, b, t, **options),
        "hvp": lambda: KERNEL.hvp(x, W, b, v, t, **options),
        "bind": lambda: KERNEL.vjp.bind(x, W, b, v, **options)(),
        "few": lambda: KERNEL.vjp(*draw.sample(arguments, draw.randrange(5)), **options),
    }
    name = draw.choice(list(calls))
    if name != "few" and draw.random() < 0.02:
        options["out"] = x  # overlaps an operand
    before = [each.tobytes() for each in good]
    try:
        result = calls[name]()
    except Exception:
        if not (target == 7).all():
            raise SystemExit(f"{name}: a refused call wrote into its result") from None
        result = None
    if [each.tobytes() for each in good] != before:
        raise SystemExit(f"{name}: an operand changed")
    arrays = [each for each in (x, W, b, v) if isinstance(each, np.ndarray)]
    checked = result is not None and not options and len(arrays) == 4 and name in ("forward", "vjp")
    if checked and not right(result, *arrays[:3], arrays[3] if name == "vjp" else None):
        raise SystemExit(f"{name}: a wrong result of {[(each.dtype, each.shape, each.strides) for each in arrays]}")
    return result is not None


def main(seed: int, seconds: float) -> None:
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    end, counts = time.monotonic() + seconds, [0, 0]
    while time.monotonic() < end:
        counts[call_once(draw, rng)] += 1
    print(f"{counts[1]} succeeded, {counts[0]} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
