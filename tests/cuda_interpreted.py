"""Arrays for kernels in PTX that the stand-in for the driver interprets: every byte that a kernel touches is accounted
for. See python/ptx."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from cuda_arrays import CUDA, Driver, OfLibrary
from cuda_numerics import StandinArrays

CAPABILITY = 110  # that no module has machine code for, so that its PTX is taken


def use_interpreter(driver: Driver, multiprocessors: int = 2) -> None:
    """Lets the stand-in be a device that has to take the PTX of modules, where TIAOT_CUDA_PTX is 1."""
    driver.reset()
    driver.set_device(CAPABILITY, multiprocessors, 1)


class Described(OfLibrary):
    """A NumPy array that the interpreter knows: what kernels may touch."""

    def __init__(self, array: np.ndarray, device: int = 0, *, kind: int = CUDA, flags: int = 0) -> None:
        super().__init__(array, device, kind=kind, flags=flags)
        self.driver: Driver | None = None

    def describe(self, driver: Driver, name: str, *, writable: bool) -> None:
        """An input, or a result whose elements may not be read before they are written."""
        self.driver = driver
        if self.array.size:
            at = ctypes.c_void_p(self.array.ctypes.data)
            size = ctypes.c_int64(self.array.nbytes)
            driver.describe_memory(at, size, name.encode(), writable, not writable, self.array.itemsize)

    def unwritten(self) -> int:
        """Bytes that nothing was written to."""
        assert self.driver is not None
        return self.driver.unwritten(ctypes.c_void_p(self.array.ctypes.data)) if self.array.size else 0

    def forget(self) -> None:
        if self.driver is not None and self.array.size:
            self.driver.forget_memory(ctypes.c_void_p(self.array.ctypes.data))

    def __array_namespace__(self) -> Any:
        namespace = super().__array_namespace__()
        plain = namespace.empty

        def empty(shape: tuple[int, ...], *, dtype: Any, device: int) -> Described:
            made = plain(shape, dtype=dtype, device=device)
            assert self.driver is not None
            made.describe(self.driver, f"a result of {list(shape)}", writable=True)
            return made

        namespace.empty = empty
        return namespace


class InterpretedArrays(StandinArrays):
    """Checks, beside guards, that each call wrote all of its results and did nothing that the interpreter reports."""

    driver: Driver  # of the process

    def full(self, size: int, value: int, dtype: np.dtype) -> Any:
        return Described(np.full(size, value, dtype))

    def put(self, values: np.ndarray) -> Any:
        array = super().put(np.asarray(values))
        array.describe(self.driver, f"an input of {list(array.array.shape)}", writable=False)
        return array

    def room(self, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        self.driver.spoil_workspace()
        array = super().room(shape, dtype)
        array.describe(self.driver, f"a result of {list(shape)}", writable=True)
        return array

    def guards_hold(self, array: Any) -> bool:
        findings = self.driver.findings().decode()
        assert findings == "", findings
        assert array.unwritten() == 0, f"{array.unwritten()} of {array.array.nbytes} bytes of a result are not written"
        return super().guards_hold(array)

    def forget(self) -> None:
        for array, _ in self._memory.values():
            array.forget()
        super().forget()
