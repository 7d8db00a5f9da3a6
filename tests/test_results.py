"""Where large results lie: in memory that an earlier one has left, within limits, and never in two at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiaot

LARGE = 1 << 15  # samples whose gradient of x has 1 MiB
MOST = 16 * LARGE
KEPT = 64 << 20  # bytes that are kept at most
OLD = 64  # large results after which a block that nobody took is given up


@pytest.fixture(scope="module")
def gradient() -> Callable[[int], np.ndarray]:
    """The gradient of x of so many samples, of inputs that are there all the time."""
    kernel = tiaot.load("dense_tanh")
    rng = np.random.default_rng(0)
    x, W, b, v = (rng.standard_normal(shape, np.float32) for shape in ((MOST, 8), (4, 8), (4,), (MOST, 4)))
    return lambda B: kernel.vjp(x[:B], W, b, v[:B])


def mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


def test_a_large_result_takes_the_memory_of_one_that_is_gone(gradient) -> None:
    first = gradient(4 * LARGE)
    expected, where = first.copy(), first.ctypes.data
    assert first.flags.owndata and first.flags.writeable and where % 4096 == 0
    again = gradient(4 * LARGE)
    assert again.ctypes.data != where
    np.testing.assert_array_equal(again, expected)
    del first
    third = gradient(4 * LARGE - 7)  # a little smaller
    assert third.ctypes.data == where
    np.testing.assert_array_equal(again, expected)
    other = gradient(2 * LARGE)
    assert other.ctypes.data not in (where, again.ctypes.data)


def test_a_view_keeps_the_memory(gradient) -> None:
    view = gradient(LARGE)[5:7]
    expected = view.copy()
    others = [gradient(LARGE) for _ in range(3)]
    np.testing.assert_array_equal(view, expected)
    assert not any(np.shares_memory(view, other) for other in others)


def test_a_large_result_can_be_resized(gradient) -> None:
    result = gradient(LARGE)
    expected = result.copy()
    result.resize((5 * LARGE, 8), refcheck=False)
    np.testing.assert_array_equal(result[:LARGE], expected)
    assert not result[LARGE:].any()
    result.resize((3, 8), refcheck=False)
    np.testing.assert_array_equal(result, expected[:3])


def test_memory_is_given_back(gradient) -> None:
    before = mapped_bytes()
    results = [gradient(MOST) for _ in range(6)]
    size = results[0].nbytes
    assert mapped_bytes() - before >= 6 * size > KEPT + size
    del results
    kept = mapped_bytes() - before
    assert size <= kept <= KEPT + size / 2
    for _ in range(OLD + 2):
        gradient(LARGE)
    assert mapped_bytes() - before < size
