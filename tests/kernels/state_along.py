"""Kernels over fields with derivatives along tangents, for tests/test_state_along.py."""

import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)
steps, n = 4, 5

x = ti.Vector.field(2, ti.f64, shape=(steps, n), needs_grad=True)
v = ti.Vector.field(2, ti.f64, shape=(steps, n), needs_grad=True)
loss = ti.field(ti.f64, shape=(), needs_grad=True)
mass = ti.field(ti.f64, shape=n)
calls = ti.field(ti.i32, shape=())


@kernel(derivatives=["hvp"], draw={"t": lambda rng, shape, sizes: 1})
@ti.kernel
def advance(t: ti.i32, dt: ti.f64):
    for i in range(n):
        force = -x[t, i] * (1.0 + x[t, i].norm_sqr()) + ti.Vector([0.3, -0.1]) * ti.sin(x[t, (i + 1) % n][0])
        v[t + 1, i] = v[t, i] + dt * force / mass[i]
        x[t + 1, i] = x[t, i] + dt * v[t + 1, i]


@kernel(derivatives=["jvp", "hvp"], draw={"t": lambda rng, shape, sizes: 2})
@ti.kernel
def measure(t: ti.i32):
    for i in range(n):
        loss[None] += x[t, i].norm_sqr() ** 2 + ti.exp(v[t, i][1])


@kernel(wrt=[], derivatives=["jvp"], draw={"mass": lambda rng, shape, sizes: rng.uniform(1, 2, shape)})
@ti.kernel
def relax() -> ti.f64:
    """Roots by a `while`, in place, in a field without a gradient; counts in whole numbers; returns a number."""
    heaviest = 0.0
    calls[None] += 1
    for i in range(n):
        root = 1.0
        while ti.abs(root * root - mass[i]) > 1e-14 * mass[i]:
            root = 0.5 * (root + mass[i] / root)
        mass[i] = root
        ti.atomic_max(heaviest, root)
    return heaviest
