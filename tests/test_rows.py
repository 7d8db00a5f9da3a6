"""Kernels with a batch that cpu/rows.py does not take: vectors, numbers by value, several element types, updates."""

from __future__ import annotations

from pathlib import Path

import module_files
import numpy as np
import pytest
import tiaot
from rows_cases import draw, expected
from whole_cases import outputs

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "rows.py"
SIZES = [0, 1, 2, 31, 32, 33, 600, 70000]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    return tiaot.open(module_files.exported(SOURCE, tmp_path_factory.mktemp("rows") / "rows.so"))


@pytest.mark.parametrize("name", ["move", "shift", "bilinear", "stretch", "wrap", "tally"])
@pytest.mark.parametrize("size", SIZES)
def test_values(rows: tiaot.Module, name: str, size: int) -> None:
    inputs, _ = draw(name, size)
    copies = [np.copy(each) for each in inputs]
    for result, value in zip(outputs(rows.kernels[name], inputs), expected(name, inputs), strict=True):
        # In float32 the exponent, of order 10, is rounded.
        tolerance = 3e-5 if name == "bilinear" else 1e-13
        np.testing.assert_allclose(result, value, rtol=tolerance, atol=tolerance)
    for each, copy in zip(inputs, copies, strict=True):
        assert np.array_equal(each, copy)


@pytest.mark.parametrize("name", ["move", "shift", "stretch", "tally"])
@pytest.mark.parametrize("size", [1, 33, 70000])
def test_gradients_agree_with_finite_differences(rows: tiaot.Module, name: str, size: int) -> None:
    kernel = rows.kernels[name]
    inputs, rng = draw(name, size)
    cotangents = [rng.normal(size=each.shape) for each in outputs(kernel, inputs)]
    for place, argument in enumerate(["x", "w"] if name == "move" else ["x"]):
        gradient = kernel.vjp(*inputs, *cotangents, wrt=argument)
        direction = rng.normal(size=gradient.shape)
        sides = []
        for sign in (1, -1):
            moved = [each + sign * 1e-6 * direction if i == place else each for i, each in enumerate(inputs)]
            sides.append(sum((v * y).sum() for v, y in zip(cotangents, outputs(kernel, moved), strict=True)))
        scale = np.abs(gradient * direction).sum() + sum(np.abs(v).sum() for v in cotangents)
        assert abs((gradient * direction).sum() - (sides[0] - sides[1]) / 2e-6) <= 1e-8 * scale, argument


@pytest.mark.parametrize("k", [3, 4])
def test_gradients_of_matrices(rows: tiaot.Module, k: int) -> None:
    rng = np.random.default_rng(k)
    M, x, v = (rng.normal(size=s).astype(np.float32) for s in ((k, 2, 2), (500, k, 2), (500, k)))
    gradient_M, gradient_x = rows.bilinear.vjp(M, x, v, wrt=("M", "x"))
    y = np.exp(-np.einsum("bki,kij,bkj->bk", x, M, x, dtype=np.float64))
    np.testing.assert_allclose(
        gradient_M, -np.einsum("bk,bki,bkj->kij", v * y, x, x), rtol=1e-4, atol=1e-4 * np.abs(v * y).max()
    )
    symmetric = M + M.transpose(0, 2, 1)
    np.testing.assert_allclose(
        gradient_x, -(v * y)[..., None] * np.einsum("kij,bkj->bki", symmetric, x), rtol=1e-4, atol=1e-3
    )


@pytest.mark.parametrize("name", ["move", "shift", "bilinear", "stretch", "wrap", "tally"])
def test_results_are_the_same_bits_for_any_number_of_threads(rows: tiaot.Module, name: str) -> None:
    kernel = rows.kernels[name]
    inputs, rng = draw(name, 70000)
    once = outputs(kernel, inputs, num_threads=1)
    for one, many in zip(once, outputs(kernel, inputs, num_threads=3), strict=True):
        assert one.tobytes() == many.tobytes()
    if name == "move":
        cotangents = [rng.normal(size=each.shape) for each in once]
        pairs = (kernel.vjp(*inputs, *cotangents, wrt=("x", "w"), num_threads=t) for t in (1, 3))
        for one, many in zip(*pairs, strict=True):
            assert one.tobytes() == many.tobytes()


def test_jacobian(rows: tiaot.Module) -> None:
    inputs, _ = draw("move", 5)
    jacobian = rows.move.jacobian(*inputs)[0]
    for column in range(3):
        h = 1e-6 * np.eye(3)[column]
        slope = (
            expected("move", [inputs[0] + h, *inputs[1:]])[0] - expected("move", [inputs[0] - h, *inputs[1:]])[0]
        ) / 2e-6
        np.testing.assert_allclose(jacobian[:, :, column], slope, atol=1e-8)


def test_the_gate_has_seen_them(rows: tiaot.Module) -> None:
    for each in rows.info()["kernels"]:
        assert "verified at" in each["verification"] and "forward from the JIT" in each["verification"], each["name"]
        assert ("vjp from finite differences" in each["verification"]) == (each["name"] != "wrap")
