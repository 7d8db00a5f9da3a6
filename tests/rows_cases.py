"""The kernels of kernels/rows.py: how to draw their inputs, and what they compute, by NumPy. Needs no Taichi."""

from __future__ import annotations

import numpy as np


def draw(name: str, size: int) -> tuple[list, np.random.Generator]:
    rng = np.random.default_rng([size, len(name)])
    if name == "move":
        return [rng.normal(size=(size, 3)), rng.normal(size=3), rng.integers(0, 3, size).astype(np.int32), 0.1, 5], rng
    if name == "shift":
        return [rng.normal(size=(size, 3)), rng.normal(size=3)], rng
    if name == "stretch":
        return [rng.normal(size=size), 1.5], rng
    if name == "bilinear":
        return [rng.normal(size=s).astype(np.float32) for s in ((4, 2, 2), (size, 4, 2))], rng
    if name == "tally":
        return [rng.uniform(0, 1, (size, 7))], rng
    return [rng.integers(0, 1 << 40, size), 251], rng


def expected(name: str, inputs: list) -> list[np.ndarray]:
    if name == "move":
        x, w, kind, dt, turns = inputs
        p = x
        for _ in range(turns):
            p = p + dt * np.stack([w[0] * p[:, 1], np.sin(p[:, 2]), w[kind] * p[:, 0]], 1)
        return [p, (p * x).sum(1) * w[2]]
    if name == "shift":
        return [2 * inputs[0] + inputs[1]]
    if name == "stretch":
        return [inputs[1] * inputs[0] ** 2]
    if name == "bilinear":
        M, x = (each.astype(np.float64) for each in inputs)
        return [np.exp(-np.einsum("bki,kij,bkj->bk", x, M, x))]
    if name == "tally":
        x = inputs[0]
        return [np.sin(x).sum(1), np.where(x[:, 0] > 0.5, x[:, 0] ** 2, 0)]
    return [(inputs[0] % inputs[1]).astype(np.uint8)]
