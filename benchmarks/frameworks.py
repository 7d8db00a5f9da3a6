"""What it costs to call the kernel from torch and from JAX, beside the NumPy call and each framework's own layer.

    python -m tiaot.benchmarks.frameworks [--json FILE]

At the size of the demo (B=2, n=8, m=4, float32), one thread. Results are checked first; the statements of one framework
are timed in turn, in one process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import timeit
from pathlib import Path
from typing import Any

import numpy as np

from .measure import measure
from .report import aligned, environment, number

_SECONDS = 6.0
_CLOSE = 1e-5  # float32, sums of eight products of order 1


def _arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(42)
    shapes = {"x": (2, 8), "W": (4, 8), "b": (4,), "v": (2, 4)}
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def _check(names: dict[str, Any], statements: dict[str, tuple[str, str]]) -> None:
    """Raises RuntimeError where a statement's value is not that of the NumPy call of the same kind."""
    arrays = {name: value.astype(np.float64) for name, value in _arrays().items()}
    x, W, b, v = arrays.values()
    y = np.tanh(x @ W.T + b)
    d = (1 - y * y) * v
    expected = {"forward": (y,), "gradients": (d @ W, d.T @ x, d.sum(0))}
    for title, (kind, statement) in statements.items():
        value = eval(statement, names)
        results = value if isinstance(value, (tuple, list)) else (value,)
        for result, right in zip(results, expected[kind], strict=True):
            found = np.asarray(result.detach() if hasattr(result, "detach") else result)
            if not np.abs(found - right).max() <= _CLOSE:
                raise RuntimeError(f"{title} is wrong")


def _numpy() -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    import tiaot

    names = {"kernel": tiaot.load("dense_tanh"), "every": ("x", "W", "b"), **_arrays()}
    return names, {
        "NumPy call, forward": ("forward", "kernel(x, W, b)"),
        "NumPy call, vjp": ("gradients", "kernel.vjp(x, W, b, v, wrt=every)"),
    }


def _torch() -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    import tiaot.torch
    import torch

    torch.set_num_threads(1)
    names, statements = _numpy()
    tensors = {f"t{name}": torch.from_numpy(value) for name, value in _arrays().items()}
    leaves = {f"g{name}": torch.from_numpy(value).requires_grad_() for name, value in _arrays().items()}
    names |= {"layer": tiaot.torch.load("dense_tanh"), "torch": torch, **tensors, **leaves}
    names["linear"] = torch.nn.functional.linear
    names["pull_back"] = lambda y: torch.autograd.grad(y, [leaves[f"g{n}"] for n in "xWb"], tensors["tv"])
    return names, statements | {
        "tiaot, no gradient": ("forward", "layer(tx, tW, tb)"),
        "torch, no gradient": ("forward", "torch.tanh(linear(tx, tW, tb))"),
        "tiaot, gradient recorded": ("forward", "layer(gx, gW, gb)"),
        "torch, gradient recorded": ("forward", "torch.tanh(linear(gx, gW, gb))"),
        "tiaot, forward and backward": ("gradients", "pull_back(layer(gx, gW, gb))"),
        "torch, forward and backward": ("gradients", "pull_back(torch.tanh(linear(gx, gW, gb)))"),
        "torch with @, forward and backward": ("gradients", "pull_back(torch.tanh(gx @ gW.T + gb))"),
    }


def _jax() -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    import jax
    import tiaot.jax
    from jax import numpy as jnp

    names, statements = _numpy()
    kernel = tiaot.jax.load("dense_tanh")

    def native(x: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.tanh(x @ W.T + b)

    names |= {f"j{name}": jnp.asarray(value) for name, value in _arrays().items()}
    for name, function in (("ours", kernel), ("theirs", native)):
        names[name] = jax.jit(lambda x, W, b, f=function: f(x, W, b))
        names[f"{name}_vjp"] = jax.jit(lambda x, W, b, v, f=function: jax.vjp(f, x, W, b)[1](v))
    names["wait"] = jax.block_until_ready
    return names, statements | {
        "tiaot in jit, forward": ("forward", "wait(ours(jx, jW, jb))"),
        "jax.numpy in jit, forward": ("forward", "wait(theirs(jx, jW, jb))"),
        "tiaot in jit, vjp": ("gradients", "wait(ours_vjp(jx, jW, jb, jv))"),
        "jax.numpy in jit, vjp": ("gradients", "wait(theirs_vjp(jx, jW, jb, jv))"),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tiaot.benchmarks.frameworks", description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write every number to FILE")
    arguments = parser.parse_args(argv)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    about = environment()
    versions = [f"{name} {version}" for name, version in about["packages"].items()]
    print(", ".join([about["cpu"], f"Python {about['python']}", *versions]))
    found: dict[str, Any] = {"environment": about}
    for framework, prepare in (("torch", _torch), ("jax", _jax)):
        if importlib.util.find_spec(framework) is None:
            print(f"\n{framework} is not installed")
            continue
        names, statements = prepare()
        _check(names, statements)
        timers = {title: timeit.Timer(statement, globals=names) for title, (_, statement) in statements.items()}
        times = found[framework] = measure(timers, _SECONDS)
        base = {kind: times[f"NumPy call, {kind}"]["us"] for kind in ("forward", "vjp")}
        rows = [["", "us a call", "over the NumPy call"]]
        for title, (kind, _) in statements.items():
            over = times[title]["us"] - base["forward" if kind == "forward" else "vjp"]
            rows.append([title, number(times[title]["us"]), f"{over:+.2f}"])
        print("", *aligned(rows), sep="\n")
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
