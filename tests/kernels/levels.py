"""A kernel whose code depends on the CPU level, for the exporter's tests: its results say which one has run."""

import taichi as ti
from tiaot.export import by_level, family, written


@family("x[B, n] -> y[B, n]", batch="B", dtypes=["float64"], wrt=["x"], derivatives=["jvp", "hvp"])
def times(variant):
    low = rows_of_scratch(variant, 2, along=rows_of_scratch(variant, 3))
    return by_level({"x86-64-v2": low, "x86-64-v4": rows_of_scratch(variant, 200)})


def rows_of_scratch(variant, rows, along=None):
    """x times `rows`, as the sum of so many copies in scratch."""

    @ti.kernel
    def forward(x: variant.array(2), y: variant.array(2), copies: variant.array(2)):
        ti.loop_config(serialize=True)
        for i in range(x.shape[0]):
            for r in range(rows):
                for k in range(x.shape[1]):
                    copies[r, k] = x[i, k]
            for k in range(x.shape[1]):
                y[i, k] = 0.0
            for r in range(rows):
                for k in range(x.shape[1]):
                    y[i, k] += copies[r, k]

    @ti.kernel
    def backward(x: variant.array(2), grad_y: variant.array(2), grad_x: variant.array(2)):
        ti.loop_config(serialize=True)
        for i in range(x.shape[0]):
            for k in range(x.shape[1]):
                grad_x[i, k] = rows * grad_y[i, k]

    return written(forward, {"x": backward}, scratch={"copies": (rows, "n")}, block_rows=64, along=along)
