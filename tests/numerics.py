"""Checks of whole results, by tests in this process and by tests that run them in another (`python numerics.py`)."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import tiaot
from cases import CASES, Case

GUARD = 64  # elements of a known value on both sides of every array
_KNOWN = 77


class Arrays:
    """Arrays that kernels are called with, each with guards around it: here NumPy's."""

    def full(self, size: int, value: int, dtype: np.dtype) -> Any:
        """Memory for that many elements."""
        return np.full(size, value, dtype)

    def view(self, memory: Any, shape: tuple[int, ...]) -> Any:
        """The array of a shape that lies in the memory, behind the guard."""
        first = GUARD + self.shift
        return memory[first : first + int(np.prod(shape))].reshape(shape)

    def write(self, array: Any, values: np.ndarray) -> None:
        array[...] = values

    def read(self, array: Any) -> np.ndarray:
        """The content, for NumPy, once all work on it is done."""
        return np.asarray(array)

    # ---- the same for all

    def __init__(self, shift: int = 0) -> None:
        """With a `shift` arrays start so many elements after where they are aligned to more than their elements."""
        self.shift = shift
        self._memory: dict[int, tuple[Any, Any]] = {}

    def put(self, values: np.ndarray) -> Any:
        memory = self.full(values.size + 2 * GUARD + self.shift, _KNOWN, values.dtype)
        array = self.view(memory, values.shape)
        if values.size:
            self.write(array, values)
        self._memory[id(array)] = array, memory
        return array

    def room(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An array for a result, of NaN or 99."""
        return self.put(np.full(shape, np.nan if np.dtype(dtype).kind == "f" else np.dtype(dtype).type(99), dtype))

    def guards_hold(self, array: Any) -> bool:
        memory = self.read(self._memory[id(array)][1])
        before, behind = memory[: GUARD + self.shift], memory[len(memory) - GUARD :]
        return bool((before == _KNOWN).all() and (behind == _KNOWN).all())

    def forget(self) -> None:
        """Gives up all arrays."""
        self._memory.clear()


def check(case: Case, kernel: tiaot.Kernel, size: tuple[int, ...], dtype: np.dtype, arrays: Arrays) -> None:
    """Forward and every vjp of a kernel at one size: results within bounds, inputs and guards untouched."""
    inputs, cotangent = case.draw(size, dtype)
    given = [arrays.put(each) for each in (*inputs, cotangent)]
    label = f"{kernel.name} {np.dtype(dtype).name} {size}"

    y = arrays.room(cotangent.shape, dtype)
    assert kernel(*given[:-1], out=y) is y
    case.forward(inputs).check(arrays.read(y), f"{label} forward")
    assert arrays.guards_hold(y), f"{label} forward: wrote outside of its result"

    references = case.vjp(inputs, cotangent)
    shapes = dict(zip(references, (array.shape for array in inputs), strict=True))
    for count in range(1, len(references) + 1):
        for wrt in itertools.combinations(references, count):
            results = {name: arrays.room(shapes[name], dtype) for name in wrt}
            kernel.vjp(*given, wrt=wrt, out=tuple(results.values()))
            for name, array in results.items():
                references[name].check(arrays.read(array), f"{label} vjp {wrt}: gradient of {name}")
                assert arrays.guards_hold(array), f"{label} vjp {wrt}: wrote outside of the gradient of {name}"

    for array, copy in zip(given, (*inputs, cotangent), strict=True):
        assert arrays.read(array).tobytes() == copy.tobytes(), f"{label}: an input was written to"
        assert arrays.guards_hold(array), f"{label}: wrote beside an input"
    arrays.forget()


def check_all(case: Case, dtype: np.dtype) -> None:
    kernel = tiaot.load(case.name)
    for size in case.sizes:
        check(case, kernel, size, dtype, Arrays())


if __name__ == "__main__":
    for each, kind in itertools.product(CASES, (np.float32, np.float64)):
        check_all(each, np.dtype(kind))
    print("checked at", tiaot.load(CASES[0].name).module.cpu_level, file=sys.stdout)
