"""Kernels on arrays as one writes them, for kernels.py: loops over an array, over ranges, over rows, sums, vectors."""

import taichi as ti
from tiaot.export import kernel

reals, grid = ti.types.ndarray(ti.f32, ndim=1), ti.types.ndarray(ti.f32, ndim=2)
vectors = ti.types.ndarray(ti.types.vector(3, ti.f32), ndim=1)


@kernel("x[n] -> y[n]")
@ti.kernel
def damp(x: reals, y: reals):
    """for i in x"""
    for i in x:
        y[i] = ti.exp(-x[i]) * ti.sin(x[i])


@kernel("x[n], p[1] -> y[n]", wrt=["x"])
@ti.kernel
def power(x: reals, p: reals, y: reals):
    """for i in range(n)"""
    for i in range(x.shape[0]):
        y[i] = (1.0 + x[i] * x[i]) ** p[0]


@kernel("x[h, w] -> y[h, w]")
@ti.kernel
def blend(x: grid, y: grid):
    """for place in ti.grouped(x)"""
    for place in ti.grouped(x):
        y[place] = x[place] * (1.0 - x[place])


@kernel("u[h, w] -> v[h, w]")
@ti.kernel
def diffuse(u: grid, v: grid):
    """ti.ndrange with offsets"""
    for i, j in ti.ndrange((1, u.shape[0] - 1), (1, u.shape[1] - 1)):
        v[i, j] = u[i, j] + 0.1 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1] - 4.0 * u[i, j])


@kernel("a[n, 3], b[n, 3] -> c[n, 3]", wrt=["a", "a b"])
@ti.kernel
def cross(a: vectors, b: vectors, c: vectors):
    """vectors"""
    for i in range(a.shape[0]):
        c[i] = a[i].cross(b[i]) + 0.5 * a[i]


@kernel("A[h, w], x[w] -> y[h]", wrt=[])
@ti.kernel
def product(A: grid, x: reals, y: reals):
    """an inner loop of a run-time length"""
    for i in range(A.shape[0]):
        total = 0.0
        for k in range(A.shape[1]):
            total += A[i, k] * x[k]
        y[i] = total


@kernel("x[n] -> total[1]")
@ti.kernel
def squares(x: reals, total: reals):
    """a sum"""
    for i in x:
        total[0] += x[i] * x[i]


@kernel("x[n] -> most[1]", wrt=[])
@ti.kernel
def largest(x: reals, most: reals):
    """ti.atomic_max"""
    for i in x:
        ti.atomic_max(most[0], x[i])
