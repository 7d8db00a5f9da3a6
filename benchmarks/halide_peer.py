"""The vjp with respect to x for Halide: scheduled by hand, vectorised over columns and parallel over samples."""

from __future__ import annotations

from typing import Any

import halide as hl
from numpy.typing import NDArray


def pipeline(x: NDArray, W: NDArray, b: NDArray, v: NDArray, gx: NDArray, threads: int) -> Any:
    """A function without arguments that computes into gx. Halide's first axis is NumPy's last."""
    m, n = W.shape
    inputs = [hl.Buffer(array) for array in (x, W, b, v)]
    X, weights, bias, cotangent = inputs
    i, j, k = hl.Var("i"), hl.Var("j"), hl.Var("k")
    over_n, over_m = hl.RDom([(0, n)]), hl.RDom([(0, m)])
    z, d, gradient = hl.Func("z"), hl.Func("d"), hl.Func("gradient")
    z[j, i] = bias[j]
    z[j, i] += weights[over_n.x, j] * X[over_n.x, i]
    y = hl.tanh(z[j, i])
    d[j, i] = (1 - y * y) * cotangent[j, i]
    gradient[k, i] = hl.cast(bias.type(), 0)
    gradient[k, i] += d[over_m.x, i] * weights[k, over_m.x]

    target = hl.get_jit_target_from_environment()
    lanes = min(target.natural_vector_size(bias.type()), n)
    out, inner = hl.Func("out"), hl.Var("inner")
    out[k, i] = gradient[k, i]
    rows = min(8, x.shape[0])
    out.split(i, i, inner, rows).vectorize(k, lanes, hl.TailStrategy.GuardWithIf)
    if threads > 1:
        out.parallel(i)
    d.compute_at(out, i)
    z.compute_at(out, i)
    gradient.compute_at(out, i).vectorize(k, lanes, hl.TailStrategy.GuardWithIf)
    gradient.update().reorder(k, i, over_m.x).vectorize(k, lanes, hl.TailStrategy.GuardWithIf)
    out.compile_jit(target)
    result = hl.Buffer(gx)
    return lambda: out.realize(result)
