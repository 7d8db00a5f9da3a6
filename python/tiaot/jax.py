"""Kernels on JAX arrays, with gradients, under JAX's transformations and on several devices, on the CPU and CUDA.

dense_tanh = tiaot.jax.load("dense_tanh")
y = dense_tanh(x, W, b)
gx = jax.grad(lambda x: dense_tanh(x, W, b).sum())(x)
"""

from __future__ import annotations

from typing import Any

import jax

if jax.__version_info__ < (0, 8, 1):
    raise ImportError(f"tiaot.jax: expected jax 0.8.1 or newer, for Python 3.11 or newer, got jax {jax.__version__}")

import numpy as np
from jax import export as _export

from . import _core, _load
from ._framework import Handle, bound, checked
from ._jax_primitives import TARGET, KernelCallee, call
from ._jax_simulation import Simulation
from ._shapes import Signature

__all__ = ["DISABLED_CHECKS", "Kernel", "Simulation", "load", "wrap"]

# What jax.export is told for a program with kernels in it: `jax.export.export(f, disabled_checks=DISABLED_CHECKS)`. It
# stands for the promise that the process that runs the program loads the kernels with tiaot.jax first.
DISABLED_CHECKS = (_export.DisabledSafetyCheck.custom_call(TARGET),)

for _platform in ("cpu", "CUDA"):  # JAX keeps the second until, and unless, a plugin for CUDA is there
    jax.ffi.register_ffi_target(TARGET, _core.xla_handler(_platform), platform=_platform)


def load(name: str) -> Kernel:
    """The kernel of that name that ships with tiaot, on JAX arrays. Raises what tiaot.load raises."""
    return Kernel(_load.load(name))


def wrap(kernel: _core.Kernel) -> Kernel:
    """Any kernel on JAX arrays: `wrap(tiaot.open("mine.tiaot.so").kernel)`. TypeError for anything but a Kernel,
    and for a kernel over state.
    """
    return Kernel(checked(kernel))


class Kernel(Handle):
    """A kernel on JAX arrays; from load or wrap.

    kernel(*inputs) computes the output, or a tuple where there are several; inputs may be given by their names. They
    are JAX arrays, or NumPy's, on the CPU or CUDA devices, of the kernel's element type (float64 needs jax_enable_x64),
    or Python numbers in place of arrays without dimensions. Derivatives are the module's: reverse mode by its vjp,
    forward mode by its jvp, second ones by its hvp.

    Raises TypeError for another element type or a wrong number of arguments, ValueError for a wrong shape,
    NotImplementedError for a derivative that the module does not have, a third one, and forward mode of forward mode;
    when the program runs, ValueError for a module that has been closed.
    """

    def __init__(self, kernel: _core.Kernel) -> None:
        super().__init__(kernel)
        self._signature = Signature(kernel)
        variant = kernel.variants[0] if len(kernel.variants) == 1 else ""
        self._callee = KernelCallee(":".join((kernel.name, kernel.module.hash, variant)), self._signature)
        _core.register_for_xla(self._callee.key, kernel)
        self._call = jax.jit(self._run, inline=True)

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        arrays = bound(self._signature, arrays, named) if named else arrays
        self._signature.check_count(len(arrays))
        if self._signature.numbers:
            arrays = tuple(
                self._signature.with_numbers(arrays, lambda array: str(getattr(array, "dtype", "")), np.asarray)
            )
        for name, array in zip(self._signature.inputs, arrays, strict=True):
            self._check(name, array)
        return self._call(*arrays)

    def _check(self, name: str, array: Any) -> None:
        label = f"{self.name}: argument '{name}'"
        if not isinstance(array, (jax.Array, np.ndarray)):
            got = f"{type(array).__module__}.{type(array).__qualname__}".removeprefix("builtins.")
            raise TypeError(f"{label}: expected a jax.Array, got {got}")
        if isinstance(array, np.ndarray) and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
            raise TypeError(f"{label}: {array.dtype} needs jax_enable_x64, without which JAX would round the values")

    def _run(self, *arrays: Any) -> Any:
        outputs = call(*arrays, kernel=self._callee)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)
