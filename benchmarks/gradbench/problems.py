"""The problems: their inputs, from seeds, in sizes of the suite, and how near gradients have to be. Knows no peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """One row of the table.

    The gradient is that of the sum of all outputs, of the last alone for the differential equation; for bundle
    adjustment it is the Jacobian of each observation's two errors, by its camera, its point and its weight.
    """

    name: str  # of the kernel and of its file
    title: str
    wrt: tuple[str, ...]
    make: Callable[[np.random.Generator, bool], Inputs]
    # Relative to the largest element. 1e-12, and more where the problem itself magnifies rounding.
    tolerance: float = 1e-12

    def inputs(self, quick: bool) -> Inputs:
        """By name, in the order of the kernel's signature."""
        return self.make(np.random.default_rng(42), quick)


def _log_sum_exp(rng: np.random.Generator, quick: bool) -> Inputs:
    return {"x": rng.uniform(-1, 1, 10_000 if quick else 1_000_000)}


def _least_squares(rng: np.random.Generator, quick: bool) -> Inputs:
    return {"x": rng.standard_normal(16 if quick else 128), "n": 512 if quick else 4096}


def _gaussian_mixture(rng: np.random.Generator, quick: bool) -> Inputs:
    n, d, k = (100, 4, 5) if quick else (1000, 10, 25)
    return {
        "alpha": rng.standard_normal(k),
        "mean": rng.standard_normal((k, d)),
        "factor": 0.5 * rng.standard_normal((k, d * (d + 1) // 2)),
        "x": rng.standard_normal((n, d)),
        "gamma": 1.0,
        "m": 0.5,
    }


def _k_means(rng: np.random.Generator, quick: bool) -> Inputs:
    n, k, d = (100, 10, 4) if quick else (1000, 100, 10)
    return {"point": rng.standard_normal((n, d)), "centre": rng.standard_normal((k, d))}


def _bundle_adjustment(rng: np.random.Generator, quick: bool) -> Inputs:
    n, m, p = (5, 50, 300) if quick else (49, 7776, 31843)
    cameras = np.concatenate(
        [
            0.2 * rng.standard_normal((n, 3)),
            np.array([0, 0, -5]) + 0.2 * rng.standard_normal((n, 3)),
            500 + 50 * rng.standard_normal((n, 1)),
            rng.standard_normal((n, 2)),
            0.01 * rng.standard_normal((n, 2)),
        ],
        1,
    )
    return {
        "cameras": cameras,
        "points": rng.uniform(-1, 1, (m, 3)),
        "seen": np.stack([rng.integers(0, n, p), rng.integers(0, m, p)], 1).astype(np.int32),
        "weight": rng.uniform(0.5, 1, p),
        "feature": 50 * rng.standard_normal((p, 2)),
    }


def _long_short_term_memory(rng: np.random.Generator, quick: bool) -> Inputs:
    layers, d, length = (2, 14, 32) if quick else (2, 14, 1024)
    shapes = {"weight": (layers, 4, d), "bias": (layers, 4, d), "extra": (3, d), "hidden": (layers, d)}
    shapes |= {"cell": (layers, d), "sequence": (length, d)}
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}


def _differential_equation(rng: np.random.Generator, quick: bool) -> Inputs:
    return {"x": rng.uniform(0.5, 1.5, 10 if quick else 20), "steps": 100}


def _determinant(rng: np.random.Generator, quick: bool) -> Inputs:
    n = 8 if quick else 50
    return {"A": rng.standard_normal((n, n)) / np.sqrt(n) + np.eye(n)}


PROBLEMS = (
    # Through the maximum goes 1 minus a sum of shares, which is 0 but for rounding, and which nobody by hand computes.
    Problem("log_sum_exp", "log-sum-exp", ("x",), _log_sum_exp, tolerance=1e-7),
    Problem("least_squares", "least squares", ("x",), _least_squares),
    Problem("gaussian_mixture", "Gaussian mixture", ("alpha", "mean", "factor"), _gaussian_mixture),
    Problem("k_means", "k-means", ("centre",), _k_means),
    Problem("bundle_adjustment", "bundle adjustment", ("camera", "point", "weight"), _bundle_adjustment),
    Problem("long_short_term_memory", "LSTM", ("weight", "bias", "extra"), _long_short_term_memory),
    Problem("differential_equation", "differential equation", ("x",), _differential_equation),
    Problem("determinant", "determinant", ("A",), _determinant),
)
