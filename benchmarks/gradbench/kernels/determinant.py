"""The determinant of a matrix, by elimination with the largest pivot of each column."""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)


@kernel("A[n, n] -> y[1]", scratch={"M": ["n", "n"]}, **gradient("A"))
@ti.kernel
def determinant(A: table, M: table, y: numbers):
    n = A.shape[0]
    for i, j in A:
        M[i, j] = A[i, j]
    for _ in range(1):
        y[0] = 1.0
    ti.loop_config(serialize=True)
    for c in range(n):
        pivot = c
        for r in range(c + 1, n):
            if ti.abs(M[r, c]) > ti.abs(M[pivot, c]):
                pivot = r
        if pivot != c:
            y[0] = -y[0]
            for j in range(c, n):
                kept = M[c, j]
                M[c, j] = M[pivot, j]
                M[pivot, j] = kept
        y[0] *= M[c, c]
        for r in range(c + 1, n):
            factor = M[r, c] / M[c, c]
            for j in range(c + 1, n):
                M[r, j] -= factor * M[c, j]
