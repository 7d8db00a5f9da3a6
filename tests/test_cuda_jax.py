"""The handler for XLA's platform CUDA, called as XLA calls it, on the stand-in for the driver; and its registration."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cuda_arrays
import numpy as np
import pytest
from cuda_arrays import Driver, in_child

K = 3.0
FORWARD, VJP = 0, 1


class Xla:
    """fixtures/xla_frame.c, with the handler for `platform`."""

    def __init__(self, platform: str) -> None:
        import jax
        from tiaot import _core

        compiler = shutil.which("cc")
        assert compiler is not None
        source = Path(__file__).parent / "fixtures" / "xla_frame.c"
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "frame.so"
            include = f"-I{jax.ffi.include_dir()}"
            subprocess.run([compiler, "-shared", "-fPIC", include, str(source), "-o", str(library)], check=True)
            self._library = ctypes.CDLL(str(library))
        pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
        pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        self._handler = ctypes.c_void_p(pointer_of(_core.xla_handler(platform), b"xla._CUSTOM_CALL_TARGET"))
        self._library.call.restype = ctypes.c_char_p

    def call(
        self,
        key: str,
        arguments: list[np.ndarray],
        results: list[np.ndarray],
        *,
        entry: int = FORWARD,
        wrt: int = 0,
        stream: int = 0,
        device: int = 0,
        tells_device: bool = True,
    ) -> str | None:
        """Runs the handler. The message of its error."""
        every = [*arguments, *results]
        data = (ctypes.c_void_p * len(every))(*(a.ctypes.data if a.size else None for a in every))
        ranks = (ctypes.c_int64 * len(every))(*(a.ndim for a in every))
        dims = (ctypes.c_int64 * (8 * len(every)))()
        for i, array in enumerate(every):
            dims[8 * i : 8 * i + array.ndim] = array.shape
        counts = len(arguments), len(results)
        place = int(tells_device), ctypes.c_void_p(stream), device
        message = self._library.call(self._handler, *place, key.encode(), entry, wrt, *counts, data, ranks, dims)
        return None if message is None else message.decode()

    def metadata(self) -> tuple[int, int]:
        """Minor version and traits."""
        traits = ctypes.c_uint32()
        return self._library.metadata(self._handler, ctypes.byref(traits)), traits.value


def operands() -> list[np.ndarray]:
    """x, k, s."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    return [x, np.array(K, np.float32), np.array([10, 20, 30], np.float32)]


pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


@in_child
def test_the_handler_works_on_the_stream_and_device_that_xla_names(driver: Driver) -> None:
    pytest.importorskip("jax")
    from tiaot import _core

    driver.set_device_count(2)
    module = cuda_arrays.open_module()
    _core.register_for_xla("key", module.affine)
    xla = Xla("CUDA")
    x, k, s = operands()
    for device, stream, tells in ((0, 0, True), (1, 0x90, True), (0, 0x91, False)):
        y = np.zeros((2, 3), np.float32)
        assert xla.call("key", [x, k, s], [y], stream=stream, device=device, tells_device=tells) is None
        np.testing.assert_array_equal(y, np.float32(K) * x + s)
        v = np.ones((2, 3), np.float32)
        gx, gs = np.zeros_like(x), np.zeros_like(s)
        placed: dict[str, Any] = {"stream": stream, "device": device, "tells_device": tells}
        assert xla.call("key", [x, k, s, v], [gx, gs], entry=VJP, wrt=5, **placed) is None
        np.testing.assert_array_equal(gx, np.float32(K) * v)
        np.testing.assert_array_equal(gs, v.sum(0))
        lines = driver.calls("cuLaunchKernel", "cuMemsetD8Async", "cuStreamSynchronize", "cuEventRecord")
        assert {tuple(line.split()[1:3]) for line in lines} == {(f"device={device}", f"stream={hex(stream)}")}
    empty = np.zeros((0, 3), np.float32)
    assert xla.call("key", [empty, k, s], [empty], tells_device=False) is None


@in_child
def test_what_fails_is_told_to_xla(driver: Driver) -> None:
    pytest.importorskip("jax")
    from tiaot import _core

    module = cuda_arrays.open_module()
    _core.register_for_xla("key", module.affine)
    _core.register_for_xla("host", module.host_only)
    xla = Xla("CUDA")
    arguments, y = operands(), np.zeros((2, 3), np.float32)
    assert "which this process has not loaded" in str(xla.call("other", arguments, [y]))
    assert "it was left out for a test" in str(xla.call("host", [arguments[2]], [arguments[2].copy()]))
    assert "cuda:5" in str(xla.call("key", arguments, [y], device=5))
    driver.fail(b"cuLaunchKernel", 1, 0, 1)
    assert "CUDA_ERROR_INVALID_VALUE" in str(xla.call("key", arguments, [y]))
    assert xla.call("key", arguments, [y]) is None
    module.close()
    assert "is closed" in str(xla.call("key", arguments, [y]))


@in_child
def test_the_handlers_of_both_platforms(driver: Driver) -> None:
    pytest.importorskip("jax")
    from tiaot import _core

    _core.register_for_xla("key", cuda_arrays.open_module().affine)
    y = np.zeros((2, 3), np.float32)
    for platform in ("cpu", "CUDA"):
        xla = Xla(platform)
        # Of our version, and not to be captured into command buffers: as a part of a graph its workspace cannot be.
        assert xla.metadata() == (3, 0)
        assert xla.call("key", operands(), [y]) is None
        assert len(driver.streams()) == (platform == "CUDA")


def test_registering_for_cuda_opens_no_driver() -> None:
    pytest.importorskip("jax")
    code = (
        "import tiaot.jax, jax; from jaxlib import xla_client\n"
        "kernel = tiaot.jax.load('dense_tanh')\n"
        "assert 'libcuda' not in open('/proc/self/maps').read()\n"
        "assert any(name == 'tiaot_call' for name, *_ in xla_client._custom_callback.get('CUDA', []))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_programs_are_lowered_for_cuda() -> None:
    jax = pytest.importorskip("jax")
    import tiaot.jax

    kernel = tiaot.jax.load("dense_tanh")
    shapes = [jax.ShapeDtypeStruct(shape, np.float32) for shape in ((2, 8), (4, 8), (4,))]
    exported = jax.export.export(
        jax.jit(lambda *a: jax.grad(lambda *a: kernel(*a).sum())(*a)),
        platforms=["cuda"],
        disabled_checks=[jax.export.DisabledSafetyCheck.custom_call("tiaot_call")],
    )(*shapes)
    assert exported.platforms == ("cuda",) and "tiaot_call" in exported.mlir_module()
