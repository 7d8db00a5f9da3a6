"""The example kernels: exported through the gate, their values against NumPy, and the loop that optimises through one.

Their gradients are held against Taichi's JIT and finite differences by the export itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tiaot.Kernel]:
    folder = tmp_path_factory.mktemp("zoo")
    kernels = {}
    for source in sorted((EXAMPLES / "kernels").glob("*.py")):
        kernels.update(tiaot.open(module_files.exported(source, folder / f"{source.stem}.so")).kernels)
    return kernels


def close(result: Any, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


def test_there_are_at_least_ten_and_each_was_verified(zoo: dict[str, tiaot.Kernel]) -> None:
    assert len(zoo) >= 10
    for name, kernel in zoo.items():
        about = next(each for each in kernel.module.info()["kernels"] if each["name"] == name)
        assert name == "normals" or "forward from the JIT" in about["verification"]
        gradients = [entry for variant in about["variants"] for entry in variant["entries"] if entry["kind"] == "vjp"]
        assert name == "normals" or (gradients and "vjp from finite differences" in about["verification"])


def test_springs(zoo: dict[str, tiaot.Kernel]) -> None:
    rng = np.random.default_rng(0)
    x, v = rng.uniform(0, 1, (2, 40, 2))
    first, second = rng.integers(0, 20, 90).astype(np.int32), rng.integers(20, 40, 90).astype(np.int32)
    rest, stiffness, dt = rng.uniform(0, 1, 90), 30.0, 0.01
    along = x[second] - x[first]
    length = np.sqrt((along**2).sum(1) + 1e-9)
    pull = (stiffness * (length - rest) / length)[:, None] * along
    force = np.zeros_like(x)
    np.add.at(force, first, pull)
    np.add.at(force, second, -pull)
    new_x, new_v = zoo["spring_step"](x, v, first, second, rest, stiffness, dt)
    close(new_v, v + dt * force, 1e-7)  # 1e-9 is a float32 in the kernel
    close(new_x, x + dt * new_v, 1e-12)


def test_gravity(zoo: dict[str, tiaot.Kernel]) -> None:
    rng = np.random.default_rng(1)
    x, mass = rng.uniform(0, 1, (50, 3)), rng.uniform(0, 1, 50)
    along = x[None] - x[:, None]
    inverse = 1 / np.sqrt((along**2).sum(2) + np.float32(0.01))
    close(zoo["gravity"](x, mass), ((mass * inverse**3)[..., None] * along).sum(1), 1e-10)


def test_heat(zoo: dict[str, tiaot.Kernel]) -> None:
    u = np.random.default_rng(2).uniform(0, 1, (30, 41))
    p = np.pad(u, 1, "edge")
    close(zoo["heat_step"](u, 0.2), u + 0.2 * (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] - 4 * u))
    w = u
    for _ in range(200):
        w = zoo["heat_step"](w, 0.2)
    assert abs(w.mean() - u.mean()) < 1e-12 and w.std() < u.std() / 5  # heat is kept, and spreads


def test_particles_to_grid(zoo: dict[str, tiaot.Kernel]) -> None:
    rng = np.random.default_rng(3)
    x, v = rng.uniform(0, 1, (200, 2)), rng.standard_normal((200, 2))
    mass, momentum = zoo["particles_to_grid"](x, v)
    at = x * 13 + 1
    base = (at - 0.5).astype(int)
    offset = at - base
    weights = np.stack([0.5 * (1.5 - offset) ** 2, 0.75 - (offset - 1) ** 2, 0.5 * (offset - 0.5) ** 2])
    expected = np.zeros((16, 16))
    for i in range(3):
        for j in range(3):
            np.add.at(expected, (base[:, 0] + i, base[:, 1] + j), weights[i, :, 0] * weights[j, :, 1])
    close(mass, expected)
    close(mass.sum(), 200)
    close(momentum.sum((0, 1)), v.sum(0))


def test_learning(zoo: dict[str, tiaot.Kernel]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    logits, label = rng.standard_normal((30, 7)).astype(np.float32), rng.integers(0, 7, 30).astype(np.int32)
    tensor = torch.from_numpy(logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(label).long(), reduction="none")
    close(zoo["cross_entropy"](logits, label), loss.detach().numpy(), 1e-6)
    loss.sum().backward()
    close(zoo["cross_entropy"].vjp(logits, label, np.ones(30, np.float32)), tensor.grad.numpy(), 1e-6)

    x, gain, bias, v = (rng.standard_normal(s).astype(np.float32) for s in ((20, 50), 50, 50, (20, 50)))
    tensors = [torch.from_numpy(each).requires_grad_() for each in (x, gain, bias)]
    y = torch.nn.functional.layer_norm(tensors[0], (50,), tensors[1], tensors[2])
    close(zoo["layer_norm"](x, gain, bias), y.detach().numpy(), 1e-5)
    y.backward(torch.from_numpy(v))
    for ours, theirs in zip(zoo["layer_norm"].vjp(x, gain, bias, v, wrt=("x", "gain", "bias")), tensors, strict=True):
        close(ours, theirs.grad.numpy(), 1e-4)

    x, W1, b1, W2 = (rng.standard_normal(s) for s in ((100, 4), (8, 4), 8, 8))
    close(zoo["perceptron"](x, W1, b1, W2), np.tanh(x @ W1.T + b1) @ W2)


def test_geometry(zoo: dict[str, tiaot.Kernel]) -> None:
    rng = np.random.default_rng(5)
    control, t = rng.standard_normal((4, 2)), rng.uniform(0, 1, 20)
    s = 1 - t
    basis = np.stack([s**3, 3 * s**2 * t, 3 * s * t**2, t**3], 1)
    close(zoo["bezier"](control, t), basis @ control)
    angle, length = rng.uniform(-2, 2, (70, 3)), rng.uniform(0.5, 1, 3)
    direction = angle.cumsum(1)
    tip = np.stack([(length * np.cos(direction)).sum(1), (length * np.sin(direction)).sum(1)], 1)
    close(zoo["arm"](angle, length), tip)


def test_render(zoo: dict[str, tiaot.Kernel]) -> None:
    centre, radius, floor = np.zeros((1, 3)), np.array([0.6]), np.array([-0.9])
    i, j = np.mgrid[:16, :24]
    ray = np.stack([(j - 11.5) / 12, (7.5 - i) / 12, np.full(i.shape, 1.5)], -1)
    ray /= np.sqrt((ray**2).sum(-1, keepdims=True))
    light = np.zeros(i.shape)
    for step in range(16):
        p = np.array([0, 0, -2.5]) + ray * (0.3 * step)
        sphere, plane = np.sqrt(((p - centre) ** 2).sum(-1)) - radius, p[..., 1] - floor
        light += np.exp(-8 * np.abs(-0.1 * np.log(np.exp(-sphere / 0.1) + np.exp(-plane / 0.1))))
    close(zoo["render"](centre, radius, floor), 0.3 * light, 1e-5)  # float32 in the kernel


def test_the_price_of_a_call(zoo: dict[str, tiaot.Kernel]) -> None:
    """A pipeline of two kernels: numbers from a seed, then the price and its gradient, against the formula."""
    from math import erf, exp, log, pi, sqrt

    spot, strike, rate, years, volatility = 100.0, 105.0, 0.03, 1.5, 0.25
    normal = zoo["normals"](np.empty(400_000), 7)
    arguments = (np.array([spot]), np.array([volatility]), normal, strike, rate, years)
    price = zoo["call_price"](*arguments)[0]
    delta, vega = zoo["call_price"].vjp(*arguments, np.ones(1), wrt=("spot", "volatility"))
    d1 = (log(spot / strike) + (rate + volatility**2 / 2) * years) / (volatility * sqrt(years))
    phi = lambda z: 0.5 * (1 + erf(z / sqrt(2)))  # noqa: E731
    exact = spot * phi(d1) - strike * exp(-rate * years) * phi(d1 - volatility * sqrt(years))
    # Standard errors of 400,000 paths: about 40 / 632 for the price, less for the others.
    assert abs(price - exact) < 0.3
    assert abs(delta[0] - phi(d1)) < 0.01
    assert abs(vega[0] - spot * exp(-d1 * d1 / 2) / sqrt(2 * pi) * sqrt(years)) < 1.5


def test_the_optimisation_converges(zoo: dict[str, tiaot.Kernel]) -> None:
    names: dict[str, Any] = {"__name__": "optimise_springs"}
    path = EXAMPLES / "optimise_springs.py"
    exec(compile(path.read_text(), str(path), "exec"), names)
    chain = names["Chain"](zoo["spring_step"])
    thrown = np.random.default_rng(0).normal(0, 0.5, chain.x.shape)
    v, losses = names["optimise"](chain, chain.swing(thrown)[0], rounds=300)
    assert losses[-1] < 1e-6 * losses[0]
    assert np.abs(v - thrown).max() < 0.01
    x, kept = chain.swing(v)
    weights = np.random.default_rng(0).standard_normal(x.shape)
    gradient = chain.pull_back(kept, weights)  # through 100 steps, from 10 of their states
    direction = np.random.default_rng(1).standard_normal(v.shape)
    ahead, behind = (chain.swing(v + sign * 1e-6 * direction)[0] for sign in (1, -1))
    slope = float((weights * (ahead - behind)).sum()) / 2e-6
    assert abs(float((gradient * direction).sum()) - slope) < 1e-6 * abs(gradient * direction).sum()
