"""Taichi's own ahead-of-time path: a backward kernel written by hand, exported by ti.aot, run through Taichi's C API.

Taichi exports no gradient of a kernel, hence the hand-written one. Exporting is done in a child process, so that the
process that measures holds only what this path needs.

    python taichi_aot.py FOLDER n m float32|float64
"""

import ctypes
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_ARCH_X64 = 4
_ARGUMENT_NDARRAY = 2
_DATA_TYPES = {"float32": 1, "float64": 2}
_MATRIX_LIMIT = 256  # elements of a matrix-typed argument


class _NdShape(ctypes.Structure):
    _fields_ = [("dim_count", ctypes.c_uint32), ("dims", ctypes.c_uint32 * 16)]


class _NdArray(ctypes.Structure):
    _fields_ = [
        ("memory", ctypes.c_void_p),
        ("shape", _NdShape),
        ("elem_shape", _NdShape),
        ("elem_type", ctypes.c_int),
    ]


class _ArgumentValue(ctypes.Union):
    # The largest member is the NdArray or a tensor of 4 + 4 + 128 bytes and a type: room for both.
    _fields_ = [("ndarray", _NdArray), ("room", ctypes.c_uint64 * 19)]


class _Argument(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("value", _ArgumentValue)]


def package_folder() -> Path:
    """Where taichi is installed, found without importing it; ImportError when it is not."""
    spec = importlib.util.find_spec("taichi")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("No module named 'taichi'")
    return Path(spec.submodule_search_locations[0])


class Runtime:
    """Taichi's C runtime for the CPU; at most one a process."""

    def __init__(self) -> None:
        folder = package_folder() / "_lib"
        os.environ["TI_LIB_DIR"] = str(folder / "runtime")  # where the C library looks for its bitcode
        self.library = ctypes.CDLL(str(folder / "c_api" / "lib" / "libtaichi_c_api.so"))
        pointer, number = ctypes.c_void_p, ctypes.c_uint32
        for name, result, arguments in (
            ("ti_create_runtime", pointer, [ctypes.c_int, number]),
            ("ti_load_aot_module", pointer, [pointer, ctypes.c_char_p]),
            ("ti_get_aot_module_kernel", pointer, [pointer, ctypes.c_char_p]),
            ("ti_import_cpu_memory", pointer, [pointer, pointer, ctypes.c_size_t]),
            ("ti_launch_kernel", None, [pointer, pointer, number, pointer]),
            ("ti_wait", None, [pointer]),
            ("ti_get_last_error", ctypes.c_int, [pointer, ctypes.c_char_p]),
        ):
            function = getattr(self.library, name)
            function.restype, function.argtypes = result, arguments
        self.handle = self.library.ti_create_runtime(_ARCH_X64, 0)
        self.check(self.handle)

    def check(self, handle: int | None = 1) -> None:
        """Raises RuntimeError with Taichi's message when the last call failed or gave no handle."""
        size = ctypes.c_uint64(1024)
        message = ctypes.create_string_buffer(1024)
        code = self.library.ti_get_last_error(ctypes.byref(size), message)
        if code < 0 or not handle:
            raise RuntimeError(f"Taichi's C API: error {code}: {message.value.decode(errors='replace')}")


class Array:
    """A NumPy array given to the C runtime where it lies."""

    def __init__(self, runtime: Runtime, values: NDArray, element_rank: int) -> None:
        self.values = np.ascontiguousarray(values)
        library, handle = runtime.library, runtime.handle
        memory = library.ti_import_cpu_memory(handle, self.values.ctypes.data, self.values.nbytes)
        runtime.check(memory)
        outer = values.ndim - element_rank
        self.argument = _NdArray(
            memory,
            _NdShape(outer, tuple(values.shape[:outer])),
            _NdShape(element_rank, tuple(values.shape[outer:])),
            _DATA_TYPES[values.dtype.name],
        )


class Backward:
    """The exported backward kernel with its arrays: launch() computes, result() is the gradient."""

    def __init__(self, runtime: Runtime, x: NDArray, W: NDArray, b: NDArray, v: NDArray) -> None:
        m, n = W.shape
        with tempfile.TemporaryDirectory(prefix="tiaot-bench-aot-") as folder:
            command = [sys.executable, __file__, folder, str(n), str(m), x.dtype.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"exporting with ti.aot failed: {(done.stderr or done.stdout).strip()[-200:]}")
            module = runtime.library.ti_load_aot_module(runtime.handle, folder.encode())
            runtime.check(module)
            self._kernel = runtime.library.ti_get_aot_module_kernel(module, b"backward")  # reads the folder
            runtime.check(self._kernel)
        typed = n * m <= _MATRIX_LIMIT
        shapes = [(x, 1), (W[None], 2), (b[None], 1), (v, 1)] if typed else [(a, 0) for a in (x, W, b, v)]
        self._arrays = [Array(runtime, a, rank if typed else 0) for a, rank in shapes]
        self._arrays.append(Array(runtime, np.zeros_like(x), 1 if typed else 0))
        self._arguments = (_Argument * 5)()
        for slot, array in zip(self._arguments, self._arrays, strict=True):
            slot.type = _ARGUMENT_NDARRAY
            slot.value.ndarray = array.argument
        self._runtime, self._shape = runtime, x.shape
        self._launch = (runtime.handle, self._kernel, 5, ctypes.byref(self._arguments))

    def launch(self) -> None:
        self._runtime.library.ti_launch_kernel(*self._launch)
        self._runtime.library.ti_wait(self._runtime.handle)

    def result(self) -> NDArray:
        self._runtime.check()
        return self._arrays[-1].values.reshape(self._shape)


def export(folder: str, n: int, m: int, dtype: str) -> None:
    """Writes the module: matrix-typed arguments where Taichi allows them, plain loops above that."""
    import taichi as ti

    ti.init(arch=ti.x64, offline_cache=False, log_level=ti.ERROR)
    T = {"float32": ti.f32, "float64": ti.f64}[dtype]
    vec_n, vec_m, mat = ti.types.vector(n, T), ti.types.vector(m, T), ti.types.matrix(m, n, T)

    @ti.kernel
    def typed(
        x: ti.types.ndarray(dtype=vec_n, ndim=1),
        W: ti.types.ndarray(dtype=mat, ndim=1),
        b: ti.types.ndarray(dtype=vec_m, ndim=1),
        v: ti.types.ndarray(dtype=vec_m, ndim=1),
        gx: ti.types.ndarray(dtype=vec_n, ndim=1),
    ):
        for i in range(x.shape[0]):
            y = ti.tanh(W[0] @ x[i] + b[0])
            gx[i] = W[0].transpose() @ ((1 - y * y) * v[i])

    @ti.kernel
    def plain(
        x: ti.types.ndarray(dtype=T, ndim=2),
        W: ti.types.ndarray(dtype=T, ndim=2),
        b: ti.types.ndarray(dtype=T, ndim=1),
        v: ti.types.ndarray(dtype=T, ndim=2),
        gx: ti.types.ndarray(dtype=T, ndim=2),
    ):
        for i in range(x.shape[0]):
            for k in range(x.shape[1]):
                gx[i, k] = 0
            for j in range(W.shape[0]):
                z = b[j]
                for k in range(x.shape[1]):
                    z += W[j, k] * x[i, k]
                y = ti.tanh(z)
                g = (1 - y * y) * v[i, j]
                for k in range(x.shape[1]):
                    gx[i, k] += W[j, k] * g

    module = ti.aot.Module(ti.x64)
    kernel = typed if n * m <= _MATRIX_LIMIT else plain
    arguments = {}
    if n * m > _MATRIX_LIMIT:
        for name, rank in (("x", 2), ("W", 2), ("b", 1), ("v", 2), ("gx", 2)):
            arguments[name] = ti.ndarray(T, (1,) * rank)
    else:
        for name, element in (("x", vec_n), ("W", mat), ("b", vec_m), ("v", vec_m), ("gx", vec_n)):
            arguments[name] = ti.ndarray(element, (1,))
    module.add_kernel(kernel, template_args=arguments, name="backward")
    module.save(folder)


if __name__ == "__main__":
    export(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
