"""y_0' = x_0, y_i' = x_i y_(i-1) from y = 0 to time 2, by Runge and Kutta's steps of fourth order."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)


@kernel("x[n], steps -> y[n]", scratch={"k": [4, "n"]}, **gradient("x"))
@ti.kernel
def differential_equation(x: numbers, steps: ti.i32, k: table, y: numbers):
    h = 2.0 / steps
    n = x.shape[0]
    ti.loop_config(serialize=True)
    for _ in range(steps):
        for stage in ti.static(range(4)):
            k[stage, 0] = x[0]
            for i in range(1, n):
                before = y[i - 1]
                if ti.static(stage > 0):
                    before += (h if ti.static(stage == 3) else 0.5 * h) * k[stage - 1, i - 1]
                k[stage, i] = x[i] * before
        for i in range(n):
            y[i] += h / 6.0 * (k[0, i] + 2.0 * k[1, i] + 2.0 * k[2, i] + k[3, i])
