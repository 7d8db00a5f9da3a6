"""Kernels on JAX arrays, with gradients: XLA custom calls under jit, grad, vjp, vmap and jacrev, on the CPU and CUDA.

dense_tanh = tiaot.jax.load("dense_tanh")
y = dense_tanh(x, W, b)
gx = jax.grad(lambda x: dense_tanh(x, W, b).sum())(x)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.custom_batching import custom_vmap

from . import _core, _load
from ._framework import Handle, checked
from ._shapes import Signature

__all__ = ["Kernel", "load", "wrap"]

_TARGET = "tiaot_call"
_FORWARD, _VJP = 0, 1  # TIAOT_FORWARD, TIAOT_VJP

for _platform in ("cpu", "CUDA"):  # JAX keeps the second until, and unless, a plugin for CUDA is there
    jax.ffi.register_ffi_target(_TARGET, _core.xla_handler(_platform), platform=_platform)


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

    kernel(*inputs) computes the output, or a tuple where there are several. Inputs are JAX arrays, or NumPy's, on the
    CPU or a CUDA device, of the kernel's element type (float64 needs jax_enable_x64), or Python numbers in place of
    arrays without dimensions. Reverse-mode derivatives are the module's, first ones only.

    Raises TypeError for another element type or a wrong number of arguments, ValueError for a wrong shape,
    NotImplementedError for a gradient or second derivative that the module does not have; when the program runs,
    ValueError for a module that has been closed.
    """

    def __init__(self, kernel: _core.Kernel) -> None:
        super().__init__(kernel)
        self._signature = Signature(kernel)
        variant = kernel.variants[0] if len(kernel.variants) == 1 else ""
        self._key = ":".join((kernel.name, kernel.module.hash, variant))
        _core.register_for_xla(self._key, kernel)
        self._forward = self._mapped(self._signature.inputs, self._signature.outputs, self._call_forward)
        self._vjps: dict[tuple[bool, ...], Callable[..., Any]] = {}
        self._differentiable = jax.custom_vjp(self._run)
        self._differentiable.defvjp(self._keep_inputs, self._pull_back, symbolic_zeros=True)
        self._call = jax.jit(self._differentiable, inline=True)

    def __call__(self, *arrays: Any) -> Any:
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

    # The custom calls.

    def _invoke(self, results: list[jax.ShapeDtypeStruct], arrays: Sequence[Any], entry: int, wrt: int) -> list[Any]:
        call = jax.ffi.ffi_call(_TARGET, results)
        return list(call(*arrays, kernel=self._key, entry=np.int32(entry), wrt=np.int32(wrt)))

    def _call_forward(self, *arrays: Any) -> list[Any]:
        results = self._signature.results([array.shape for array in arrays], [str(array.dtype) for array in arrays])
        made = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in results]
        return self._invoke(made, arrays, _FORWARD, 0)

    def _call_vjp(self, wrt: Sequence[str], *operands: Any) -> list[Any]:
        gradients = []
        names = self._signature.inputs
        for group in self._signature.calls(wrt):
            like = [operands[names.index(name)] for name in group]
            made = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in like]
            mask = sum(1 << names.index(name) for name in group)
            gradients += self._invoke(made, operands, _VJP, mask)
        return gradients

    # Derivatives.

    def _run(self, *arrays: Any) -> Any:
        outputs = self._forward(*arrays)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _keep_inputs(self, *primals: Any) -> tuple[Any, Any]:
        for name, primal in zip(self._signature.inputs, primals, strict=True):
            is_real = jnp.issubdtype(primal.value.dtype, jnp.inexact)  # integers are always taken for perturbed
            if primal.perturbed and is_real and name not in self._signature.differentiable:
                raise NotImplementedError(f"{self.name}: the module has no gradient for argument '{name}'")
        arrays = [primal.value for primal in primals]
        wanted = tuple(() if primal.perturbed else None for primal in primals)  # of no arrays: part of the tree
        return self._differentiable(*arrays), (arrays, wanted)

    def _pull_back(self, kept: Any, cotangents: Any) -> tuple[Any, ...]:
        arrays, wanted = kept
        needed = tuple(
            each is not None and n in self._signature.differentiable
            for each, n in zip(wanted, self._signature.inputs, strict=True)
        )
        each = cotangents if isinstance(cotangents, tuple) else (cotangents,)
        full = [jnp.zeros(c.shape, c.dtype) if isinstance(c, jax.custom_derivatives.SymbolicZero) else c for c in each]
        gradients = iter(self._vjp(needed)(*arrays, *full) if any(needed) else ())
        return tuple(next(gradients) if want else None for want in needed)

    def _vjp(self, needed: tuple[bool, ...]) -> Callable[..., Any]:
        """The gradients of the inputs that are needed, as a function of the inputs and the cotangents."""
        if needed not in self._vjps:
            wrt = tuple(name for name, want in zip(self._signature.inputs, needed, strict=True) if want)
            operands = (*self._signature.inputs, *self._signature.outputs)
            mapped = self._mapped(operands, wrt, functools.partial(self._call_vjp, wrt))
            once = jax.custom_jvp(lambda *arrays: mapped(*arrays))
            once.defjvp(self._refuse_second_derivative)
            self._vjps[needed] = once
        return self._vjps[needed]

    def _refuse_second_derivative(self, primals: Any, tangents: Any) -> tuple[Any, Any]:
        raise NotImplementedError(
            f"{self.name}: a derivative of its gradient was asked for; the module has first derivatives only"
        )

    # vmap: the mapped axis joins the batch where that leaves no sum to take apart; otherwise call by call.

    def _mapped(self, operands: Sequence[str], results: Sequence[str], call: Callable[..., list[Any]]) -> Any:
        signature = self._signature
        batched = [name in signature.batched for name in operands]
        foldable = signature.has_batch and all(name in signature.batched for name in results)
        function = custom_vmap(call)

        @function.def_vmap
        def rule(count: int, mapped: list[bool], *arrays: Any) -> tuple[list[Any], list[bool]]:
            if foldable and not any(m and not b for m, b in zip(mapped, batched, strict=True)):
                folded = []
                rows = 0
                for array, is_mapped, is_batched in zip(arrays, mapped, batched, strict=True):
                    if is_batched:
                        array = array if is_mapped else jnp.broadcast_to(array, (count, *array.shape))
                        rows = array.shape[1]
                        array = array.reshape(count * rows, *array.shape[2:])
                    folded.append(array)
                made = [result.reshape(count, rows, *result.shape[1:]) for result in function(*folded)]
            else:
                moving = [array for array, is_mapped in zip(arrays, mapped, strict=True) if is_mapped]

                def once(each: list[Any]) -> list[Any]:
                    rest = iter(each)
                    return function(*(next(rest) if m else array for array, m in zip(arrays, mapped, strict=True)))

                made = jax.lax.map(once, moving)
            return made, [True] * len(made)

        return function
