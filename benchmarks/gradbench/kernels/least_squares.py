"""The fit of the sign of t by a polynomial: half the sum of squares of what is left at n points from -1 to 1."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers = ti.types.ndarray(ti.f64, ndim=1)


@kernel("x[m], n -> y[1]", draw={"n": lambda rng, shape, sizes: 5}, **gradient("x"))
@ti.kernel
def least_squares(x: numbers, n: ti.i32, y: numbers):
    for i in range(n):
        t = -1.0 + 2.0 * i / (n - 1.0)
        left = ti.select(t > 0, 1.0, -1.0)
        power = 1.0
        for j in range(x.shape[0]):
            left -= x[j] * power
            power *= t
        y[0] += 0.5 * left * left
