"""Kernels over state as differentiable functions of JAX arrays: the module of fixtures/state.c, against jax.numpy."""

from __future__ import annotations

from typing import Any

import module_files
import numpy as np
import pytest
import tiaot

jax = pytest.importorskip("jax")
import tiaot.jax  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from tiaot.jax import Simulation  # noqa: E402

WEIGHTS = np.array([1, 0.5, 2, 1], np.float32)
START = jnp.array([1.0, 2, 3, 4]), jnp.array([2.0, -1, 0, 1])


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> tiaot.Module:
    return tiaot.open(module_files.write_module("state.c", tmp_path_factory.mktemp("state") / "state.so"))


def run(state: Any, step: int) -> None:
    """Each kernel overwrites what the adjoint of the one before it needs."""
    state.square()  # loss += the sum of x^2
    state.move(0.5)  # x += 0.5 v
    state.weigh(WEIGHTS * (1 + step % 2))  # x *= weights


def reference(x: jax.Array, v: jax.Array, steps: int = 1) -> tuple[jax.Array, jax.Array]:
    loss = jnp.zeros(())
    for step in range(steps):
        loss = loss + (x**2).sum()
        x = (x + 0.5 * v) * WEIGHTS * (1 + step % 2)
    return x, loss


@pytest.fixture
def simulation(module: tiaot.Module) -> Simulation:
    return Simulation(module, run, ("x", "v"), ("x", "loss"))


def close(results: Any, expected: Any) -> None:
    for result, value in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10])
def test_values_and_gradients(simulation: Simulation, steps: int) -> None:
    def weighed(function: Any) -> Any:
        def total(x: jax.Array, v: jax.Array) -> jax.Array:
            y, loss = function(x, v, steps=steps)
            return (y * jnp.array([1.0, -2, 3, 0.5])).sum() + loss

        return jax.value_and_grad(total, (0, 1))

    close(simulation(*START, steps=steps), reference(*START, steps))
    for transform in (lambda f: f, jax.jit):
        close(transform(weighed(simulation))(*START), weighed(reference)(*START))


def test_inputs_by_name(simulation: Simulation) -> None:
    x, v = START
    close(simulation(v=v, x=x, steps=2), simulation(x, v, steps=2))
    with pytest.raises(TypeError, match="state: missing 'x'"):
        simulation(v=v)


def test_transforms(simulation: Simulation) -> None:
    close(jax.jacrev(simulation, (0, 1))(*START), jax.jacrev(reference, (0, 1))(*START))
    x, v = START
    several = jnp.stack([x, -x, 2 * x])
    for axes in ((0, None), (None, 0), (0, 0)):
        given = (several if axes[0] == 0 else x, several if axes[1] == 0 else v)
        close(jax.vmap(simulation, axes)(*given), jax.vmap(reference, axes)(*given))
        for place in (0, 1):
            ours, theirs = (
                jax.grad(lambda *a, f=f, axes=axes: jax.vmap(f, axes)(*a)[1].sum(), place)(*given)
                for f in (simulation, reference)
            )
            close(ours, theirs)

    def repeated(function: Any, x: jax.Array) -> jax.Array:
        def body(carry: jax.Array, _: Any) -> tuple[jax.Array, jax.Array]:
            y, loss = jax.checkpoint(function)(carry, v)
            return y, loss

        return jax.lax.scan(body, x, None, length=4)[1].sum()

    close(jax.jit(jax.grad(lambda x: repeated(simulation, x)))(x), jax.grad(lambda x: repeated(reference, x))(x))


def test_another_simulation_in_its_place(module: tiaot.Module) -> None:
    """Programs are told apart, one that came after another has gone too."""
    for factor in (1.0, 2.0, 3.0):
        simulation = Simulation(module, lambda state, _, by=factor: state.move(by), ["x", "v"], ["x"])
        close(jax.jit(simulation)(*START), START[0] + factor * START[1])
        del simulation


def test_what_is_refused(simulation: Simulation, module: tiaot.Module) -> None:
    x, v = START
    for arguments, exception, message in (
        ((x,), TypeError, r"state: expected 2 fields \(x, v\), got 1"),
        (([1.0], v), TypeError, "field 'x': expected a jax.Array, got list"),
        ((x.astype(jnp.float16), v), TypeError, r"field 'x': expected float32\[4\], got float16\[4\]"),
        ((x, v[:3]), ValueError, r"field 'v': expected float32\[4\], got float32\[3\]"),
    ):
        with pytest.raises(exception, match=message):
            simulation(*arguments)
    with pytest.raises(ValueError, match="argument 'steps'"):
        simulation(x, v, steps=-1)
    with pytest.raises(
        NotImplementedError, match="state: a run has first derivatives only, in reverse mode, and no jvp"
    ):
        jax.jvp(simulation, START, START)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        jax.grad(lambda x: jax.grad(lambda x: simulation(x, v)[1])(x).sum())(x)
    with pytest.raises(TypeError, match="field 'w': float64 needs jax_enable_x64"):
        Simulation(module, run, ["x"], ["w"])(x)
    counting = Simulation(module, ["count", "square"], ["x"], ["loss"])
    with pytest.raises(Exception, match="kernel 'count' has no gradient: name it in 'passive'"):
        jax.block_until_ready(jax.grad(counting)(x))
    passive = Simulation(module, ["count", "square"], ["x"], ["loss", "k"], passive=["count"])
    close(jax.grad(lambda x: passive(x)[0])(x), 2 * x)
    with pytest.raises(NotImplementedError, match="no gradient for argument 'x'"):
        jax.grad(Simulation(module, "square", ["x"], ["loss"], passive=["x"]))(x)
