"""The log-likelihood of points under a mixture of Gaussians, with a Wishart prior, less its constant terms.

A covariance's inverse is given by its Cholesky factor: the logarithms of the diagonal, then the rows below it.
"""

import taichi as ti
from tiaot.benchmarks.gradbench.derivative import gradient
from tiaot.export import kernel

ti.init(default_fp=ti.f64)
numbers, table = ti.types.ndarray(ti.f64, ndim=1), ti.types.ndarray(ti.f64, ndim=2)


@kernel(
    "alpha[k], mean[k, d], factor[k, t], x[n, d], gamma, m -> y[1]",
    **gradient("alpha mean factor"),
    scratch={"term": ["n", "k"]},
    sizes=[{"k": 3, "d": 2, "t": 3, "n": 5}],
)
@ti.kernel
def gaussian_mixture(
    alpha: numbers, mean: table, factor: table, x: table, gamma: ti.f64, m: ti.f64, term: table, y: numbers
):
    n, d, k = x.shape[0], x.shape[1], alpha.shape[0]
    for i in range(n):
        most = -1e300
        for c in range(k):
            squares, diagonal = 0.0, 0.0
            for r in range(d):
                z = ti.exp(factor[c, r]) * (x[i, r] - mean[c, r])
                for q in range(r):
                    z += factor[c, d + r * (r - 1) // 2 + q] * (x[i, q] - mean[c, q])
                squares += z * z
                diagonal += factor[c, r]
            term[i, c] = alpha[c] + diagonal - 0.5 * squares
            most = ti.max(most, term[i, c])
        total = 0.0
        for c in range(k):
            total += ti.exp(term[i, c] - most)
        y[0] += most + ti.log(total)
    for _ in range(1):
        most = -1e300
        for c in range(k):
            most = ti.max(most, alpha[c])
        total = 0.0
        for c in range(k):
            total += ti.exp(alpha[c] - most)
        y[0] -= n * (most + ti.log(total))
    for c in range(k):
        for r in range(d):
            y[0] += 0.5 * gamma * gamma * ti.exp(2.0 * factor[c, r]) - m * factor[c, r]
        for r in range(d, factor.shape[1]):
            y[0] += 0.5 * gamma * gamma * factor[c, r] * factor[c, r]
