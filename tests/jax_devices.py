"""Checks of kernels on four devices, against jax.numpy's formula. Run as a program: the devices are the process's own.

Prints a JSON object: for each check what went wrong, or null. test_jax_devices.py runs it.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}

import jax
import module_files
import numpy as np
import tiaot.jax
from jax import export
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

CHECKS: dict[str, Callable[[], None]] = {}

kernel = tiaot.jax.load("dense_tanh")
x, W, b, v = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(((16, 8), (4, 8), (4,), (16, 4))))
mesh = Mesh(np.array(jax.devices()), ("d",))
grid = Mesh(np.array(jax.devices()).reshape(2, 2), ("d", "m"))


def plain(x: jax.Array, W: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.tanh(x @ W.T + b)


def gradients(f: Callable[..., jax.Array]) -> Callable[..., Any]:
    return jax.value_and_grad(lambda x, W, b, v: (f(x, W, b) * v).sum(), (0, 1, 2))


EXPECTED = gradients(plain)(x, W, b, v)


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


def close(results: Any, expected: Any) -> None:
    for result, value in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(result, value, rtol=1e-5, atol=1e-5)  # sums of 64 products in float32


def on(where: Mesh, spec: P, array: jax.Array) -> jax.Array:
    return jax.device_put(array, NamedSharding(where, spec))


def collectives(function: Any, *arrays: Any) -> set[str]:
    """The kinds of communication in the compiled program; a fault if the kernel itself is not in it."""
    text = function.lower(*arrays).compile().as_text()
    assert "tiaot_call" in text
    return set(re.findall(r"(all-\w+|collective-\w+|reduce-scatter)[(.]", text))


# shard_map


@check
def gradients_through_shard_map() -> None:
    for check_vma in (True, False):
        f = jax.shard_map(kernel, mesh=mesh, in_specs=(P("d"), P(), P()), out_specs=P("d"), check_vma=check_vma)
        close(gradients(f)(x, W, b, v), EXPECTED)
        close(jax.jit(gradients(f))(x, W, b, v), EXPECTED)


@check
def gradients_inside_of_shard_map() -> None:
    """With respect to each array alone, and to all: what the samples share, and what they do not."""
    arrays, specs = (x, W, b), (P("d"), P(), P())
    for argnums in ((0,), (1,), (2,), (0, 1, 2)):

        def inside(x: jax.Array, W: jax.Array, b: jax.Array, v: jax.Array, argnums: tuple[int, ...] = argnums) -> Any:
            return jax.grad(lambda *arrays: (kernel(*arrays) * v).sum(), argnums)(x, W, b)

        out = tuple(specs[i] for i in argnums)
        f = jax.shard_map(inside, mesh=mesh, in_specs=(*specs, P("d")), out_specs=out)
        expected = tuple(EXPECTED[1][i] for i in argnums)
        close(f(*arrays, v), expected)
        close(jax.jit(f)(*arrays, v), expected)


@check
def arrays_that_vary_over_different_axes() -> None:
    def inside(x: jax.Array, W: jax.Array, b: jax.Array, v: jax.Array) -> Any:
        return jax.grad(lambda *arrays: (kernel(*arrays) * v).sum(), (0, 1, 2))(x, W, b)

    specs = (P("d"), P("m"), P("m"))
    f = jax.shard_map(inside, mesh=grid, in_specs=(*specs, P("d", "m")), out_specs=specs)
    close(jax.jit(f)(x, W, b, v), EXPECTED[1])


@check
def weights_marked_as_reduced() -> None:
    """pcast(..., to="reduced") leaves the sum over devices to the caller."""
    if not hasattr(jax.lax, "pcast"):
        return

    def inside(x: jax.Array, W: jax.Array, b: jax.Array, v: jax.Array) -> Any:
        marked = jax.lax.pcast(W, "d", to="reduced")
        return jax.lax.psum(jax.grad(lambda W: (kernel(x, W, b) * v).sum())(marked), "d")

    f = jax.shard_map(inside, mesh=mesh, in_specs=(P("d"), P(), P(), P("d")), out_specs=P())
    close(jax.jit(f)(x, W, b, v), EXPECTED[1][1])


@check
def some_axes_manual_and_others_not() -> None:
    def inside(x: jax.Array, W: jax.Array, b: jax.Array, v: jax.Array) -> Any:
        return jax.grad(lambda W, b: (kernel(x, W, b) * v).sum(), (0, 1))(W, b)

    specs = (P("d"), P(), P(), P("d"))
    f = jax.jit(jax.shard_map(inside, mesh=grid, in_specs=specs, out_specs=(P(), P()), axis_names={"d"}))
    close(f(x, W, b, v), EXPECTED[1][1:])
    close(f(on(grid, P("d"), x), on(grid, P("m"), W), b, on(grid, P("d"), v)), EXPECTED[1][1:])


@check
def vmap_inside_of_shard_map() -> None:
    several = {0: jnp.stack([x, x + 1, 2 * x]), 1: jnp.stack([W, 2 * W, -W])}
    for check_vma in (True, False):
        for axes in ((None, 0, None), (0, None, None), (0, 0, None)):
            arrays = [
                several[i] if axis == 0 else array for i, (axis, array) in enumerate(zip(axes, (x, W, b), strict=True))
            ]
            specs = (P(None, "d") if axes[0] == 0 else P("d"), P(), P())
            results = []
            for f in (kernel, plain):
                mapped = jax.shard_map(
                    jax.vmap(f, axes), mesh=mesh, in_specs=specs, out_specs=P(None, "d"), check_vma=check_vma
                )
                results.append(jax.grad(lambda *arrays, f=mapped: (f(*arrays) ** 2).sum(), (0, 1, 2))(*arrays))
            close(*results)


def network(f: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def loss(x: jax.Array, weights: jax.Array, biases: jax.Array) -> jax.Array:
        def layer(carry: jax.Array, each: Any) -> tuple[jax.Array, None]:
            return jax.checkpoint(f)(carry, *each), None

        return (jax.lax.scan(layer, x, (weights, biases))[0] ** 2).sum()

    return loss


@check
def scan_and_remat() -> None:
    weights = jnp.stack([jax.random.normal(jax.random.key(i), (8, 8)) for i in range(3)])
    biases = jnp.zeros((3, 8))
    expected = jax.grad(network(plain), (0, 1, 2))(x, weights, biases)
    by_jit = jax.jit(jax.grad(network(kernel), (0, 1, 2)))
    close(by_jit(on(mesh, P("d"), x), weights, biases), expected)
    for check_vma in (True, False):
        f = jax.shard_map(
            lambda *arrays: jax.lax.psum(network(kernel)(*arrays), "d"),
            mesh=mesh,
            in_specs=(P("d"), P(), P()),
            out_specs=P(),
            check_vma=check_vma,
        )
        close(jax.grad(f, (0, 1, 2))(x, weights, biases), expected)


@check
def pmap() -> None:
    warnings.simplefilter("ignore")
    X, V = x.reshape(4, 4, 8), v.reshape(4, 4, 4)
    mapped = jax.pmap(kernel, in_axes=(0, None, None))
    close(jax.grad(lambda W: (mapped(X, W, b) * V).sum())(W), EXPECTED[1][1])
    summed = jax.pmap(
        lambda x, W, b, v: jax.lax.psum(gradients(kernel)(x, W, b, v)[1][1], "d"), "d", in_axes=(0, None, None, 0)
    )
    close(summed(X, W, b, V)[0], EXPECTED[1][1])


# jit, where the compiler cuts


@check
def a_batch_that_is_cut_is_not_gathered() -> None:
    for where, spec in ((mesh, P("d")), (grid, P("d")), (grid, P(("d", "m")))):
        arrays = (on(where, spec, x), W, b, on(where, spec, v))
        f = jax.jit(gradients(kernel))
        close(f(*arrays), EXPECTED)
        assert collectives(f, *arrays) == {"all-reduce"}, (where, spec)
        assert f(*arrays)[1][0].sharding.spec == spec
        forward = jax.jit(kernel)
        close(forward(*arrays[:3]), plain(x, W, b))
        assert collectives(forward, *arrays[:3]) == set()
    constrained = jax.jit(
        lambda x, *rest: gradients(kernel)(jax.lax.with_sharding_constraint(x, NamedSharding(mesh, P("d"))), *rest)
    )
    close(constrained(x, W, b, v), EXPECTED)


@check
def forward_mode_and_second_derivatives() -> None:
    """A jvp and a Hessian's product: cut by the compiler, by shard_map around and inside, and by types."""

    def products(f: Callable[..., jax.Array]) -> Callable[..., Any]:
        def function(x: jax.Array, W: jax.Array, b: jax.Array, v: jax.Array) -> Any:
            gradient = jax.grad(lambda *arrays: (f(*arrays) * v).sum(), (0, 1, 2))
            return jax.jvp(f, (x, W, b), (x, W, b))[1], jax.jvp(gradient, (x, W, b), (x, W, b))[1]

        return function

    arrays = (x, W / 4, b, v)
    expected = products(plain)(*arrays)
    specs = (P("d"), P(), P(), P("d"))
    cut = [on(mesh, spec, array) for spec, array in zip(specs, arrays, strict=True)]
    function = jax.jit(products(kernel))
    close(function(*cut), expected)
    assert collectives(function, *cut) == {"all-reduce"}
    for check_vma in (True, False):
        around = jax.shard_map(kernel, mesh=mesh, in_specs=specs[:3], out_specs=P("d"), check_vma=check_vma)
        close(jax.jit(products(around))(*arrays), expected)
    inside = jax.shard_map(products(kernel), mesh=mesh, in_specs=specs, out_specs=(P("d"), specs[:3]))
    close(jax.jit(inside)(*arrays), expected)
    explicit = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit):
        typed = [on(explicit, spec, array) for spec, array in zip(specs, arrays, strict=True)]
        moved, changes = jax.jit(products(kernel))(*typed)
        close((moved, changes), expected)
        assert [each.sharding.spec[0] for each in (moved, *changes[:2])] == ["d", "d", None]


@check
def pieces_of_unequal_sizes() -> None:
    """What XLA fills up a piece with is in no sum over the batch."""
    for rows in (15, 13, 2, 1):
        results = [
            jax.jit(lambda x, W, b, v, f=f, rows=rows: gradients(f)(x[:rows], W, b, v[:rows])) for f in (kernel, plain)
        ]
        close(results[0](on(mesh, P("d"), x), W, b, on(mesh, P("d"), v)), results[1](x, W, b, v))


@check
def any_axis_may_be_cut() -> None:
    f = jax.jit(gradients(kernel))
    for specs in (
        (P("d"), P("m"), P("m")),
        (P(None, "m"), P(None, "m"), P()),
        (P(("d", "m")), P("d"), P()),
        (P("d", "m"), P("m", "d"), P("m")),
        (P(), P("d"), P("d")),
    ):
        arrays = [on(grid, spec, array) for spec, array in zip(specs, (x, W, b), strict=True)]
        close(f(*arrays, v), EXPECTED)


@check
def vmap_over_arrays_that_are_cut() -> None:
    X, several = jnp.stack([x, x + 1, 2 * x, -x]), jnp.stack([W, 2 * W, -W, W / 2])
    for spec in (P("d"), P(None, "d")):
        for axes, weights in (((0, None, None), W), ((0, 0, None), several)):
            f, g = (
                jax.jit(jax.grad(lambda *arrays, f=f, axes=axes: (jax.vmap(f, axes)(*arrays) ** 2).sum(), (0, 1, 2)))
                for f in (kernel, plain)
            )
            close(f(on(mesh, spec, X), weights, b), g(X, weights, b))
            if axes[1] is None:
                assert collectives(f, on(mesh, spec, X), weights, b) == {"all-reduce"}


@check
def an_explicit_mesh() -> None:
    explicit = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(explicit):
        arrays = (on(explicit, P("d"), x), on(explicit, P(), W), on(explicit, P(), b), on(explicit, P("d"), v))
        for f in (gradients(kernel), jax.jit(gradients(kernel))):
            _, (gx, gW, gb) = f(*arrays)
            close((gx, gW, gb), EXPECTED[1])
            assert [each.sharding.spec[0] for each in (gx, gW)] == ["d", None]
        assert jax.typeof(kernel(*arrays[:3])).sharding.spec == P("d", None)
        assert jax.typeof(kernel(arrays[0], W, b)).sharding.spec == P("d", None)
        close(jax.vjp(kernel, arrays[0], W, b)[1](v), EXPECTED[1])  # a cotangent that is whole
        several = jnp.stack([arrays[0], 2 * arrays[0]])
        mapped = jax.vmap(kernel, (0, None, None))(several, W, b)
        assert jax.typeof(mapped).sharding.spec == P(None, "d", None)
        close(mapped, plain(jnp.stack([x, 2 * x]), W, b))
        across = on(explicit, P("d"), jnp.stack([x] * 4))
        close(jax.vmap(kernel, (0, None, None))(across, W, b), plain(jnp.stack([x] * 4), W, b))
        for name, bad in {"x": (on(explicit, P(None, "d"), x), W, b), "W": (x, on(explicit, P("d"), W), b)}.items():
            try:
                kernel(*bad)
            except ValueError as error:
                assert f"dense_tanh: '{name}': expected" in str(error) and "jax.sharding.reshard" in str(error), error
            else:
                raise AssertionError(f"{name} was taken")


@check
def exported_programs() -> None:
    """One that is cut by shard_map, and one that jit is to cut, which cannot be in a program without Python."""
    checks = tiaot.jax.DISABLED_CHECKS
    mapped = jax.shard_map(kernel, mesh=mesh, in_specs=(P("d"), P(), P()), out_specs=P("d"))
    whole = [on(mesh, P(), array) for array in (W, b, v)]
    program = export.deserialize(export.export(jax.jit(mapped), disabled_checks=checks)(x, W, b).serialize())
    close(program.call(on(mesh, P("d"), x), *whole[:2]), plain(x, W, b))
    cut = jax.jit(gradients(kernel), in_shardings=(NamedSharding(mesh, P("d")), None, None, None))
    program = export.deserialize(export.export(cut, disabled_checks=checks)(x, W, b, v).serialize())
    assert program.nr_devices == 4
    close(program.call(on(mesh, P("d"), x), *whole), EXPECTED)


@check
def simulations() -> None:
    """Runs of kernels over state: the gradient of what all devices start with, under jit and inside of shard_map."""
    with tempfile.TemporaryDirectory() as folder:
        module = tiaot.open(module_files.write_module("state.c", Path(folder) / "state.so"))
    simulation = tiaot.jax.Simulation(module, lambda state, _: (state.move(0.5), state.square()), ["x", "v"], ["loss"])
    X, V = jnp.arange(16.0).reshape(4, 4), jnp.arange(4.0)

    def total(X: jax.Array, V: jax.Array) -> jax.Array:
        return jax.vmap(simulation, (0, None))(X, V).sum()

    expected = 2 * (X + 0.5 * V), (X + 0.5 * V).sum(0)
    close(jax.jit(jax.grad(total, (0, 1)))(on(mesh, P("d"), X), V), expected)
    for check_vma in (True, False):
        specs = (P("d"), P())
        mapped = jax.shard_map(
            lambda X, V: total(X, V)[None], mesh=mesh, in_specs=specs, out_specs=P("d"), check_vma=check_vma
        )
        close(jax.jit(jax.grad(lambda X, V, f=mapped: f(X, V).sum(), (0, 1)))(X, V), expected)
    inside = jax.shard_map(jax.grad(total, (0, 1)), mesh=mesh, in_specs=(P("d"), P()), out_specs=(P("d"), P()))
    close(jax.jit(inside)(X, V), expected)


if __name__ == "__main__":
    report = {}
    for name, function in CHECKS.items():
        try:
            function()
            report[name] = None
        except Exception:
            report[name] = traceback.format_exc()
    print(json.dumps(report))
