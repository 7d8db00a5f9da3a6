"""The layer on Taichi's JIT compiler: fields, a Jacobian row by row; and ndarrays, one reverse pass. Times nothing.

No `from __future__ import annotations` in here: Taichi reads the annotations of its kernels as objects.
"""

import functools

import numpy as np
import taichi as ti

_MATRIX_LIMIT = 256  # elements of a matrix-typed argument


@functools.cache
def start(threads):
    """Starts Taichi's runtime, once a process: a second ti.init would destroy what the first one's users hold."""
    ti.init(arch=ti.cpu, cpu_max_num_threads=threads, offline_cache=False, log_level=ti.ERROR)


def _real(array):
    return {"float32": ti.f32, "float64": ti.f64}[array.dtype.name]


def prepare_jacobian(inputs):
    """The Jacobian over fields, as a first program has it: a function without arguments that gives J^T v, (B, n).

    The fields hold one sample. For each sample: the forward kernel, then for each of the m outputs the gradients are
    cleared, a one is put into y.grad, and the reverse kernel gives a row of the Jacobian: B * m reverse passes. W and b
    carry no gradient here, which nobody asks for and which would cost time.
    """
    (B, n), m, T = inputs.x.shape, len(inputs.b), _real(inputs.x)
    x, y = ti.field(T, shape=n, needs_grad=True), ti.field(T, shape=m, needs_grad=True)
    W, b = ti.field(T, shape=(m, n)), ti.field(T, shape=m)

    @ti.kernel
    def forward():
        for j in y:
            z = b[j]
            for k in ti.static(range(n)):
                z += W[j, k] * x[k]
            y[j] = ti.tanh(z)

    W.from_numpy(inputs.W)
    b.from_numpy(inputs.b)

    def run():
        result = np.empty_like(inputs.x)
        jacobian = np.empty((m, n), inputs.x.dtype)
        for i in range(B):
            x.from_numpy(inputs.x[i])
            forward()
            for j in range(m):
                x.grad.fill(0)
                y.grad.fill(0)
                y.grad[j] = 1
                forward.grad()
                jacobian[j] = x.grad.to_numpy()
            result[i] = jacobian.T @ inputs.v[i]
        return result

    return run


def _typed_kernel(T, n, m, shared_grad):
    """The layer with matrix-typed arguments: one loop over the batch, whose reverse recomputes what it needs."""
    vec_n, vec_m, mat = ti.types.vector(n, T), ti.types.vector(m, T), ti.types.matrix(m, n, T)

    @ti.kernel
    def layer(
        x: ti.types.ndarray(dtype=vec_n, ndim=1, needs_grad=True),
        W: ti.types.ndarray(dtype=mat, ndim=1, needs_grad=shared_grad),
        b: ti.types.ndarray(dtype=vec_m, ndim=1, needs_grad=shared_grad),
        y: ti.types.ndarray(dtype=vec_m, ndim=1, needs_grad=True),
    ):
        for i in range(y.shape[0]):
            y[i] = ti.tanh(W[0] @ x[i] + b[0])

    return layer


def _plain_kernel(T, shared_grad):
    """The layer for any n and m. Its sums are made in z: Taichi cannot differentiate a long sum in a variable."""

    @ti.kernel
    def layer(
        x: ti.types.ndarray(dtype=T, ndim=2, needs_grad=True),
        W: ti.types.ndarray(dtype=T, ndim=2, needs_grad=shared_grad),
        b: ti.types.ndarray(dtype=T, ndim=1, needs_grad=shared_grad),
        y: ti.types.ndarray(dtype=T, ndim=2, needs_grad=True),
        z: ti.types.ndarray(dtype=T, ndim=2, needs_grad=True),
    ):
        for i, j in y:
            z[i, j] = b[j]
        for i, j in y:
            for k in range(x.shape[1]):
                z[i, j] += W[j, k] * x[i, k]
        for i, j in y:
            y[i, j] = ti.tanh(z[i, j])

    return layer


def zero_kernel(element, rank):
    """Writes zeros: an ndarray of vectors takes a millisecond for its own fill()."""

    @ti.kernel
    def zero(a: ti.types.ndarray(dtype=element, ndim=rank)):
        for i in ti.grouped(a):
            a[i] = 0

    return zero


def prepare_ndarrays(wrt, inputs):
    """(run, results): run() does one reverse pass, results() are the gradients in wrt as NumPy arrays."""
    (B, n), m, T = inputs.x.shape, len(inputs.b), _real(inputs.x)
    shared = wrt != ("x",)
    typed = n * m <= _MATRIX_LIMIT
    if typed:
        layer = _typed_kernel(T, n, m, shared)
        vec_n, vec_m, mat = ti.types.vector(n, T), ti.types.vector(m, T), ti.types.matrix(m, n, T)
        x, y = ti.ndarray(vec_n, (B,), needs_grad=True), ti.ndarray(vec_m, (B,), needs_grad=True)
        W, b = ti.ndarray(mat, (1,), needs_grad=shared), ti.ndarray(vec_m, (1,), needs_grad=shared)
        v, arrays = ti.ndarray(vec_m, (B,)), (x, W, b, y)
        values = (inputs.x, inputs.W[None], inputs.b[None])
    else:
        layer = _plain_kernel(T, shared)
        x, y, z = (ti.ndarray(T, shape, needs_grad=True) for shape in ((B, n), (B, m), (B, m)))
        W, b = ti.ndarray(T, (m, n), needs_grad=shared), ti.ndarray(T, (m,), needs_grad=shared)
        v, arrays = ti.ndarray(T, (B, m)), (x, W, b, y, z)
        values = (inputs.x, inputs.W, inputs.b)
    for to, array in zip((x, W, b), values, strict=True):
        to.from_numpy(array)
    v.from_numpy(inputs.v)
    cleared = [a.grad for a in arrays if a is not y and a.grad is not None]
    zero = {a: zero_kernel(a.element_type, len(a.shape)) for a in cleared}

    def run():
        if not typed:
            layer(*arrays)  # the reverse pass reads the z that the forward pass left
        y.grad.copy_from(v)  # the reverse pass zeroes it
        for gradient in cleared:
            zero[gradient](gradient)
        layer.grad(*arrays)
        ti.sync()

    def results():
        by_name = {"x": (x, (B, n)), "W": (W, (m, n)), "b": (b, (m,))}
        return tuple(by_name[name][0].grad.to_numpy().reshape(by_name[name][1]) for name in wrt)

    return run, results
