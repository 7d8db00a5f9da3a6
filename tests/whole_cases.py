"""The kernels of kernels/whole.py: how to draw their inputs, and what they compute, by NumPy. Needs no Taichi."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tiaot

# The inputs of each kernel, for a size.
DRAWN: dict[str, Callable[[int, np.random.Generator], list]] = {
    "step": lambda n, rng: [*rng.standard_normal((2, n, 3)), 0.1],
    "recurrence": lambda n, rng: [rng.uniform(-1, 1, n), 40],
    "scatter": lambda n, rng: [
        rng.standard_normal(n),
        rng.integers(0, n // 4 + 1, n).astype(np.int32),
        rng.standard_normal(n),
    ],
    "weigh": lambda n, rng: [rng.standard_normal((n, 4)), rng.standard_normal(4)],
    "histogram": lambda n, rng: [rng.integers(0, 256, n).astype(np.uint8)],
    "transform": lambda n, rng: [rng.standard_normal((n, 2, 3)), rng.standard_normal((n, 3)), rng.standard_normal(2)],
    "stencil": lambda n, rng: [rng.uniform(0, 2, (n, 7))],
    "functions": lambda n, rng: [rng.uniform(-0.9, 0.9, n)],
    "noise": lambda n, rng: [rng.standard_normal(n), 3],
    "clipped": lambda n, rng: [rng.uniform(-3, 3, n)],
    "folded": lambda n, rng: [rng.standard_normal(n)],
    "windowed": lambda n, rng: [rng.standard_normal(n).astype(np.float32), n // 5, n],
    "cube": lambda n, rng: [rng.standard_normal((n, 2, 3))],
    "wide": lambda n, rng: [rng.integers(-(1 << 40), 1 << 40, n)],
    "collatz": lambda n, rng: [rng.integers(0, 1000, n).astype(np.int32)],
    "serial": lambda n, rng: [rng.standard_normal(min(n, 600))],
    "algebra": lambda n, rng: [rng.uniform(-1, 1, (n, 3))],
    "bare": lambda n, rng: [rng.standard_normal(n), np.array(0.5)],
}
GRADIENTS = {
    "step": ("x", "v"),
    "recurrence": ("x",),
    "scatter": ("x", "width"),
    "weigh": ("x", "w"),
    "transform": ("A", "x"),
    "functions": ("x",),
    "folded": ("x",),
    "cube": ("x",),
    "serial": ("x",),
    "algebra": ("x",),
    "bare": ("x", "weight"),
}


def outputs(kernel: tiaot.Kernel, inputs: list, **options: int) -> list[np.ndarray]:
    results = kernel(*inputs, **options)
    return list(results) if isinstance(results, tuple) else [results]


def draw(name: str, n: int) -> tuple[list, np.random.Generator]:
    rng = np.random.default_rng([n, len(name)])
    return DRAWN[name](n, rng), rng


def expected(name: str, inputs: list) -> list[np.ndarray]:
    """What each kernel computes, by NumPy."""
    if name == "step":
        x, v, dt = inputs
        moved = x + dt * v
        return [moved, np.array([0.5 * (v * v).sum() + np.sqrt(1 + (moved**2).sum(1)).sum()])]
    if name == "recurrence":
        x, turns = inputs
        p = x
        for _ in range(turns):
            p = np.sin(p) + x * p
        return [p]
    if name == "scatter":
        x, place, width = inputs
        y = width**2
        np.add.at(y, place, x * width[place])
        return [y]
    if name == "weigh":
        return [np.sin(inputs[0] * inputs[1]).sum(1)]
    if name == "histogram":
        return [np.bincount(inputs[0] % 8, minlength=8)]
    if name == "transform":
        A, x, scale = inputs
        y = scale * np.einsum("nij,nj->ni", A, x)
        return [y, (y * y).sum(1) * x[:, 0]]
    if name == "stencil":
        (u,) = inputs
        value = np.where(u < 1, (1 - u) ** 3, 0)
        padded = np.pad(value, 1, "edge") if u.size else np.zeros((2, 9))
        rows, columns = u.shape
        total = sum(padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
        return [total, np.array((u < 1).sum())]
    if name == "functions":
        (a,) = inputs
        b = np.abs(a) + 0.25
        y = np.sqrt(b) + b**1.5 + np.arctan2(a, b) + np.arcsin(a / (1 + b)) + np.arccos(a / (1 + b)) + np.exp(a)
        y += np.log(b) + np.tanh(a) + np.maximum(a, 0.125) * np.minimum(a, 0.25) + np.floor(a) * 0.5 + np.ceil(a)
        return [y + 1 / np.sqrt(b)]
    if name == "clipped":
        return [np.clip(inputs[0], -1, 1)]
    if name == "folded":
        (x,) = inputs
        half = x[::2] * np.append(x[1::2], x[-1:])[: (len(x) + 1) // 2]
        return [np.repeat(half * half, 2)[: len(x)]]
    if name == "cube":
        return [(inputs[0] ** 2).sum(1).T]
    if name == "wide":
        return [inputs[0] * 100003 + 7]
    if name == "collatz":
        return [np.array([_collatz(int(value) + 1) for value in inputs[0]], np.int32)]
    if name == "bare":
        return [inputs[0] * inputs[1], np.array((inputs[0] ** 2 * inputs[1]).sum())]
    if name == "serial":
        return [np.cumsum(inputs[0])]
    if name == "algebra":
        return [_algebra(inputs[0])]
    if name == "windowed":
        x, first, stop = inputs
        return [np.array([(x[first:stop].astype(np.float64) ** 2).sum()])]
    raise AssertionError(name)


def _collatz(value: int) -> int:
    count = 0
    while value != 1:
        value, count = value // 2 if value % 2 == 0 else 3 * value + 1, count + 1
    return count


def _algebra(x: np.ndarray) -> np.ndarray:
    y = np.empty((len(x), 2))
    for i, v in enumerate(x):
        M = np.array([[3 + v[0], v[1]], [v[2], 4 - v[0]]])
        w = np.linalg.inv(M) @ v[1:]
        c = np.cross(v, [v[2], 1, v[0]])
        y[i] = np.sqrt(w @ w + np.float32(1e-3)) + np.linalg.det(M), c @ (v + 1) / (1 + v @ v)
    return y
