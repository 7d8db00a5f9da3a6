"""Slopes: the derivative of a function in float64 along a line, by extrapolated differences, and how far it is off.

Several steps tell a smooth function from a kink or a jump: there the differences approach one value as fast as their
series says, here they do not, or one side's are not the other's, and the error is large.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# Of a direction as large as the point. Each is about a quarter of the one before, but no power of 2: jumps at regular
# places would look alike at two of those. And of few bits, so that a step of few bits from a point is no rounding.
STEPS = (61 / 2**13, 59 / 2**15, 53 / 2**17, 51 / 2**19, 47 / 2**21, 43 / 2**23)
_EPSILON = float(np.finfo(np.float64).eps)

Function = Callable[[float], list[np.ndarray]]


@dataclass(frozen=True)
class Slope:
    """The derivative of each element of one array, and how far it may be off; infinity where it is not known."""

    value: np.ndarray
    error: np.ndarray
    still: np.ndarray  # no step changes it


def slopes(function: Function, steps: Sequence[float] = STEPS) -> list[Slope]:
    """The derivative of `function(step)` at 0, of each array that it returns.

    Args:
        steps: at least 4, each smaller than the one before.
    """
    here = [_flat(array) for array in function(0.0)]
    sides = [([_flat(a) for a in function(step)], [_flat(a) for a in function(-step)]) for step in steps]
    return [
        _slope(here[place], [ahead[place] for ahead, _ in sides], [behind[place] for _, behind in sides], steps)
        for place in range(len(here))
    ]


def _flat(array: np.ndarray) -> np.ndarray:
    return np.array(array, np.float64).reshape(-1)


def _slope(here: np.ndarray, ahead: list[np.ndarray], behind: list[np.ndarray], steps: Sequence[float]) -> Slope:
    if here.size == 0:
        return Slope(here, here, here == here)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.maximum.reduce([np.abs(array) for array in (here, *ahead, *behind)])
        central = [(a - b) / (2 * step) for a, b, step in zip(ahead, behind, steps, strict=True)]
        noise = 4 * (_EPSILON * size + _noise(here, ahead, behind, steps, size))
        rounding = [noise / step for step in steps]
        values, errors = _extrapolate(central, steps, rounding)
        place = errors.argmin(0)[None]
        value = np.take_along_axis(values, place, 0)[0]
        # The least of many estimates is too small by luck; the second least is so twice over.
        error = 2 * np.partition(errors, 1, 0)[1]
        # What no step changes either does not depend on this, or less than its own rounding shows.
        still = np.logical_and.reduce([array == here for array in (*ahead, *behind)])
        value, error = np.where(still, 0.0, value), np.where(still, _EPSILON * size / steps[0], error)
    known = np.isfinite(value) & np.isfinite(error) & np.isfinite(here)
    return Slope(np.where(known, value, 0.0), np.where(known, error, np.inf), still)


def _extrapolate(
    central: list[np.ndarray], steps: Sequence[float], rounding: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """All values of Neville's table of central differences but the first column, and how far each may be off."""
    values, errors = [], []
    column = central
    for order in range(1, len(central)):
        following = []
        for place in range(1, len(column)):
            level = place + order - 1
            finer, coarser = column[place], column[place - 1]
            better = finer + (finer - coarser) / ((steps[level - order] / steps[level]) ** 2 - 1)
            following.append(better)
            error = np.maximum(np.abs(better - finer), np.abs(better - coarser)) + rounding[level]
            values.append(better)
            errors.append(np.where(np.isnan(error), np.inf, error))
        column = following
    return np.array(values), np.array(errors)


def _noise(
    here: np.ndarray, ahead: list[np.ndarray], behind: list[np.ndarray], steps: Sequence[float], size: np.ndarray
) -> np.ndarray:
    """How far each element is off by rounding inside of the function, seen in its even differences at small steps.

    A kink at the very point shows there too, and makes the error as large as itself.
    What the second derivative adds to them cancels between two steps; what the fourth adds is less than a double shows.
    """
    even = [(ahead[k] + behind[k] - 2 * here, steps[k] ** 2) for k in (-3, -2, -1)]
    left = [np.abs(a * (narrow / wide) - b) for (a, wide), (b, narrow) in itertools.pairwise(even)]
    noise = np.maximum(*left)
    part = noise / np.where(size > 0, size, 1.0)
    part = part[np.isfinite(part)]
    # An element may show none by luck: it is taken to have as much as three quarters of the others.
    return np.maximum(noise, size * (np.quantile(part, 0.75) if part.size else 0.0))
