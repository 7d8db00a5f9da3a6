"""The case table: each shipped kernel with its float64 reference, sizes, and error bounds derived from the arithmetic.

A bound is worked out beside each value: a sum of k products of the size s has a rounding error of at most about k u s
with the unit roundoff u, and every further operation scales the error of what it is given and adds its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reference:
    """A float64 value and how far a result in the tested type may lie from it, element by element."""

    value: np.ndarray
    bound: np.ndarray

    def check(self, result: np.ndarray, what: str) -> None:
        assert result.shape == self.value.shape, what
        error = np.abs(result.astype(np.float64) - self.value)
        worst = np.unravel_index(np.argmax(error - self.bound), error.shape) if error.size else ()
        message = f"{what}: {result[worst] if error.size else None} at {worst}, bound {self.bound[worst]}"
        assert np.all(error <= self.bound), message


@dataclass(frozen=True)
class Case:
    """A kernel, how to draw its inputs for some sizes, and its references."""

    name: str
    inputs: Callable[[tuple[int, ...], np.dtype, np.random.Generator], list[np.ndarray]]
    cotangent: Callable[[list[np.ndarray], np.random.Generator], np.ndarray]
    forward: Callable[[list[np.ndarray]], Reference]
    vjp: Callable[[list[np.ndarray], np.ndarray], dict[str, Reference]]
    sizes: list[tuple[int, ...]]

    def draw(self, size: tuple[int, ...], dtype: np.dtype) -> tuple[list[np.ndarray], np.ndarray]:
        """Inputs and a cotangent of that size, the same each time."""
        rng = np.random.default_rng([ord(letter) for letter in self.name] + list(size))
        inputs = self.inputs(size, dtype, rng)
        return inputs, self.cotangent(inputs, rng)


def _dense_inputs(size: tuple[int, ...], dtype: np.dtype, rng: np.random.Generator) -> list[np.ndarray]:
    B, n, m = size
    scale = 1 / np.sqrt(n)
    return [
        rng.standard_normal((B, n)).astype(dtype),
        (rng.standard_normal((m, n)) * scale).astype(dtype),
        rng.standard_normal(m).astype(dtype),
    ]


def _dense_forward(inputs: list[np.ndarray]) -> Reference:
    u = np.finfo(inputs[0].dtype).eps
    x, W, b = (array.astype(np.float64) for array in inputs)
    n = x.shape[1]
    y = np.tanh(x @ W.T + b)
    error_z = (n + 2) * u * (np.abs(x) @ np.abs(W).T + np.abs(b))
    return Reference(y, error_z + 2 * u)  # |tanh'| <= 1, and the function's own 1.5 ULP


def _dense_vjp(inputs: list[np.ndarray], v: np.ndarray) -> dict[str, Reference]:
    u = np.finfo(inputs[0].dtype).eps
    forward = _dense_forward(inputs)
    x, W, _ = (array.astype(np.float64) for array in inputs)
    v = v.astype(np.float64)
    B, m = v.shape
    y = forward.value
    d = (1 - y * y) * v
    error_d = np.abs(v) * (2 * np.abs(y) * forward.bound + forward.bound**2 + 3 * u)
    return {
        "x": Reference(d @ W, error_d @ np.abs(W) + (m + 1) * u * (np.abs(d) @ np.abs(W))),
        "W": Reference(d.T @ x, error_d.T @ np.abs(x) + (B + 1) * u * (np.abs(d).T @ np.abs(x))),
        "b": Reference(d.sum(0), error_d.sum(0) + (B + 1) * u * np.abs(d).sum(0)),
    }


DENSE_TANH = Case(
    "dense_tanh",
    _dense_inputs,
    lambda inputs, rng: rng.standard_normal((inputs[0].shape[0], inputs[1].shape[0])).astype(inputs[0].dtype),
    _dense_forward,
    _dense_vjp,
    [
        # The unrolled variants: nothing, one, around a vector, around a block (128 or more rows), several chunks.
        *[(B, 8, 4) for B in (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 127, 128, 129, 255, 257, 5000)],
        *[(B, 4, 4) for B in (1, 9, 300)],
        *[(B, 8, 8) for B in (1, 9, 300)],
        # The tiled one: around the fewest rows that are packed, a block of 64, the limit of 512; ragged tiles.
        *[(B, 31, 33) for B in (0, 1, 2, 7, 8, 9, 63, 64, 65, 511, 512, 513, 1100)],
        *[(20, n, n) for n in (1, 2, 3, 15, 16, 17, 30, 31, 32, 33, 64)],
        *[(3, n, m) for n in (1, 5, 31, 64) for m in (1, 4, 5, 33)],
        (70, 1000, 30),
        (5, 30, 1000),
        (1, 256, 256),
        (9, 1000, 1000),
    ],
)

CASES = [DENSE_TANH]


# The first results that the project promised, drawn by torch.manual_seed(42) in the order W, b, x, v.
SEED_RESULT = np.array(
    [
        [0.40772447, 0.85730678, 0.18844506, 0.31153518, -0.23295417, -0.08521497, -0.24905279, 0.5076037],
        [-1.31211734, 0.4779858, -0.65214491, -1.96736133, -0.38303438, -0.48829293, -0.42431751, -0.01537222],
    ]
)


def seed_inputs() -> list[np.ndarray]:
    """x, W, b and v; needs torch."""
    import torch

    torch.manual_seed(42)
    W, b, x, v = (torch.randn(shape) for shape in ((4, 8), (4,), (2, 8), (2, 4)))
    return [array.numpy() for array in (x, W, b, v)]
