"""How to draw the inputs, for a size, of every kernel that ships, or is in tests/kernels or examples/kernels and has
code for CUDA. Knows no results: who uses it holds one way of running a kernel against another. Needs no Taichi."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import rows_cases
import whole_cases

Draw = Callable[[int, np.random.Generator], list]


def _rows(name: str, n: int, _: np.random.Generator) -> list:
    return rows_cases.draw(name, n)[0]


def _uniform(*shapes: tuple, dtype: type = np.float64, low: float = -1) -> Draw:
    """Arrays whose sizes are numbers, or expressions of the size n."""

    def draw(n: int, rng: np.random.Generator) -> list:
        return [rng.uniform(low, 1, [n if axis == "n" else axis for axis in shape]).astype(dtype) for shape in shapes]

    return draw


def _springs(n: int, rng: np.random.Generator) -> list:
    ends = [rng.integers(0, n + 1, n).astype(np.int32), rng.integers(n + 1, 2 * n + 2, n).astype(np.int32)]
    return [*rng.uniform(0, 1, (2, 2 * n + 2, 2)), *ends, rng.uniform(0, 1, n), 30.0, 0.01]


def _labelled(n: int, rng: np.random.Generator) -> list:
    return [rng.standard_normal((n, 7)).astype(np.float32), rng.integers(0, 7, n).astype(np.int32)]


def _dense(n: int, rng: np.random.Generator) -> list:
    """For an even size of the batch what is unrolled, for an odd one what is tiled."""
    k, m = (5, 6) if n % 2 else (8, 4)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((n, k), (m, k), (m,))]


_half = partial(_uniform, dtype=np.float16)
_single = partial(_uniform, dtype=np.float32)


def _on_one_side(n: int, rng: np.random.Generator) -> np.ndarray:
    """All positive, or all negative: a zero from elsewhere would be the least, or the most."""
    return rng.uniform(5, 6, n) if n % 2 else rng.uniform(-50, -11, n)


def _any_integers(n: int, rng: np.random.Generator) -> np.ndarray:
    """Of all int32, the least and 0 among them."""
    numbers = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    numbers[::3], numbers[1::5] = -(2**31), 0
    return numbers


def _any_numbers(n: int, rng: np.random.Generator) -> np.ndarray:
    """Of all magnitudes, some infinite or NaN."""
    numbers = rng.standard_normal(n) * 10.0 ** rng.integers(-3, 30, n)
    numbers[::7], numbers[1::7], numbers[2::7] = np.inf, -np.inf, np.nan
    return numbers


DRAWN: dict[str, dict[str, Draw]] = {
    "dense_tanh": {"dense_tanh": _dense},
    "whole": whole_cases.DRAWN,
    "rows": {name: partial(_rows, name) for name in ("move", "shift", "bilinear", "stretch", "wrap", "tally")},
    "half": {
        "convert": lambda n, rng: [rng.uniform(-1, 1, n).astype(np.float16), rng.uniform(-1, 1, n).astype(np.float32)],
        "curve": lambda n, rng: [*_half(("n",))(n, rng), 0.5],
        "lengths": _half(("n", 2)),
        "row": _half(("n",), (5,)),
    },
    "various": {
        "exponentials": lambda n, rng: _uniform(("n", 2, 3), (3,), dtype=(np.float32, np.float64)[n % 2])(n, rng),
        "smooth": _uniform(("n", 4)),
        "halved": _single(("n",)),
        "wrapped": lambda n, rng: [1001 * np.arange(n, dtype=np.float32).reshape(n, 1)],
        "product": lambda n, rng: [rng.uniform(-0.5, 0.5, (n, 40))],
    },
    "device": {
        "reduce_f32": lambda n, rng: [_on_one_side(n, rng).astype(np.float32)],
        "reduce_f64": lambda n, rng: [_on_one_side(n, rng)],
        "reduce_i32": lambda n, rng: [(_on_one_side(n, rng) * (1 << 15)).astype(np.int32)],
        "reduce_i64": lambda n, rng: [(_on_one_side(n, rng) * (1 << 45)).astype(np.int64)],
        "multiply": lambda n, rng: [rng.uniform(0.99, 1.01, n)],
        "extremes": _single(("n",)),
        "compact": lambda n, rng: [rng.integers(0, 1000, n).astype(np.int32)],
        "newton": lambda n, rng: [rng.uniform(0, 100, n)],
        "blur": _uniform(("n", 3, 2)),
        "search": lambda n, rng: [rng.uniform(0, 1, n), rng.uniform(0, 1.1, 70)],
        "energy": _uniform(("n",)),
        "in_blocks": _single(("n",)),
        "stack8": _uniform(("n",)),
        "stack40": _uniform(("n",)),
        "stack200": _single(("n",)),
        "part": lambda n, rng: [*_single(("n",))(n, rng), n // 5, n - n // 3],
        "gather": lambda n, rng: [*_single(("n",))(n, rng), rng.integers(0, max(n, 1), n)],
        "half_dot": _half(("n",), ("n",)),
    },
    "arcs": {"arcs": lambda n, rng: [rng.uniform(-0.9, 0.9, (n, 3))]},  # at 1 their slopes are infinite
    "derivatives": {
        "orbit": lambda n, rng: [rng.uniform(0.5, 1, (n, 2)), rng.uniform(-1, 1, (n, 2)), 20, 0.01],
        "newton": _uniform(("n",), low=0.1),
        "functions": _uniform(("n",)),
        "scatter": lambda n, rng: [
            rng.uniform(-1, 1, n),
            rng.integers(0, 5, n).astype(np.int32),
            rng.uniform(-1, 1, 5),
        ],
        "extent": _uniform(("n",)),
        "update": lambda n, rng: [*rng.uniform(-1, 1, (2, n)), 0.1],
        "recurrence": lambda n, rng: [rng.uniform(-1, 1, n), 20],
        "weigh": _uniform(("n", 5), (5,)),
        "layer": lambda n, rng: _uniform(("n", 3), (2, 3), dtype=(np.float32, np.float64)[n % 2])(n, rng),
    },
    "loops": {
        "square": _single(("n",)),
        "power": _uniform(("n",), (1,), low=0.1),
        "chain": lambda n, rng: [rng.uniform(-1, 1, min(n, 100))],
        "halve": lambda n, rng: _uniform(("n", 2), dtype=(np.float32, np.float64)[n % 2])(n, rng),
    },
    "integers": {
        "divide": lambda n, rng: [_any_integers(n, rng), _any_integers(n, rng) // (1 << 29)],
        "shift": lambda n, rng: [_any_integers(n, rng), rng.integers(-3, 40, n).astype(np.int32)],
        "truncate": lambda n, rng: [_any_numbers(n, rng).astype(np.float32), _any_numbers(n, rng)],
        "first_part": lambda n, rng: [rng.uniform(0, 1, n).astype(np.float32), n % 3],
    },
    "geometry": {
        "bezier": _uniform((4, 2), ("n",)),
        "arm": _uniform(("n", 3), (3,)),
        "render": lambda n, rng: [rng.uniform(-0.2, 0.2, (1, 3)), rng.uniform(0.5, 1, 1), rng.uniform(-1, -0.8, 1)],
        "normals": lambda n, rng: [np.zeros(n), 5],
        "call_price": lambda n, rng: [np.array([100.0]), np.array([0.2]), rng.standard_normal(n), 105.0, 0.05, 1.0],
    },
    "learning": {
        "cross_entropy": _labelled,
        "layer_norm": _single(("n", 10), (10,), (10,)),
        "perceptron": _uniform(("n", 4), (8, 4), (8,), (8,)),
    },
    "physics": {
        "spring_step": _springs,
        "gravity": lambda n, rng: [rng.uniform(0, 1, (min(n, 200), 3)), rng.uniform(0, 1, min(n, 200))],
        "heat_step": lambda n, rng: [rng.uniform(0, 1, (n, 7)), 0.2],
        "particles_to_grid": lambda n, rng: [rng.uniform(0, 1, (n, 2)), rng.standard_normal((n, 2))],
    },
}
RANDOM = {"noise", "normals"}  # whose numbers on a device are not those on the CPU


def draw(file: str, name: str, n: int) -> list:
    """The inputs of a kernel, the same each time."""
    return DRAWN[file][name](n, np.random.default_rng([n, len(name)]))
