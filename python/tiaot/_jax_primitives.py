"""Kernels as JAX primitives, under all of JAX's transformations: the forward call, its jvp and its vjp.

They hang together as those of JAX's own functions do: the derivative of the call is the jvp, which is linear in the
tangents, and its transpose is the vjp. Knows nothing of handles; how arrays lie on devices is _jax_sharding's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import _jax_sharding as sharding

TARGET = "tiaot_call"  # the XLA custom call that every kernel is
FORWARD, VJP = 0, 1  # TIAOT_FORWARD, TIAOT_VJP

Names = tuple[str, ...]


class Callee:
    """What a program calls: something with a signature, of which equal ones are the same."""

    def __init__(self, key: Any, signature: Any) -> None:
        self.key = key
        self.signature = signature

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return str(self.signature.label)

    def lower(self, context: Any, values: Any, entry: int, wrt: Names, mapped: int, names: tuple[Names, Names]) -> Any:
        """The computation of `entry` in the compiler's language; the rest are the primitive's, see _Computation."""
        raise NotImplementedError


class KernelCallee(Callee):
    """A kernel; the custom call finds it by its key."""

    def lower(self, context: Any, values: Any, entry: int, wrt: Names, mapped: int, names: tuple[Names, Names]) -> Any:
        signature = self.signature
        attributes = {
            "kernel": self.key,
            "entry": np.int32(entry),
            "wrt": np.int32(sum(1 << signature.inputs.index(name) for name in wrt)),
        }
        is_partitioned = signature.has_batch and sharding.is_partitioned(context)
        if not mapped and not is_partitioned:
            return jax.ffi.ffi_lowering(TARGET)(context, *values, **attributes)
        operands, results = (sharding.leading_axes(signature, each, mapped) for each in names)

        def run(arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
            """The call on arrays whose leading axes are folded into one; results of these shapes."""
            dtypes = [aval.dtype for aval in context.avals_out]
            folded = [_fold(array.shape, axes) for array, axes in zip(arrays, operands, strict=True)]
            made = [_fold(shape, axes) for shape, axes in zip(shapes, results, strict=True)]
            types = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(made, dtypes, strict=True)]
            given = [array.reshape(shape) for array, shape in zip(arrays, folded, strict=True)]
            values = jax.ffi.ffi_call(TARGET, types)(*given, **attributes)
            return [value.reshape(shape) for value, shape in zip(values, shapes, strict=True)]

        context = untyped(context)
        if is_partitioned:
            function = sharding.partitioned(run, context, operands, results)
        else:
            shapes = [aval.shape for aval in context.avals_out]

            def function(*arrays: Any) -> list[Any]:
                return run(arrays, shapes)

        return mlir.lower_fun(function, multiple_results=True)(context, *values)


def untyped(context: Any) -> Any:
    """A context of lowering whose types say nothing of devices: how arrays lie is settled by then."""
    plain = [[jax.core.ShapedArray(a.shape, a.dtype) for a in avals] for avals in (context.avals_in, context.avals_out)]
    return context.replace(avals_in=plain[0], avals_out=plain[1])


class _Computation:
    """One of the three, with its primitive.

    The primitive's parameters are `kernel`, a Callee; `wrt`, names of inputs; `mapped`, how many axes the arguments of
    the batch have before that of the batch, which vmap put there. `names(signature, wrt)` tells the arguments that the
    operands and the results have the shapes and element types of.
    """

    def __init__(self, name: str, entry: int | None, names: Callable[[Any, Names], tuple[Names, Names]]) -> None:
        self._entry = entry
        self._names = names
        self.primitive = primitive = Primitive(name)
        primitive.multiple_results = True
        primitive.def_impl(jax.jit(primitive.bind, static_argnames=("kernel", "wrt", "mapped")))
        primitive.def_abstract_eval(self._abstract)
        mlir.register_lowering(primitive, self._lower)
        batching.primitive_batchers[primitive] = self._batch
        sharding.lower_for_known_devices(primitive)

    def __call__(self, *arrays: Any, kernel: Callee, wrt: Names = (), mapped: int = 0) -> list[Any]:
        operands, _ = self._names(kernel.signature, wrt)
        axes = sharding.leading_axes(kernel.signature, operands, mapped)
        return self.primitive.bind(*sharding.aligned(arrays, axes), kernel=kernel, wrt=wrt, mapped=mapped)

    def _abstract(self, *avals: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
        signature = kernel.signature
        operands, results = self._names(signature, wrt)
        cuttable = [sharding.leading_axes(signature, names, mapped) for names in (operands, results)]
        front = next((aval.shape[:mapped] for aval, axes in zip(avals, cuttable[0], strict=True) if axes), ())
        inner = [aval.shape[mapped if axes else 0 :] for aval, axes in zip(avals, cuttable[0], strict=True)]
        types = _types(signature, inner, avals)
        whole = {
            name: ((*front, *shape) if name in signature.batched else shape, d) for name, (shape, d) in types.items()
        }
        for name, aval in zip(operands, avals, strict=True):
            shape, dtype = whole[name]
            if (aval.shape, aval.dtype) != (shape, dtype):
                raise TypeError(f"{kernel}: '{name}' or its derivative: expected {dtype}{list(shape)}, got {aval}")
        return sharding.result_types(
            f"{kernel}", operands, avals, cuttable[0], [whole[name] for name in results], cuttable[1]
        )

    def _lower(self, context: Any, *values: Any, kernel: Callee, wrt: Names, mapped: int) -> Any:
        if self._entry is None:
            raise NotImplementedError(f"{kernel}: the module has no forward-mode derivative (jvp)")
        return kernel.lower(context, values, self._entry, wrt, mapped, self._names(kernel.signature, wrt))

    def _batch(
        self, arrays: Any, places: Any, *, kernel: Callee, wrt: Names, mapped: int
    ) -> tuple[list[Any], list[int]]:
        """vmap: the new axis goes before the batch where that leaves no sum to take apart; otherwise call by call."""
        signature = kernel.signature
        operands, results = self._names(signature, wrt)
        batched = [name in signature.batched for name in operands]
        is_mapped = [place is not None for place in places]
        arrays = [a if place is None else jnp.moveaxis(a, place, 0) for a, place in zip(arrays, places, strict=True)]
        count = next(array.shape[0] for array, moving in zip(arrays, is_mapped, strict=True) if moving)
        run = functools.partial(self, kernel=kernel, wrt=wrt)
        joins = signature.has_batch and all(name in signature.batched for name in results)
        if joins and not any(m and not b for m, b in zip(is_mapped, batched, strict=True)):
            arrays = [
                jnp.broadcast_to(array, (count, *array.shape)) if b and not m else array
                for array, m, b in zip(arrays, is_mapped, batched, strict=True)
            ]
            made = run(*arrays, mapped=mapped + 1)
        else:
            moving = [array for array, m in zip(arrays, is_mapped, strict=True) if m]

            def once(each: list[Any]) -> list[Any]:
                rest = iter(each)
                return run(*(next(rest) if m else a for a, m in zip(arrays, is_mapped, strict=True)), mapped=mapped)

            made = jax.lax.map(once, moving)
        return made, [0] * len(made)


def _types(signature: Any, shapes: Sequence[Any], avals: Sequence[Any]) -> dict[str, tuple[Any, Any]]:
    """Shape, without mapped axes, and element type of each argument, from those of the inputs, which come first."""
    count = len(signature.inputs)
    made = signature.results(shapes[:count], [str(aval.dtype) for aval in avals[:count]])
    types = dict(zip(signature.inputs, zip(shapes, (aval.dtype for aval in avals), strict=True), strict=False))
    return types | {
        name: (shape, np.dtype(dtype)) for name, (shape, dtype) in zip(signature.outputs, made, strict=True)
    }


def _fold(shape: tuple[Any, ...], axes: int) -> tuple[Any, ...]:
    """The shape with that many of its first axes as one."""
    return (math.prod(shape[:axes]), *shape[axes:]) if axes > 1 else shape


call = _Computation("tiaot_call", FORWARD, lambda signature, _: (signature.inputs, signature.outputs))
jvp = _Computation("tiaot_jvp", None, lambda signature, wrt: ((*signature.inputs, *wrt), signature.outputs))
vjp = _Computation("tiaot_vjp", VJP, lambda signature, wrt: ((*signature.inputs, *signature.outputs), wrt))


def _differentiate_call(primals: Any, tangents: Any, *, kernel: Callee, wrt: Names, mapped: int) -> tuple[Any, Any]:
    outputs = call(*primals, kernel=kernel, mapped=mapped)
    moving = {name: t for name, t in zip(kernel.signature.inputs, tangents, strict=True) if not _is_zero(t)}
    for name in moving:
        if name not in kernel.signature.differentiable:
            raise NotImplementedError(f"{kernel}: the module has no gradient for argument '{name}'")
    if not moving:
        return outputs, [_zero_of(output) for output in outputs]
    changes = jvp(*primals, *moving.values(), kernel=kernel, wrt=tuple(moving), mapped=mapped)
    is_real = [jnp.issubdtype(output.dtype, jnp.inexact) for output in outputs]
    return outputs, [t if real else _zero_of(o) for t, o, real in zip(changes, outputs, is_real, strict=True)]


def _differentiate_linear(
    computation: _Computation, primals: Any, tangents: Any, *, kernel: Callee, wrt: Names, mapped: int
) -> tuple[Any, Any]:
    """Of the jvp or the vjp: in the tangents or the cotangents alone, in which they are linear."""
    count = len(kernel.signature.inputs)
    if not all(map(_is_zero, tangents[:count])):
        raise NotImplementedError(
            f"{kernel}: a derivative of its gradient was asked for; the module has first derivatives only"
        )
    run = functools.partial(computation, kernel=kernel, wrt=wrt, mapped=mapped)
    outputs = run(*primals)
    if all(map(_is_zero, tangents)):
        return outputs, [_zero_of(output) for output in outputs]
    full = [jnp.zeros_like(p) if _is_zero(t) else t for p, t in zip(primals, tangents, strict=True)]
    return outputs, run(*primals[:count], *full[count:])


def _transpose_jvp(cotangents: Any, *operands: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    signature = kernel.signature
    primals, tangents = operands[: len(signature.inputs)], operands[len(signature.inputs) :]
    # One that is zero is made whole: of an output of integers, whose cotangent is none, too.
    like = call.primitive.abstract_eval(*map(jax.typeof, primals), kernel=kernel, wrt=(), mapped=mapped)[0]
    full = [jnp.zeros(a.shape, a.dtype) if type(c) is ad.Zero else c for c, a in zip(cotangents, like, strict=True)]
    wanted = [name for name, tangent in zip(wrt, tangents, strict=True) if ad.is_undefined_primal(tangent)]
    gradients: dict[str, Any] = {}
    for group in signature.calls(wanted):
        gradients |= zip(group, vjp(*primals, *full, kernel=kernel, wrt=group, mapped=mapped), strict=True)
    return [*(None for _ in primals), *(gradients.get(name) for name in wrt)]


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero or tangent.dtype == jax.dtypes.float0


def _zero_of(output: Any) -> ad.Zero:
    return ad.Zero(jax.typeof(output).to_tangent_aval())


ad.primitive_jvps[call.primitive] = _differentiate_call
ad.primitive_jvps[jvp.primitive] = functools.partial(_differentiate_linear, jvp)
ad.primitive_jvps[vjp.primitive] = functools.partial(_differentiate_linear, vjp)
ad.primitive_transposes[jvp.primitive] = _transpose_jvp
