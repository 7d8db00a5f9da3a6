"""One process's way to its first J^T v, for the cold start: `python first_result.py PATH [CACHE_FOLDER]`.

Imports what its path needs and nothing else. Prints the clock at the first result, and the memory at the end.
"""

import sys
import time

B, n, m = 2, 8, 4
SHAPES = {"x": (B, n), "W": (m, n), "b": (m,), "v": (B, m)}


def numpy_arrays():
    """The same for every path, without numpy.random, which takes milliseconds to import."""
    import numpy as np

    return [np.linspace(-1, 1, int(np.prod(s)), dtype=np.float32).reshape(s) for s in SHAPES.values()]


def run_python():
    """Nothing but the interpreter."""
    return [0.0]


def run_numpy():
    import numpy as np

    x, W, b, v = numpy_arrays()
    return ((1 - np.tanh(x @ W.T + b) ** 2) * v) @ W


def run_tiaot():
    import tiaot

    return tiaot.load("dense_tanh").vjp(*numpy_arrays())


def run_torch():
    import torch

    x, W, b, v = (torch.from_numpy(a) for a in numpy_arrays())
    x.requires_grad_()
    return torch.autograd.grad(torch.tanh(torch.nn.functional.linear(x, W, b)), [x], v)[0].numpy()


def run_jax():
    import jax
    import numpy as np

    x, W, b, v = numpy_arrays()
    vjp = jax.jit(lambda x, W, b, v: jax.vjp(lambda x: jax.numpy.tanh(x @ W.T + b), x)[1](v)[0])
    return np.asarray(vjp(x, W, b, v))


def run_taichi(cache):
    import taichi as ti

    ti.init(arch=ti.cpu, offline_cache=True, offline_cache_file_path=cache, log_level=ti.ERROR)
    vec_n, vec_m, mat = ti.types.vector(n, ti.f32), ti.types.vector(m, ti.f32), ti.types.matrix(m, n, ti.f32)

    @ti.kernel
    def layer(
        x: ti.types.ndarray(dtype=vec_n, ndim=1, needs_grad=True),
        W: ti.types.ndarray(dtype=mat, ndim=1),
        b: ti.types.ndarray(dtype=vec_m, ndim=1),
        y: ti.types.ndarray(dtype=vec_m, ndim=1, needs_grad=True),
    ):
        for i in range(y.shape[0]):
            y[i] = ti.tanh(W[0] @ x[i] + b[0])

    arrays = numpy_arrays()
    x, y = ti.ndarray(vec_n, (B,), needs_grad=True), ti.ndarray(vec_m, (B,), needs_grad=True)
    W, b = ti.ndarray(mat, (1,)), ti.ndarray(vec_m, (1,))
    x.from_numpy(arrays[0])
    W.from_numpy(arrays[1][None])
    b.from_numpy(arrays[2][None])
    y.grad.from_numpy(arrays[3])
    layer.grad(x, W, b, y)
    return x.grad.to_numpy()


def peak_memory():
    """Resident memory at its highest, in kB; 0 where the system does not say."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 0


if __name__ == "__main__":
    result = globals()[f"run_{sys.argv[1]}"](*sys.argv[2:])
    now = time.clock_gettime(time.CLOCK_MONOTONIC)
    flat = result if isinstance(result, list) else result.ravel().tolist()
    print("first", now, peak_memory(), flat[0], flat[-1])
