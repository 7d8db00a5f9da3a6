"""Functions that need an intrinsic, along tangents, which need the same one, for the tests of the exporter."""

import taichi as ti
from tiaot.export import kernel


@kernel("x[B, 3] -> y[B]", batch="B", wrt=[], derivatives=["jvp"])
@ti.kernel
def arcs(x: ti.types.ndarray(ti.f64, ndim=2), y: ti.types.ndarray(ti.f64, ndim=1)):
    for i in range(x.shape[0]):
        y[i] = ti.asin(x[i, 0]) + ti.acos(x[i, 1]) * ti.tan(x[i, 2])
