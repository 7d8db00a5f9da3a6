"""log(exp(x_1) + .. + exp(x_n)), with the largest taken out."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers = ti.types.ndarray(ti.f64, ndim=1)


@kernel("x[n] -> y[1]", **gradient("x"))
@ti.kernel
def log_sum_exp(x: numbers, y: numbers):
    most = -1e300
    for i in x:
        ti.atomic_max(most, x[i])
    total = 0.0
    for i in x:
        total += ti.exp(x[i] - most)
    y[0] = most + ti.log(total)
