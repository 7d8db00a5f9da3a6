"""What is computed: sizes, tasks, inputs, the float64 reference and the error allowed. Knows no peer and no clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# (B, n, m): calls where all is call cost, the small layer in bulk, then matrix products.
SIZES = (
    (2, 8, 4),
    (1024, 8, 4),
    (262144, 8, 4),
    (65536, 32, 32),
    (1024, 64, 64),
    (16384, 128, 128),
    (8192, 256, 256),
    (1, 256, 256),
)
# A task is the tuple of arguments whose gradients are wanted.
TASKS = {"x": ("x",), "xWb": ("x", "W", "b")}
PRODUCTS = {"x": 2, "xWb": 3}  # matrix products in each
LEAST_PRODUCT = 32  # sizes from which on a layer is told as a share of the machine's peak; smaller ones wait for memory


@dataclass(frozen=True)
class Case:
    """One vjp of y = tanh(x W^T + b): a size, what it is taken with respect to, and an element type."""

    B: int
    n: int
    m: int
    task: str
    dtype: str = "float32"

    @property
    def size(self) -> str:
        return f"{self.B}x{self.n}x{self.m}"

    @property
    def wrt(self) -> tuple[str, ...]:
        return TASKS[self.task]

    @property
    def work(self) -> int:
        """Multiply-adds of one matrix product."""
        return self.B * self.n * self.m


@dataclass(frozen=True)
class Inputs:
    """x (B, n), W (m, n), b (m,), v (B, m), all of the case's dtype."""

    x: NDArray
    W: NDArray
    b: NDArray
    v: NDArray


def parse_size(text: str) -> tuple[int, int, int]:
    """'1024x8x4' -> (1024, 8, 4). Raises ValueError."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):
        raise ValueError(f"a size is BxNxM, three positive numbers such as 1024x8x4, not '{text}'")
    return int(parts[0]), int(parts[1]), int(parts[2])


def make_inputs(case: Case) -> Inputs:
    """Normal numbers; W is scaled so that tanh is not saturated at any n."""
    rng = np.random.default_rng(42)
    draw = rng.standard_normal
    x, v = draw((case.B, case.n)), draw((case.B, case.m))
    W, b = draw((case.m, case.n)) / np.sqrt(case.n), draw(case.m)
    dtype = np.dtype(case.dtype)
    return Inputs(x.astype(dtype), W.astype(dtype), b.astype(dtype), v.astype(dtype))


def _sum_error(eps: float, length: int) -> float:
    """Relative to the sum of magnitudes: rounding errors add up like a random walk; 8 deviations are allowed."""
    return 8 * eps * np.sqrt(length + 1)


def reference(case: Case, inputs: Inputs) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """The gradients in float64, and for each of their elements the error allowed to a peer that computes in case.dtype.

    The bound follows the computation: z = x W^T + b, y = tanh(z) to 8 ulp, 1 - y^2 with its cancellation, times v,
    then the sums over m (for x) or over B (for W and b). For float64 the reference's own error is of the same size and
    is covered by the same bound.
    """
    x, W, b, v = (np.asarray(a, dtype=np.float64) for a in (inputs.x, inputs.W, inputs.b, inputs.v))
    eps = float(np.finfo(case.dtype).eps)
    z = x @ W.T + b
    z_error = _sum_error(eps, case.n) * (np.abs(x) @ np.abs(W.T) + np.abs(b))
    y = np.tanh(z)
    slope = 1 / np.cosh(z) ** 2
    y_error = slope * z_error + 8 * eps * np.abs(y)
    g = slope * v
    g_error = np.abs(v) * (2 * np.abs(y) * y_error + 2 * eps)
    values, allowed = {}, {}
    values["x"] = g @ W
    allowed["x"] = (g_error + _sum_error(eps, case.m) * np.abs(g)) @ np.abs(W)
    if "W" in case.wrt:
        g_error = g_error + _sum_error(eps, case.B) * np.abs(g)
        values["W"], allowed["W"] = g.T @ x, g_error.T @ np.abs(x)
        values["b"], allowed["b"] = g.sum(0), g_error.sum(0)
    return values, allowed


def check(case: Case, results: tuple[NDArray, ...], expected: tuple[dict[str, NDArray], dict[str, NDArray]]) -> str:
    """'' when every gradient is right, otherwise what is wrong, in one line."""
    values, allowed = expected
    if len(results) != len(case.wrt):
        return f"gave {len(results)} results, not {len(case.wrt)}"
    for name, result in zip(case.wrt, results, strict=True):
        value = values[name]
        if result.shape != value.shape or result.dtype != case.dtype:
            return f"gradient of {name}: expected {case.dtype}{value.shape}, got {result.dtype}{result.shape}"
        error = np.abs(result - value)
        if not np.all(error <= allowed[name]):  # not so for NaN either
            worst = float(np.max(error / allowed[name]))
            return f"gradient of {name}: off by {np.max(error):.1e}, {worst:.1f} times what is allowed"
    return ""
