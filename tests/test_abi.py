"""Module files of earlier ABI versions, kept in modules/: every runtime since opens them.

abi5.tiaot.so is, exported as `kept.py`:

    vectors = ti.types.ndarray(ti.f64, ndim=2)

    @kernel("x[n, k], scale -> y[n, k]")
    @ti.kernel
    def square(x: vectors, scale: ti.f64, y: vectors):
        for i, j in x:
            y[i, j] = scale * x[i, j] * x[i, j]
"""

from pathlib import Path

import numpy as np
import pytest
import tiaot

KEPT = sorted((Path(__file__).parent / "modules").glob("abi*.tiaot.so"))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_kept_modules_open_and_calculate(path: Path) -> None:
    module = tiaot.open(path)
    assert (module.name, list(module.kernels)) == ("kept", ["square"])
    assert path.name == f"abi{module.info()['abi_version']}.tiaot.so"
    x, v = np.random.default_rng(0).standard_normal((2, 70, 3))
    np.testing.assert_allclose(module.square(x, 1.5), 1.5 * x * x, rtol=1e-15)
    np.testing.assert_allclose(module.square.vjp(x, 1.5, v), 3 * x * v, rtol=1e-15)


def test_one_is_kept() -> None:
    assert KEPT
