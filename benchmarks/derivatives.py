"""What derivatives along a tangent cost: jvp beside the forward call and hvp beside the vjp, of tiaot, JAX and torch.

    python -m tiaot.benchmarks.derivatives [--threads 1|2] [--seconds S] [--json FILE]

The layer y = tanh(W x + b) in float32, with respect to x, with open sizes: tiaot's `dense_tanh` on NumPy arrays with
results of its own, `jax.jit` of the same formula with `jax.jvp` (forward over reverse for the hvp), and `torch.func`.
With `--threads N` the process keeps to N CPUs, before any library is loaded. Results are checked in float64 first; the
statements of a size are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import timeit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .measure import measure
from .report import aligned, environment, number

SIZES = ((2, 8, 4), (1024, 8, 4), (262144, 8, 4), (65536, 32, 32), (8192, 256, 256))
KINDS = ("forward", "jvp", "vjp", "hvp")
_ROUNDINGS = 64  # of float32, in a sum of n products of order 1: times the square root of n

Statements = dict[str, Callable[[], Any]]


def _arrays(B: int, n: int, m: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(42)
    shapes = {"x": (B, n), "W": (m, n), "b": (m,), "v": (B, m), "t": (B, n)}
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    arrays["W"] /= np.float32(np.sqrt(n))
    return arrays


def _expected(x: np.ndarray, W: np.ndarray, b: np.ndarray, v: np.ndarray, t: np.ndarray) -> dict[str, np.ndarray]:
    """The result of each kind in float64: y, dy, the gradient of x, and its derivative along t."""
    y = np.tanh(x @ W.T + b)
    slope, moved = 1 - y * y, t @ W.T
    return {"forward": y, "jvp": slope * moved, "vjp": slope * v @ W, "hvp": -2 * y * slope * moved * v @ W}


def _tiaot(arrays: dict[str, np.ndarray]) -> Statements:
    import tiaot

    kernel = tiaot.load("dense_tanh").restrict("float32_dynamic")
    x, W, b, v, t = arrays.values()
    return {
        "forward": lambda: kernel(x, W, b),
        "jvp": lambda: kernel.jvp(x, W, b, t, wrt="x")[1],
        "vjp": lambda: kernel.vjp(x, W, b, v, wrt="x"),
        "hvp": lambda: kernel.hvp(x, W, b, v, t, wrt="x")[1],
    }


def _jax(arrays: dict[str, np.ndarray]) -> Statements:
    import jax
    import jax.numpy as jnp

    x, W, b, v, t = map(jnp.asarray, arrays.values())

    def layer(x: Any, W: Any, b: Any) -> Any:
        return jnp.tanh(x @ W.T + b)

    def vjp(x: Any, W: Any, b: Any, v: Any) -> Any:
        return jax.vjp(lambda x: layer(x, W, b), x)[1](v)[0]

    forward, backward = jax.jit(layer), jax.jit(vjp)
    jvp = jax.jit(lambda x, W, b, t: jax.jvp(lambda x: layer(x, W, b), (x,), (t,)))
    hvp = jax.jit(lambda x, W, b, v, t: jax.jvp(lambda x: vjp(x, W, b, v), (x,), (t,)))
    return {
        "forward": lambda: forward(x, W, b).block_until_ready(),
        "jvp": lambda: jax.block_until_ready(jvp(x, W, b, t))[1],
        "vjp": lambda: backward(x, W, b, v).block_until_ready(),
        "hvp": lambda: jax.block_until_ready(hvp(x, W, b, v, t))[1],
    }


def _torch(arrays: dict[str, np.ndarray]) -> Statements:
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    x, W, b, v, t = map(torch.from_numpy, arrays.values())

    def layer(x: Any) -> Any:
        return torch.tanh(torch.nn.functional.linear(x, W, b))

    def vjp(x: Any) -> Any:
        return torch.func.vjp(layer, x)[1](v)[0]

    return {
        "forward": lambda: layer(x),
        "jvp": lambda: torch.func.jvp(layer, (x,), (t,))[1],
        "vjp": lambda: vjp(x),
        "hvp": lambda: torch.func.jvp(vjp, (x,), (t,))[1],
    }


_PEERS = {"tiaot": ("tiaot", _tiaot), "jax": ("jax.jit", _jax), "torch": ("torch.func", _torch)}


def _check(title: str, statements: Statements, expected: dict[str, np.ndarray], n: int) -> None:
    """Raises RuntimeError where a result is not right."""
    for kind, run in statements.items():
        found = np.asarray(run())
        allowed = _ROUNDINGS * np.sqrt(n) * np.finfo(np.float32).eps * max(1.0, float(np.abs(expected[kind]).max()))
        if found.shape != expected[kind].shape or not np.abs(found - expected[kind]).max() <= allowed:
            raise RuntimeError(f"{kind} of {title} is wrong")


def run(seconds: float) -> list[dict[str, Any]]:
    """For each size and peer the microseconds of every kind."""
    peers = {title: make for module, (title, make) in _PEERS.items() if importlib.util.find_spec(module)}
    rows = []
    for size in SIZES:
        arrays = _arrays(*size)
        expected = _expected(*(each.astype(np.float64) for each in arrays.values()))
        timers = {}
        for title, make in peers.items():
            statements = make(arrays)
            _check(title, statements, expected, size[1])
            timers |= {f"{title} {kind}": timeit.Timer(run) for kind, run in statements.items()}
        times = measure(timers, seconds)
        for title in peers:
            rows.append({"size": size, "peer": title, **{kind: times[f"{title} {kind}"]["us"] for kind in KINDS}})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Microseconds, and what a derivative takes as a multiple of what it is the derivative of."""
    head = ["B, n, m", "", *(f"{kind} us" for kind in KINDS), "jvp / forward", "hvp / vjp"]
    lines = [
        [
            ", ".join(map(str, row["size"])),
            row["peer"],
            *(number(row[kind]) for kind in KINDS),
            f"{row['jvp'] / row['forward']:.2f}",
            f"{row['hvp'] / row['vjp']:.2f}",
        ]
        for row in rows
    ]
    return "\n".join(aligned([head, *lines]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=1, help="CPUs that the process keeps to (default: 1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring, for each size")
    parser.add_argument("--json", help="a file to write the numbers to")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    rows = run(arguments.seconds)
    print(f"{arguments.threads} CPU" + "s" * (arguments.threads > 1))
    print(table(rows))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
