"""Integers: divisions by 0, shifts by too much and conversions of numbers out of range have the results that are
documented, at every CPU level, in loops and in the range of a loop."""

from __future__ import annotations

from pathlib import Path

import cuda_export
import numpy as np
import pytest
import tiaot
from kernel_cases import draw

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

LEAST, MOST = -(2**31), 2**31 - 1


@pytest.fixture(scope="module")
def path() -> Path:
    return cuda_export.exported_path("integers")


@pytest.fixture
def module(path: Path, cpu_level: str) -> tiaot.Module:
    return tiaot.open(path)


def test_divisions_have_the_documented_results(module: tiaot.Module) -> None:
    a = np.array([7, -7, LEAST, 0, 5, LEAST, 7, -7, LEAST], np.int32)
    b = np.array([0, 0, -1, 0, -1, 1, 2, 2, 0], np.int32)
    floored, modulo, truncated, remainder = module.divide(a, b)
    assert floored.tolist() == [0, -1, LEAST, 0, -5, LEAST, 3, -4, -1]
    assert modulo.tolist() == [7, -7, 0, 0, 0, 0, 1, 1, LEAST]
    assert truncated.tolist() == [0, 0, LEAST, 0, -5, LEAST, 3, -3, 0]
    assert remainder.tolist() == [7, -7, 0, 0, 0, 0, 1, -1, LEAST]


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_a_number_is_quotient_times_divisor_and_remainder(module: tiaot.Module, n: int) -> None:
    a, b = draw("integers", "divide", n)
    floored, modulo, truncated, remainder = module.divide(a, b)
    with np.errstate(over="ignore"):
        assert np.array_equal(b * floored + modulo, a)
        assert np.array_equal(b * truncated + remainder, a)
    usual = (b != 0) & (b != -1)
    assert np.array_equal(floored[usual], a[usual] // b[usual])
    assert np.array_equal(modulo[usual], a[usual] % b[usual])


def test_shifts_by_any_amount_have_the_documented_results(module: tiaot.Module) -> None:
    a = np.array([1, -1, 1, -5, 7, 7, -1, 9], np.int32)
    b = np.array([32, 40, -1, 31, 0, 3, -3, MOST], np.int32)
    left, right, unsigned = module.shift(a, b)
    assert left.tolist() == [0, 0, 0, LEAST, 7, 56, 0, 0]
    assert right.tolist() == [0, -1, 0, -1, 7, 0, -1, 0]
    assert unsigned.tolist() == [0, 0, 0, 1, 7, 0, 0, 0]


@pytest.mark.parametrize("n", [9, 64, 1001])
def test_numbers_out_of_range_become_the_nearest_integers(module: tiaot.Module, n: int) -> None:
    x, y = draw("integers", "truncate", n)
    for result, given, bits in zip(module.truncate(x, y), (x, y, x, y), (32, 32, 64, 64), strict=True):
        least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        exact = [0 if np.isnan(g) else least if g < least else most if g > most else int(g) for g in given.tolist()]
        assert result.tolist() == exact


def test_a_range_that_is_divided_by_0_is_empty(module: tiaot.Module) -> None:
    x = np.arange(1, 6, dtype=np.float32)
    assert module.first_part(x, 0).tolist() == [0] * 5
    assert module.first_part(x, 2).tolist() == [1, 2, 0, 0, 0]
