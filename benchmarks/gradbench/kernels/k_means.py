"""The sum of the squared distances of points from their nearest centres."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)


@kernel("point[n, d], centre[k, d] -> y[1]", **gradient("centre"))
@ti.kernel
def k_means(point: table, centre: table, y: numbers):
    for i in range(point.shape[0]):
        nearest = 1e300
        for c in range(centre.shape[0]):
            distance = 0.0
            for j in range(point.shape[1]):
                apart = point[i, j] - centre[c, j]
                distance += apart * apart
            nearest = ti.min(nearest, distance)
        y[0] += nearest
