"""Simulation steps: masses and springs, gravity, heat, particles to a grid. `tiaot export physics.py`."""

import taichi as ti
from tiaot.export import kernel

scalars, grid = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)
plane, space = ti.types.vector(2, ti.f64), ti.types.vector(3, ti.f64)
points2, points3 = ti.types.ndarray(plane, ndim=1), ti.types.ndarray(space, ndim=1)
grid2 = ti.types.ndarray(plane, ndim=2)
indices = ti.types.ndarray(ti.i32, ndim=1)


def some_points(rng, shape, sizes):
    return rng.uniform(0, 1, shape)


@kernel(
    "x[n, 2], v[n, 2], first[s], second[s], rest[s], stiffness, dt -> new_x[n, 2], new_v[n, 2]",
    wrt=["x", "v", "rest", "x v", "x v rest"],
    scratch={"force": ["n", 2]},
    sizes=[{"n": 2, "s": 1}, {"n": 33, "s": 64}, {"n": 300, "s": 1000}],
    draw={
        "x": some_points,
        "first": lambda rng, shape, sizes: rng.integers(0, sizes["n"] // 2, shape),
        "second": lambda rng, shape, sizes: rng.integers(sizes["n"] // 2, sizes["n"], shape),
    },
)
@ti.kernel
def spring_step(
    x: points2,
    v: points2,
    first: indices,
    second: indices,
    rest: scalars,
    stiffness: ti.f64,
    dt: ti.f64,
    force: points2,
    new_x: points2,
    new_v: points2,
):
    """One step of unit masses between springs: symplectic Euler; the force of a spring is added to both its ends."""
    for s in first:
        i, j = first[s], second[s]
        along = x[j] - x[i]
        length = ti.sqrt(along.norm_sqr() + 1e-9)
        pull = stiffness * (length - rest[s]) / length * along
        force[i] += pull
        force[j] -= pull
    for i in x:
        new_v[i] = v[i] + dt * force[i]
    for i in x:
        new_x[i] = x[i] + dt * new_v[i]


@kernel("x[n, 3], mass[n] -> a[n, 3]", draw={"x": some_points})
@ti.kernel
def gravity(x: points3, mass: scalars, a: points3):
    """Accelerations of n bodies by all others, softened at close range."""
    for i in x:
        for j in range(x.shape[0]):
            along = x[j] - x[i]
            inverse = ti.rsqrt(along.norm_sqr() + 0.01)
            a[i] += mass[j] * inverse**3 * along


@kernel("u[r, c], rate -> w[r, c]")
@ti.kernel
def heat_step(u: grid, rate: ti.f64, w: grid):
    """One explicit step of the heat equation on a grid whose border is insulated."""
    for i, j in u:
        up, down = ti.max(i - 1, 0), ti.min(i + 1, u.shape[0] - 1)
        left, right = ti.max(j - 1, 0), ti.min(j + 1, u.shape[1] - 1)
        w[i, j] = u[i, j] + rate * (u[up, j] + u[down, j] + u[i, left] + u[i, right] - 4 * u[i, j])


@kernel("x[n, 2], v[n, 2] -> mass[16, 16], momentum[16, 16, 2]", draw={"x": some_points})
@ti.kernel
def particles_to_grid(x: points2, v: points2, mass: grid, momentum: grid2):
    """The transfer of the material point method: quadratic B-splines over 3 x 3 nodes, added up atomically."""
    for p in x:
        at = ti.math.clamp(x[p], 0.0, 1.0) * 13.0 + 1.0
        base = ti.cast(at - 0.5, ti.i32)
        offset = at - ti.cast(base, ti.f64)
        weights = [0.5 * (1.5 - offset) ** 2, 0.75 - (offset - 1.0) ** 2, 0.5 * (offset - 0.5) ** 2]
        for i in ti.static(range(3)):
            for j in ti.static(range(3)):
                weight = weights[i][0] * weights[j][1]
                mass[base[0] + i, base[1] + j] += weight
                momentum[base[0] + i, base[1] + j] += weight * v[p]
