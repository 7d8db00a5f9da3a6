"""Kernels on float16: conversions bit by bit at every CPU level, values and gradients beside float64."""

from __future__ import annotations

from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "half.py"
EPSILON = 2.0**-11  # half a unit in the last place of numbers from 1 to 2


@pytest.fixture(scope="module")
def half_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.exported(SOURCE, tmp_path_factory.mktemp("half") / "half.so")


@pytest.fixture
def half(half_path: Path, cpu_level: str) -> tiaot.Module:
    return tiaot.open(half_path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_conversions_are_those_of_the_standard(half: tiaot.Module) -> None:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    exact = every.astype(np.float32)
    finite = np.isfinite(exact)
    for nudge in (0, -1, 1):  # halves, ties between them, and the numbers beside those
        for scale in (1, 1 + 2.0**-11, 1 + 2.0**-12):
            numbers = np.where(finite, exact * np.float32(scale), exact)
            numbers = np.nextafter(numbers, np.float32(nudge * np.inf)) if nudge else numbers
            wide, narrow = half.convert(every, numbers.astype(np.float32))
            assert np.array_equal(wide, exact, equal_nan=True)
            assert np.array_equal(np.signbit(wide), np.signbit(exact))
            wanted = numbers.astype(np.float16)
            same = (narrow.view(np.uint16) == wanted.view(np.uint16)) | (np.isnan(narrow) & np.isnan(wanted))
            assert same.all()
    extreme = np.array(
        [3.4e38, -3.4e38, 65519.99, 65520, 2.0**-25, 2.0**-25 * 1.001, -(2.0**-24) * 1.5, 1e-45], np.float32
    )
    narrow = half.convert(np.zeros(len(extreme), np.float16), extreme)[1]
    assert np.array_equal(narrow.view(np.uint16), extreme.astype(np.float16).view(np.uint16))


def test_values_and_gradients(half: tiaot.Module) -> None:
    x = np.linspace(-4, 4, 601).astype(np.float16)
    wide = x.astype(np.float64)
    tanh = np.tanh(wide)
    shift = np.array(0.5, np.float16)
    # A few roundings of numbers up to 4.5, each of half a unit in the last place.
    np.testing.assert_allclose(half.curve(x, shift), tanh * wide + 0.5, rtol=0, atol=4 * 4 * EPSILON)
    gradient = half.curve.vjp(x, shift, np.ones_like(x))
    np.testing.assert_allclose(gradient, (1 - tanh**2) * wide + tanh, rtol=0, atol=8 * EPSILON)
    assert np.array_equal(half.curve(x, 0.5), half.curve(x, shift))
    pairs = np.stack([x, x[::-1]], 1)
    wanted = (pairs.astype(np.float64) ** 2).sum(1) + np.maximum(wide, wide[::-1])
    np.testing.assert_allclose(half.lengths(pairs), wanted, rtol=0, atol=40 * 4 * EPSILON)
    gradient = half.lengths.vjp(pairs, np.ones_like(x))
    middle = 300  # where both are 0, either is the larger
    wanted = 2 * pairs.astype(np.float64) + (pairs == pairs.max(1, keepdims=True))
    keep = np.arange(601) != middle
    np.testing.assert_allclose(gradient[keep], wanted[keep], rtol=0, atol=9 * 2 * EPSILON)


def test_with_a_batch(half: tiaot.Module) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.uniform(-1, 1, 70000).astype(np.float16), rng.uniform(-1, 1, 5).astype(np.float16)
    y = half.row(x, w, num_threads=1)
    np.testing.assert_allclose(y, x.astype(np.float64) * w.astype(np.float64).sum(), rtol=0, atol=10 * 4 * EPSILON)
    assert y.tobytes() == half.row(x, w, num_threads=3).tobytes()
    few = x[:100]
    gradient = half.row.vjp(few, w, np.ones_like(few), wrt="w")
    np.testing.assert_allclose(gradient, np.full(5, few.astype(np.float64).sum()), rtol=0, atol=100 * 16 * EPSILON)
