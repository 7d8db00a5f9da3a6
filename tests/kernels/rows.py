"""Kernels with a batch whose arrays are not of one element type: vectors, whole numbers, numbers by value, updates."""

import taichi as ti
from tiaot.export import kernel

ti.init(arch=ti.cpu, default_fp=ti.f64)

vectors = ti.types.ndarray(ti.types.vector(3, ti.f64), ndim=1)
numbers = ti.types.ndarray(ti.f64, ndim=1)


@kernel(
    "x[B, 3], w[3], kind[B], dt, turns -> y[B, 3], e[B]",
    batch="B",
    draw={"kind": lambda rng, shape, sizes: rng.integers(0, 3, shape)},
)
@ti.kernel
def move(
    x: vectors, w: numbers, kind: ti.types.ndarray(ti.i32, ndim=1), dt: ti.f64, turns: ti.i32, y: vectors, e: numbers
):
    for i in x:
        p, q, r = x[i][0], x[i][1], x[i][2]
        for _ in range(turns):
            new_p = p + dt * w[0] * q
            new_q = q + dt * ti.sin(r)
            new_r = r + dt * w[kind[i]] * p
            p, q, r = new_p, new_q, new_r
        y[i] = ti.Vector([p, q, r])
        e[i] = ti.Vector([p, q, r]).dot(x[i]) * w[2]


@kernel("x[B, 3], push[3] -> x[B, 3]", batch="B")
@ti.kernel
def shift(x: vectors, push: ti.types.vector(3, ti.f64)):
    for i in x:
        x[i] = 2.0 * x[i] + push


@kernel(
    "M[k, 2, 2], x[B, k, 2] -> y[B, k]",
    batch="B",
    scratch={"half": ["B", "k"]},
    dtypes={"half": "float64"},
    fixed=[{"k": 3}, {}],
)
@ti.kernel
def bilinear(
    M: ti.types.ndarray(ti.types.matrix(2, 2, ti.f32), ndim=1),
    x: ti.types.ndarray(ti.types.vector(2, ti.f32), ndim=2),
    half: ti.types.ndarray(ti.f32, ndim=2),
    y: ti.types.ndarray(ti.f32, ndim=2),
):
    for i, j in y:
        half[i, j] = x[i, j].dot(M[j] @ x[i, j])
    for i, j in y:
        y[i, j] = ti.exp(-half[i, j])


@kernel("x[B], factor -> y[B]", batch="B")
@ti.kernel
def stretch(x: numbers, factor: ti.f64, y: numbers):
    for i in x:
        y[i] = factor * x[i] * x[i]


@kernel("bin[B], size -> place[B]", batch="B")
@ti.kernel
def wrap(bin: ti.types.ndarray(ti.i64, ndim=1), size: ti.i32, place: ti.types.ndarray(ti.u8, ndim=1)):
    for i in bin:
        place[i] = ti.cast(bin[i] % size, ti.u8)


@kernel("x[B, n] -> total[B], large[B]", batch="B")
@ti.kernel
def tally(x: ti.types.ndarray(ti.f64, ndim=2), total: numbers, large: numbers):
    """Outputs that are added to, and that are written in some samples only: they start as zeros."""
    for i in total:
        for j in range(x.shape[1]):
            total[i] += ti.sin(x[i, j])
        if x[i, 0] > 0.5:
            large[i] = x[i, 0] * x[i, 0]
