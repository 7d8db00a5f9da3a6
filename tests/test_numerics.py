"""The numbers of the shipped kernels: against float64, torch, Taichi's JIT and finite differences; by level."""

import mmap
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiaot
from cases import CASES, DENSE_TANH, SEED_RESULT, Case, seed_inputs
from numerics import Arrays, check, check_all

MAP_NORESERVE = 0x4000  # of Linux; the mmap module names it from Python 3.13 on
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_results_lie_within_the_bounds(case: Case, dtype: np.dtype) -> None:
    check_all(case, dtype)


def test_results_lie_within_the_bounds_at_every_level(cpu_level: str) -> None:
    script = Path(__file__).with_name("numerics.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"checked at {cpu_level}"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(2, 8, 4), (300, 4, 4), (129, 8, 8)])
def test_autodiff_agrees_with_the_written_gradient(size: tuple[int, ...], dtype: np.dtype) -> None:
    unrolled = tiaot.load("dense_tanh")
    variant = f"{dtype.name}_n{size[1]}_m{size[2]}"
    check(DENSE_TANH, unrolled.restrict(variant=variant), size, dtype, Arrays())
    check(DENSE_TANH, unrolled.restrict(variant=f"{dtype.name}_dynamic"), size, dtype, Arrays())


def test_the_seed_numbers() -> None:
    pytest.importorskip("torch")
    x, W, b, v = seed_inputs()
    result = tiaot.load("dense_tanh").vjp(x, W, b, v)
    assert np.abs(result - SEED_RESULT).max() <= 5e-6
    x, W, b, v = (array.astype(np.float64) for array in (x, W, b, v))
    exact = ((1 - np.tanh(x @ W.T + b) ** 2) * v) @ W
    assert np.abs(result - exact).max() <= 5e-7


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(1, 8, 4), (2, 8, 4), (3, 1, 1), (2, 31, 33), (20, 5, 7)])
def test_vjp_and_jacobian_agree_with_torch(size: tuple[int, ...], dtype: np.dtype) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(size)
    inputs = DENSE_TANH.inputs(size, dtype, rng)
    cotangent = DENSE_TANH.cotangent(inputs, rng)
    kernel = tiaot.load("dense_tanh")
    tensors = [torch.from_numpy(array) for array in inputs]
    full = torch.autograd.functional.jacobian(lambda x, W, b: torch.tanh(x @ W.T + b), tuple(tensors))
    # d y[B, m] / d x[B, n] of different samples is zero: ours is the diagonal over the batch.
    diagonal = torch.diagonal(full[0], dim1=0, dim2=2).permute(2, 0, 1).numpy()
    scale = np.finfo(dtype).eps * (size[1] + 8)
    ours = kernel.jacobian(*inputs, wrt=("x", "W", "b"))
    for result, theirs in zip(ours, (diagonal, full[1].numpy(), full[2].numpy()), strict=True):
        assert result.shape == theirs.shape
        assert np.abs(result - theirs).max() <= scale * max(1, np.abs(theirs).max())
    contracted = torch.einsum("bi,bixk->xk", torch.from_numpy(cotangent), full[0]).numpy()
    DENSE_TANH.vjp(inputs, cotangent)["x"].check(contracted, "torch")
    assert np.abs(kernel.vjp(*inputs, cotangent) - contracted).max() <= scale * size[2] * np.abs(cotangent).max()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [(5, 8, 4), (3, 5, 6), (20, 3, 3)])
def test_results_agree_with_taichis_jit(size: tuple[int, ...], dtype: np.dtype, tmp_path: Path) -> None:
    pytest.importorskip("taichi")
    rng = np.random.default_rng(size)
    inputs = DENSE_TANH.inputs(size, dtype, rng)
    cotangent = DENSE_TANH.cotangent(inputs, rng)
    data = tmp_path / "data.npz"
    np.savez(data, **dict(zip("xWb", inputs, strict=True)), v=cotangent)
    script = Path(__file__).with_name("taichi_reference.py")
    subprocess.run([sys.executable, script, data], check=True, capture_output=True)
    kernel = tiaot.load("dense_tanh")
    with np.load(data) as jit:
        forward, references = DENSE_TANH.forward(inputs), DENSE_TANH.vjp(inputs, cotangent)
        pairs = [(kernel(*inputs), jit["y"], forward.bound)]
        for name, gradient in zip("xWb", kernel.vjp(*inputs, cotangent, wrt=("x", "W", "b")), strict=True):
            pairs.append((gradient, jit[f"grad_{name}"], references[name].bound))
        for ours, theirs, bound in pairs:
            assert (np.abs(ours.astype(float) - theirs) <= 2 * bound).all()  # each may be off by the bound


@pytest.mark.parametrize("size", [(3, 8, 4), (2, 5, 6), (40, 33, 17)])
def test_vjp_agrees_with_finite_differences(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(size)
    inputs = DENSE_TANH.inputs(size, np.dtype(np.float64), rng)
    cotangent = DENSE_TANH.cotangent(inputs, rng)
    kernel = tiaot.load("dense_tanh")
    gradients = kernel.vjp(*inputs, cotangent, wrt=("x", "W", "b"))
    step = 1e-5  # the central difference is off by step^2 |y'''| / 6 <= step^2 / 3 for each of the m terms
    for index, gradient in enumerate(gradients):
        direction = rng.standard_normal(gradient.shape)
        ahead, behind = (list(inputs), list(inputs))
        ahead[index] = inputs[index] + step * direction
        behind[index] = inputs[index] - step * direction
        slope = np.sum(cotangent * (kernel(*ahead) - kernel(*behind))) / (2 * step)
        scale = np.abs(cotangent).sum() * np.abs(direction).max() ** 3 * size[1] ** 1.5
        assert abs(np.sum(gradient * direction) - slope) <= step**2 * scale


@pytest.mark.parametrize("size", [(300, 8, 4), (1200, 8, 4), (70000, 4, 4), (1030, 31, 33), (2100, 64, 32)])
def test_results_are_the_same_bits_for_any_number_of_threads(size: tuple[int, ...]) -> None:
    rng = np.random.default_rng(size)
    inputs = DENSE_TANH.inputs(size, np.dtype(np.float32), rng)
    cotangent = DENSE_TANH.cotangent(inputs, rng)
    kernel = tiaot.load("dense_tanh")
    wrt = ("x", "W", "b")
    once = [kernel(*inputs, num_threads=1), *kernel.vjp(*inputs, cotangent, wrt=wrt, num_threads=1)]
    for threads in (2, 7):
        again = [kernel(*inputs, num_threads=threads), *kernel.vjp(*inputs, cotangent, wrt=wrt, num_threads=threads)]
        for one, many in zip(once, again, strict=True):
            assert one.tobytes() == many.tobytes()


def test_infinities_and_nans_pass_through() -> None:
    kernel = tiaot.load("dense_tanh")
    for variant in ("float32_n8_m4", "float32_dynamic"):
        x = np.zeros((3, 8), np.float32)
        x[0, 0], x[1, 1] = np.inf, np.nan
        W = np.zeros((4, 8), np.float32)
        W[:, 0] = W[:, 1] = 1
        y = kernel.restrict(variant=variant)(x, W, np.zeros(4, np.float32))
        assert (y[0] == 1).all() and np.isnan(y[1]).all() and (y[2] == 0).all()


def test_a_batch_of_more_than_2_31_elements() -> None:
    """x and the cotangent are sparse memory, zero but for three samples, two of them beyond element 2^31."""
    n, m = 4, 4
    B = (1 << 29) + 5000
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    x, v = (np.frombuffer(mmap.mmap(-1, B * 16, flags=flags), np.float32).reshape(B, 4) for _ in range(2))
    assert x.size > 1 << 31
    rng = np.random.default_rng(0)
    W, b = rng.standard_normal((m, n)).astype(np.float32), rng.standard_normal(m).astype(np.float32)
    rows = [77, (1 << 29) + 3, B - 1]
    for row in rows:
        x[row], v[row] = rng.standard_normal((2, 4))
    reference = DENSE_TANH.vjp([x[rows], W, b], v[rows])
    grad_W, grad_b = tiaot.load("dense_tanh").vjp(x, W, b, v, wrt=("W", "b"))
    reference["W"].check(grad_W, "gradient of W")
    reference["b"].check(grad_b, "gradient of b")
