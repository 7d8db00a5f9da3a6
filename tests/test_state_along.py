"""jvp and hvp over fields: against differences in float64, and against the adjoint."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

pytest.importorskip("taichi")
pytest.importorskip("llvmlite")

SOURCE = Path(__file__).parent / "kernels" / "state_along.py"
STEPS, DT = 4, 0.1


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return module_files.exported(SOURCE, tmp_path_factory.mktemp("state_along") / "state_along.so", "--no-verify")


@pytest.fixture(scope="module")
def module(path: Path) -> tiaot.Module:
    return tiaot.open(path)


def started(module: tiaot.Module, x: np.ndarray, v: np.ndarray) -> Any:
    state = module.state()
    state.x[0], state.v[0], state.mass[...] = x, v, np.linspace(1, 2, 5)
    return state


def run(state: Any, how: str = "") -> None:
    for t in range(STEPS - 1):
        (getattr(state.advance, how) if how else state.advance)(t, DT)
    (getattr(state.measure, how) if how else state.measure)(STEPS - 1)


def gradient(module: tiaot.Module, x: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    state = started(module, x, v)
    with state.tape(state.loss):
        run(state)
    return np.array(state.x.grad[0]), np.array(state.v.grad[0])


def slope(function: Any, h: float = 1e-4) -> np.ndarray:
    """Five points: off by some 1e-12."""
    return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)


POINT = np.random.default_rng(3).uniform(-1, 1, (4, 5, 2))


def test_a_simulation_along_a_tangent(module: tiaot.Module) -> None:
    x, v, tx, tv = POINT
    state = started(module, x, v)
    assert state.x.tangent is not None
    assert not state.x.tangent.any()
    state.x.tangent[0], state.v.tangent[0] = tx, tv
    run(state, "jvp")

    def loss(step: float) -> np.ndarray:
        moved = started(module, x + step * tx, v + step * tv)
        run(moved)
        return np.array([moved.loss[()], *moved.x.ravel(), *moved.v.ravel()])

    np.testing.assert_allclose([state.loss[()], *state.x.ravel(), *state.v.ravel()], loss(0.0), rtol=1e-14)
    found = [state.loss.tangent[()], *state.x.tangent.ravel(), *state.v.tangent.ravel()]
    np.testing.assert_allclose(found, slope(loss), rtol=1e-9, atol=1e-11)
    gx, gv = gradient(module, x, v)
    np.testing.assert_allclose(state.loss.tangent[()], (gx * tx).sum() + (gv * tv).sum(), rtol=1e-12)


def test_the_hessian_of_a_simulation(module: tiaot.Module) -> None:
    x, v, tx, tv = POINT

    def product(tx: np.ndarray, tv: np.ndarray) -> np.ndarray:
        state = started(module, x, v)
        state.x.tangent[0], state.v.tangent[0] = tx, tv
        run(state, "jvp")
        state.loss.grad[...] = 1
        state.measure.hvp(STEPS - 1)
        for t in reversed(range(STEPS - 1)):
            state.advance.hvp(t, DT)
        gx, gv = gradient(module, x, v)
        np.testing.assert_allclose(state.x.grad[0], gx, rtol=1e-12)
        np.testing.assert_allclose(state.v.grad[0], gv, rtol=1e-12)
        return np.array([*state.x.grad.tangent[0].ravel(), *state.v.grad.tangent[0].ravel()])

    def moved(step: float) -> np.ndarray:
        gx, gv = gradient(module, x + step * tx, v + step * tv)
        return np.array([*gx.ravel(), *gv.ravel()])

    found = product(tx, tv)
    np.testing.assert_allclose(found, slope(moved), rtol=1e-8, atol=1e-9)
    other = product(tv, tx)
    flat = np.array([*tx.ravel(), *tv.ravel()]), np.array([*tv.ravel(), *tx.ravel()])
    np.testing.assert_allclose(found @ flat[1], other @ flat[0], rtol=1e-12)


def test_in_place_with_a_result_and_without_a_gradient(module: tiaot.Module) -> None:
    state = module.state()
    mass, tangent = np.linspace(1.1, 2, 5), np.array([0.5, -1.0, 2.0, 0.25, 3.0])
    state.mass[...], state.mass.tangent[...] = mass, tangent
    heaviest, its = state.relax.jvp()
    roots = np.sqrt(mass)
    np.testing.assert_allclose(state.mass, roots, rtol=1e-14)
    np.testing.assert_allclose(state.mass.tangent, tangent / (2 * roots), rtol=1e-9)
    np.testing.assert_allclose([heaviest[()], its[()]], [roots[4], tangent[4] / (2 * roots[4])], rtol=1e-9)
    assert state.calls == 1
    assert state.calls.tangent is None
    assert not hasattr(state.relax, "hvp")


def test_tangents_stay_with_their_state(module: tiaot.Module) -> None:
    one, two = module.state(), module.state()
    one.x.tangent[...] = 3
    one.x.grad.tangent[...] = 4
    assert not two.x.tangent.any()
    assert not one.x.any()
    assert one.x.tangent is one.x.tangent
    assert one.x.tangent.tangent is None
    one.zero_tangent()
    assert not one.x.tangent.any()
    assert not one.x.grad.tangent.any()
    with pytest.raises(AttributeError, match="the tangent stays"):
        one.x.tangent = np.zeros(3)
    call = one.measure.jvp.bind(0)
    one.x[...] = 1
    one.x.tangent[0] = 1
    assert call() is None
    assert one.loss.tangent[()] != 0


def test_what_is_refused(module: tiaot.Module) -> None:
    with pytest.raises(ValueError, match=r"works on the state of its module: call module.state\(\).measure.jvp"):
        module.measure.jvp(0)
    state = module.state()
    with pytest.raises(TypeError, match=r"expected no keyword but|expected keywords"):
        state.measure.jvp(0, wrt="t")
    with pytest.raises(AttributeError):
        module.relax.hvp  # noqa: B018


def test_the_plain_function(path: Path, module: tiaot.Module) -> None:
    header = path.with_suffix(".h").read_text()
    assert "int measure_jvp(int32_t t, void *state, void *tangents);" in header
    offsets = {
        line.split()[1].removeprefix("STATE_ALONG_OFFSET_"): int(line.split()[2])
        for line in header.splitlines()
        if line.startswith("#define STATE_ALONG_OFFSET_")
    }
    size = int(
        next(line for line in header.splitlines() if "STATE_ALONG_STATE_BYTES" in line and "#" in line).split()[2]
    )
    memory = [np.zeros(size + 64, np.uint8) for _ in range(2)]
    state, tangents = (each[-each.ctypes.data % 64 :][:size] for each in memory)

    def field(of: np.ndarray, name: str, count: int) -> np.ndarray:
        return of[offsets[name] : offsets[name] + 8 * count].view(np.float64)

    field(state, "x", 40)[...], field(tangents, "x", 40)[...] = POINT.ravel(), np.cos(POINT).ravel()
    library = ctypes.CDLL(str(path))
    assert library.measure_jvp(1, ctypes.c_void_p(state.ctypes.data), ctypes.c_void_p(tangents.ctypes.data)) == 0
    other = module.state()
    other.x[...], other.x.tangent[...] = POINT, np.cos(POINT)
    other.measure.jvp(1)
    assert field(state, "loss", 1) == other.loss
    assert field(tangents, "loss", 1) == other.loss.tangent
    assert other.loss.tangent != 0


PROGRAM = """
import taichi as ti

ti.init(arch=ti.cpu)
x = ti.field(ti.f32, shape=3, needs_grad=True)
loss = ti.field(ti.f32, shape=(), needs_grad=True)
plain = ti.field(ti.f32, shape=3)
calls = ti.field(ti.i32, shape=())


@ti.kernel
def measure():
    for i in x:
        loss[None] += ti.sin(x[i]) * x[i]


@ti.kernel
def double():
    for i in plain:
        plain[i] *= 2.0


@ti.kernel
def count() -> ti.i32:
    calls[None] += 1
    return calls[None]
"""


def test_derivatives_of_all_kernels_that_can_have_them(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    options = ["--derivatives", "jvp,hvp"]
    module = tiaot.open(module_files.exported(tmp_path / "program.py", tmp_path / "program.so", *options))
    about = {each["name"]: each for each in module.info()["kernels"]}
    kinds = {name: [entry["kind"] for entry in each["variants"][0]["entries"]] for name, each in about.items()}
    assert kinds == {
        "measure": ["forward", "grad", "jvp", "hvp"],
        "double": ["forward", "jvp"],
        "count": ["forward"],
    }
    for found in ("jvp from finite differences", "jvp beside the vjp", "hvp by its symmetry"):
        assert found in about["measure"]["verification"]
    assert "jvp from finite differences" in about["double"]["verification"]
    state = module.state()
    state.x[...], state.x.tangent[...] = [0.1, 0.2, 0.3], [1, 0, 0]
    state.measure.jvp()
    np.testing.assert_allclose(state.loss.tangent, np.sin(0.1) + 0.1 * np.cos(0.1), rtol=1e-6)
