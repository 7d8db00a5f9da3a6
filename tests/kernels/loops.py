"""Loops that vectorise and loops that do not, for what `tiaot inspect --code` says of them."""

import taichi as ti
from tiaot.export import autodiff, family, kernel

f32_1 = ti.types.ndarray(ti.f32, ndim=1)
f64_1 = ti.types.ndarray(ti.f64, ndim=1)


@kernel("x[n] -> y[n]", wrt=[])
@ti.kernel
def square(x: f32_1, y: f32_1):
    """Vectors, and what they leave over."""
    for i in range(x.shape[0]):
        y[i] = x[i] * x[i] + 1.0


@kernel("x[n], p[1] -> y[n]", wrt=[])
@ti.kernel
def power(x: f64_1, p: f64_1, y: f64_1):
    """A function of libm, one number at a time."""
    for i in range(x.shape[0]):
        y[i] = 1.0 + x[i] ** p[0]


@kernel("x[n] -> y[1]", wrt=[])
@ti.kernel
def chain(x: f64_1, y: f64_1):
    """Each number follows from the one before, in a loop that lies in another."""
    for _ in range(1):
        value = ti.cast(0, ti.f64)
        for turn in range(x.shape[0]):
            for i in range(x.shape[0]):
                value = value * 0.5 + x[i]
            value /= ti.cast(turn + 1, ti.f64)
        y[0] = value


@family("x[B, n] -> y[B, n]", batch="B", fixed=[{"n": 2}], wrt=[])
def halve(variant):
    """A batch along the lanes."""

    @ti.kernel
    def forward(x: variant.array(2), y: variant.array(2)):
        for i in range(x.shape[0]):
            for k in ti.static(range(2)):
                y[i, k] = 0.5 * x[i, k]

    return autodiff(forward)
