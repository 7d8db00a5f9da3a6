"""The vjp for numba, as one would write it with loops: serial, or over the samples with `prange`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, set_num_threads


def compiled(threads: int) -> Any:
    """`vjp_x(x, W, b, v, gx)` and `vjp_all(x, W, b, v, gx, gW, gb)`; the first uses so many threads."""
    if threads > 1:
        set_num_threads(threads)

    @njit(parallel=threads > 1, fastmath=True, cache=False)
    def vjp_x(x, W, b, v, gx):
        for i in prange(x.shape[0]):
            for k in range(x.shape[1]):
                gx[i, k] = 0
            for j in range(W.shape[0]):
                z = b[j]
                for k in range(x.shape[1]):
                    z += W[j, k] * x[i, k]
                y = np.tanh(z)
                d = (1 - y * y) * v[i, j]
                for k in range(x.shape[1]):
                    gx[i, k] += d * W[j, k]

    @njit(fastmath=True, cache=False)
    def vjp_all(x, W, b, v, gx, gW, gb):
        gW[:] = 0
        gb[:] = 0
        for i in range(x.shape[0]):
            for k in range(x.shape[1]):
                gx[i, k] = 0
            for j in range(W.shape[0]):
                z = b[j]
                for k in range(x.shape[1]):
                    z += W[j, k] * x[i, k]
                y = np.tanh(z)
                d = (1 - y * y) * v[i, j]
                for k in range(x.shape[1]):
                    gx[i, k] += d * W[j, k]
                    gW[j, k] += d * x[i, k]
                gb[j] += d

    return vjp_x, vjp_all
