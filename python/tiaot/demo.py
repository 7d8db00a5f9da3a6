"""`tiaot demo`: the vjp of two samples through the shipped layer, next to torch's and NumPy's. Needs NumPy only."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import timeit
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import __version__, load

_TOLERANCE = 5e-6  # float32, a few dozen roundings of numbers of order 1

# What torch 2.13 draws on the CPU after torch.manual_seed(42) with torch.randn for W (4, 8), b (4), x (2, 8) and
# v (2, 4), in this order. The digits give each float32 back exactly.
_DRAWN: dict[str, list[Any]] = {
    "W": [
        [1.9269153, 1.4872841, 0.9007172, -2.105521, 0.67841846, -1.2345449, -0.043067478, -1.604667],
        [-0.7521353, 1.648723, -0.39247864, -1.4036071, -0.7278813, -0.5594302, -0.7688389, 0.7624454],
        [1.6423169, -0.15959747, -0.49739754, 0.43958926, -0.75813115, 1.0783176, 0.80080056, 1.6806206],
        [1.2791244, 1.2964228, 0.6104665, 1.3347378, -0.23162432, 0.04175949, -0.2515753, 0.8598585],
    ],
    "b": [1.3221351, 0.81718975, -0.7658386, -0.75062233],
    "x": [
        [0.034912344, 0.321103, 1.5736002, -0.84546745, 1.3123076, 0.6871596, -1.0891753, -0.35528663],
        [-1.41806, 0.8962683, 0.049905386, 2.266718, 1.1789509, -0.4344544, -1.3863655, -1.2862155],
    ],
    "v": [[-0.049903348, 0.52633697, -0.008498823, 0.7290606], [0.13314196, 0.8639777, -1.0156747, -0.8887485]],
}


def inputs() -> dict[str, NDArray[np.float32]]:
    """x (2, 8), W (4, 8), b (4,) and v (2, 4), float32, as in the torch program that this reproduces."""
    return {name: np.array(_DRAWN[name], dtype=np.float32) for name in ("x", "W", "b", "v")}


def by_hand(x: NDArray[Any], W: NDArray[Any], b: NDArray[Any], v: NDArray[Any]) -> NDArray[Any]:
    """J^T v of tanh(x W^T + b), (B, n), in the dtype of the arguments."""
    return ((1 - np.tanh(x @ W.T + b) ** 2) * v) @ W


def difference() -> float:
    """The largest difference between what tiaot computes for inputs() and the float64 value. Raises what a call may."""
    arrays = inputs()
    gx = load("dense_tanh").vjp(*arrays.values())
    return float(np.abs(gx - by_hand(*(a.astype(np.float64) for a in arrays.values()))).max())


def _draw(torch: Any) -> dict[str, Any]:
    """The inputs as tensors, drawn afresh."""
    torch.manual_seed(42)
    W, b, x, v = (torch.randn(*shape, dtype=torch.float32) for shape in ((4, 8), (4,), (2, 8), (2, 4)))
    return {"x": x, "W": W, "b": b, "v": v}


def _torch_paths(torch: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """torch's ways to the same number: the full Jacobian (B, m, B, n) contracted with v, and one reverse pass."""
    x, W, b, v = tensors.values()

    def layer(x: Any) -> Any:
        return torch.tanh(x @ W.T + b)

    def full_jacobian() -> Any:
        jacobian = torch.autograd.functional.jacobian(layer, x)
        return torch.einsum("im,imkn->kn", v, jacobian)

    def autograd() -> Any:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(layer(leaf), leaf, v)[0]

    return {"torch autograd": autograd, "torch, full Jacobian": full_jacobian}


def _medians(timers: dict[str, timeit.Timer]) -> dict[str, float]:
    """Microseconds a call, the timers taken in turn so that a slow moment of the machine hits all alike."""
    numbers = {}
    for name, timer in timers.items():
        once = min(timer.repeat(3, 1))
        numbers[name] = max(1, min(10000, int(1e-3 / once)))
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(25):
        for name, timer in timers.items():
            samples[name].append(timer.timeit(numbers[name]) / numbers[name] * 1e6)
    return {name: statistics.median(values) for name, values in samples.items()}


def _row(label: str, values: NDArray[Any]) -> str:
    return f"  {label:<8}" + "".join(f"{float(value):13.8f}" for value in values)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`tiaot demo` has none."""


def run(_: argparse.Namespace) -> int:
    """Prints the numbers and the times. 1 when a number is off by more than the tolerance, otherwise 0."""
    kernel = load("dense_tanh")
    arrays, torch, paths = inputs(), None, {}
    print(f"tiaot {__version__}, {kernel.name} on {kernel.module.cpu_level}: {kernel.signature}")
    if importlib.util.find_spec("torch") is not None:
        import torch

        tensors = _draw(torch)
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        paths = _torch_paths(torch, tensors)
        print("J^T v for B=2, n=8, m=4, float32, inputs drawn by torch.manual_seed(42)")
    else:
        print("J^T v for B=2, n=8, m=4, float32, inputs as torch.manual_seed(42) draws them")
        print("torch is not installed: compared with NumPy in float64 only")

    out = np.empty_like(arrays["x"])
    call = kernel.vjp.bind(*arrays.values(), out=out)
    gx = kernel.vjp(*arrays.values())
    expected = {"float64": by_hand(*(a.astype(np.float64) for a in arrays.values()))}
    if torch is not None:
        expected = {"torch": paths["torch, full Jacobian"]().numpy(), **expected}
    for i, values in enumerate(gx):
        print(f"\nsample {i}")
        print(_row("tiaot", values))
        for name, value in expected.items():
            print(_row(name, value[i]))

    print("\nlargest difference")
    right = True
    for name, value in expected.items():
        off = float(np.abs(gx - value).max())
        right = right and off <= _TOLERANCE  # not so for NaN either
        print(f"  to {name:<8} {off:.1e}{'' if off <= _TOLERANCE else f'  WRONG: more than {_TOLERANCE:.0e}'}")

    names = {"kernel": kernel, "call": call, "by_hand": by_hand, "out": out, **arrays}
    expressions = {
        "tiaot, bound": "call()",
        "tiaot": "kernel.vjp(x, W, b, v, out=out)",
        "NumPy by hand": "by_hand(x, W, b, v)",
    }
    timers = {name: timeit.Timer(expression, globals=names) for name, expression in expressions.items()}
    timers.update((name, timeit.Timer(path)) for name, path in paths.items())
    print("\ntime a call (median)")
    for name, median in _medians(timers).items():
        print(f"  {name:<22}{median:10.2f} us")
    return 0 if right else 1
