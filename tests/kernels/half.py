"""Kernels on float16."""

import taichi as ti
from tiaot.export import kernel

halves = ti.types.ndarray(ti.f16, ndim=1)


@kernel("x[n], y[n] -> wide[n], narrow[n]", wrt=[])
@ti.kernel
def convert(x: halves, y: ti.types.ndarray(ti.f32, ndim=1), wide: ti.types.ndarray(ti.f32, ndim=1), narrow: halves):
    for i in x:
        wide[i] = ti.cast(x[i], ti.f32)
        narrow[i] = ti.cast(y[i], ti.f16)


@kernel("x[n], s -> y[n]")
@ti.kernel
def curve(x: halves, s: ti.f16, y: halves):
    for i in x:
        y[i] = ti.tanh(x[i]) * x[i] + s


@kernel("x[n, 2] -> y[n]")
@ti.kernel
def lengths(x: ti.types.ndarray(ti.types.vector(2, ti.f16), ndim=1), y: halves):
    for i in x:
        y[i] += x[i].dot(x[i]) + ti.max(x[i][0], x[i][1])


@kernel("x[B], w[k] -> y[B]", batch="B")
@ti.kernel
def row(x: halves, w: halves, y: halves):
    for i in x:
        total = ti.cast(0, ti.f16)
        for j in range(w.shape[0]):
            total += w[j] * x[i]
        y[i] = total
