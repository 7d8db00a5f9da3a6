"""Checks of whole results, by tests in this process and by tests that run them in another (`python numerics.py`)."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import tiaot
from cases import CASES, Case

GUARD = 64  # elements of a known value on both sides of every result


def guarded(shape: tuple[int, ...], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """(an array of NaN for a result, the memory that it lies in, with guards around it)."""
    size = int(np.prod(shape))
    memory = np.full(size + 2 * GUARD, 12345, dtype)
    result = memory[GUARD : GUARD + size].reshape(shape)
    result[...] = np.nan
    return result, memory


def guards_hold(memory: np.ndarray) -> bool:
    return bool((memory[:GUARD] == 12345).all() and (memory[len(memory) - GUARD :] == 12345).all())


def check(case: Case, kernel: tiaot.Kernel, size: tuple[int, ...], dtype: np.dtype) -> None:
    """Forward and every vjp of a kernel at one size: results within bounds, inputs and guards untouched."""
    inputs, cotangent = case.draw(size, dtype)
    before = [array.copy() for array in (*inputs, cotangent)]
    label = f"{kernel.name} {np.dtype(dtype).name} {size}"

    y, memory = guarded(cotangent.shape, dtype)
    assert kernel(*inputs, out=y) is y
    case.forward(inputs).check(y, f"{label} forward")
    assert guards_hold(memory), f"{label} forward: wrote outside of its result"

    references = case.vjp(inputs, cotangent)
    shapes = dict(zip(references, (array.shape for array in inputs), strict=True))
    for count in range(1, len(references) + 1):
        for wrt in itertools.combinations(references, count):
            results = {name: guarded(shapes[name], dtype) for name in wrt}
            kernel.vjp(*inputs, cotangent, wrt=wrt, out=tuple(array for array, _ in results.values()))
            for name, (array, memory) in results.items():
                references[name].check(array, f"{label} vjp {wrt}: gradient of {name}")
                assert guards_hold(memory), f"{label} vjp {wrt}: wrote outside of the gradient of {name}"

    for array, copy in zip((*inputs, cotangent), before, strict=True):
        assert array.tobytes() == copy.tobytes(), f"{label}: an input was written to"


def check_all(case: Case, dtype: np.dtype) -> None:
    kernel = tiaot.load(case.name)
    for size in case.sizes:
        check(case, kernel, size, dtype)


if __name__ == "__main__":
    for each, kind in itertools.product(CASES, (np.float32, np.float64)):
        check_all(each, np.dtype(kind))
    print("checked at", tiaot.load(CASES[0].name).module.cpu_level, file=sys.stdout)
