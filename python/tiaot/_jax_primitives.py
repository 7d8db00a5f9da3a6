"""Kernels as JAX primitives, under all of JAX's transformations: the forward call and its derivatives.

They hang together as those of JAX's own functions do. For inputs x, tangents t and u, and cotangents v, each is linear
in all but x:

    call(x)             the kernel
    jvp(x, t)           the derivative of the call; transposed in t it is the vjp
    vjp(x, v)           transposed in v it is the jvp
    hvp(x, v, t)        the derivative of the vjp; transposed in t it is itself, since second derivatives are symmetric
    twice(x, t, u)      the derivative of the jvp; transposed in t or u it is the hvp. It has no code of its own, so
                        that to evaluate it is an error; reverse mode over forward mode never does

Derivatives with respect to x of the last two are refused. Knows nothing of handles; how arrays lie on devices is
_jax_sharding's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from . import _jax_sharding as sharding

TARGET = "tiaot_call"  # the XLA custom call that every kernel is
FORWARD, VJP, JVP, HVP = 0, 1, 4, 5  # TIAOT_FORWARD, ...

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
        kind = {JVP: "jvp", HVP: "hvp"}.get(entry)
        if kind is not None and signature.covering(kind, wrt) != wrt:
            signature.refuse(kind, wrt)
        attributes = {
            "kernel": self.key,
            "entry": np.int32(entry),
            "wrt": np.int32(sum(1 << signature.inputs.index(name) for name in wrt)),
        }
        is_partitioned = signature.has_batch and sharding.is_partitioned(context)
        # An entry along tangents also computes what it is the derivative of: first these results, then their tangents.
        parts = 1 if kind is None else 2
        if not mapped and not is_partitioned:
            whole = context.replace(avals_out=context.avals_out * parts)
            return jax.ffi.ffi_lowering(TARGET)(whole, *values, **attributes)[-len(context.avals_out) :]
        operands, results = (sharding.leading_axes(signature, each, mapped) for each in names)

        def run(arrays: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> list[Any]:
            """The call on arrays whose leading axes are folded into one; results of these shapes."""
            dtypes = [aval.dtype for aval in context.avals_out]
            folded = [_fold(array.shape, axes) for array, axes in zip(arrays, operands, strict=True)]
            made = [_fold(shape, axes) for shape, axes in zip(shapes, results, strict=True)]
            types = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in zip(made, dtypes, strict=True)]
            given = [array.reshape(shape) for array, shape in zip(arrays, folded, strict=True)]
            values = jax.ffi.ffi_call(TARGET, types * parts)(*given, **attributes)[-len(types) :]
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
    """One of the five, with its primitive.

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
            raise NotImplementedError(
                f"{kernel}: a forward-mode derivative of a forward-mode derivative was asked for, which no module has: "
                "take that of the gradient instead, as jax.hessian does, or the gradient of a forward-mode derivative"
            )
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
jvp = _Computation("tiaot_jvp", JVP, lambda signature, wrt: ((*signature.inputs, *wrt), signature.outputs))
vjp = _Computation("tiaot_vjp", VJP, lambda signature, wrt: ((*signature.inputs, *signature.outputs), wrt))
hvp = _Computation("tiaot_hvp", HVP, lambda signature, wrt: ((*signature.inputs, *signature.outputs, *wrt), wrt))
twice = _Computation("tiaot_twice", None, lambda signature, wrt: ((*signature.inputs, *wrt, *wrt), signature.outputs))


# Derivatives. Tangents and cotangents that are none are made zeros where there is an entry for more inputs only.


def _zeros(array: Any) -> Any:
    return jnp.zeros(jnp.shape(array), array.dtype)


def _full(tangents: Sequence[Any], like: Sequence[Any]) -> list[Any]:
    return [_zeros(p) if _is_zero(t) else t for t, p in zip(tangents, like, strict=True)]


def _spread(given: Mapping[str, Any], wrt: Names, kernel: Callee, primals: Sequence[Any]) -> list[Any]:
    """An array for each name in `wrt`: what is given for it, or zeros."""
    inputs = dict(zip(kernel.signature.inputs, primals, strict=True))
    return [given[name] if name in given else _zeros(inputs[name]) for name in wrt]


def _moving(kernel: Callee, tangents: Sequence[Any]) -> dict[str, Any]:
    """The tangents of inputs that are not zero."""
    return {name: t for name, t in zip(kernel.signature.inputs, tangents, strict=True) if not _is_zero(t)}


def _differentiate_call(primals: Any, tangents: Any, *, kernel: Callee, wrt: Names, mapped: int) -> tuple[Any, Any]:
    signature = kernel.signature
    outputs = call(*primals, kernel=kernel, mapped=mapped)
    moving = _moving(kernel, tangents)
    for name in moving:
        if name not in signature.differentiable and signature.covering("jvp", (name,)) is None:
            raise NotImplementedError(
                f"{kernel}: the module has no gradient for argument '{name}'{signature.why_no_gradient(name)}"
            )
    if not moving:
        return outputs, [_zero_of(output) for output in outputs]
    along = signature.covering("jvp", moving) or tuple(moving)  # what there is no jvp for may be transposed
    changes = jvp(*primals, *_spread(moving, along, kernel, primals), kernel=kernel, wrt=along, mapped=mapped)
    is_real = [jnp.issubdtype(output.dtype, jnp.inexact) for output in outputs]
    return outputs, [t if real else _zero_of(o) for t, o, real in zip(changes, outputs, is_real, strict=True)]


def _jvp_of_jvp(primals: Any, moving: dict[str, Any], *, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    count = len(kernel.signature.inputs)
    inputs, tangents = primals[:count], dict(zip(wrt, primals[count:], strict=True))
    whole = kernel.signature.needed("hvp", {*moving, *wrt})
    first, second = (_spread(each, whole, kernel, inputs) for each in (tangents, moving))
    return twice(*inputs, *first, *second, kernel=kernel, wrt=whole, mapped=mapped)


def _jvp_of_vjp(primals: Any, moving: dict[str, Any], *, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    whole = kernel.signature.needed("hvp", {*moving, *wrt})
    tangents = _spread(moving, whole, kernel, primals[: len(kernel.signature.inputs)])
    changes = dict(zip(whole, hvp(*primals, *tangents, kernel=kernel, wrt=whole, mapped=mapped), strict=True))
    return [changes[name] for name in wrt]


def _third_derivative(_: Any, __: Any, *, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    raise NotImplementedError(f"{kernel}: a third derivative was asked for; there are first and second ones")


def _differentiate(
    computation: _Computation,
    groups: Callable[[Any, Names], Sequence[Names]],
    along_inputs: Callable[..., list[Any]],
    primals: Any,
    tangents: Any,
    *,
    kernel: Callee,
    wrt: Names,
    mapped: int,
) -> tuple[Any, Any]:
    """Of a derivative, which is linear in each group of operands behind the inputs; `along_inputs` is the rest."""
    run = functools.partial(computation, kernel=kernel, wrt=wrt, mapped=mapped)
    outputs = run(*primals)
    end = len(kernel.signature.inputs)
    moving = _moving(kernel, tangents[:end])
    terms = [along_inputs(primals, moving, kernel=kernel, wrt=wrt, mapped=mapped)] if moving else []
    for group in groups(kernel.signature, wrt):
        start, end = end, end + len(group)
        if not all(map(_is_zero, tangents[start:end])):
            terms.append(run(*primals[:start], *_full(tangents[start:end], primals[start:end]), *primals[end:]))
    if not terms:
        return outputs, [_zero_of(output) for output in outputs]
    return outputs, [functools.reduce(jax.lax.add, each) for each in zip(*terms, strict=True)]


# Transposes, each with a result for every operand.


def _cotangents(
    computation: _Computation, cotangents: Sequence[Any], operands: Sequence[Any], **named: Any
) -> list[Any]:
    """The cotangents of all results. One that is zero is made whole: of an output of integers, whose is none, too."""
    types = [o.aval if ad.is_undefined_primal(o) else jax.typeof(o) for o in operands]
    like = computation.primitive.abstract_eval(*types, **named)[0]
    return [jnp.zeros(a.shape, a.dtype) if type(c) is ad.Zero else c for c, a in zip(cotangents, like, strict=True)]


def _asked(names: Names, operands: Sequence[Any]) -> Names:
    return tuple(name for name, o in zip(names, operands, strict=True) if ad.is_undefined_primal(o))


def _transpose_jvp(cotangents: Any, *operands: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    signature = kernel.signature
    inputs, tangents = operands[: len(signature.inputs)], operands[len(signature.inputs) :]
    full = _cotangents(jvp, cotangents, operands, kernel=kernel, wrt=wrt, mapped=mapped)
    wanted = _asked(wrt, tangents)
    for name in wanted:
        if name not in signature.differentiable:
            raise NotImplementedError(
                f"{kernel}: the module has no gradient for argument '{name}'{signature.why_no_gradient(name)}"
            )
    gradients: dict[str, Any] = {}
    for group in signature.calls(wanted):
        gradients |= zip(group, vjp(*inputs, *full, kernel=kernel, wrt=group, mapped=mapped), strict=True)
    return [*(None for _ in inputs), *(gradients.get(name) for name in wrt)]


def _transpose_vjp(cotangents: Any, *operands: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    signature = kernel.signature
    inputs = operands[: len(signature.inputs)]
    full = _cotangents(vjp, cotangents, operands, kernel=kernel, wrt=wrt, mapped=mapped)
    along = signature.needed("jvp", wrt)
    tangents = _spread(dict(zip(wrt, full, strict=True)), along, kernel, inputs)
    return [*(None for _ in inputs), *jvp(*inputs, *tangents, kernel=kernel, wrt=along, mapped=mapped)]


def _transpose_hvp(cotangents: Any, *operands: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    signature = kernel.signature
    inputs, rest = operands[: len(signature.inputs)], operands[len(signature.inputs) :]
    of_outputs, tangents = rest[: len(signature.outputs)], rest[len(signature.outputs) :]
    named: dict[str, Any] = {"kernel": kernel, "wrt": wrt, "mapped": mapped}
    full = _cotangents(hvp, cotangents, operands, **named)
    if _asked(signature.outputs, of_outputs):
        return [*(None for _ in inputs), *twice(*inputs, *tangents, *full, **named), *(None for _ in tangents)]
    return [*(None for _ in (*inputs, *of_outputs)), *hvp(*inputs, *of_outputs, *full, **named)]


def _transpose_twice(cotangents: Any, *operands: Any, kernel: Callee, wrt: Names, mapped: int) -> list[Any]:
    count = len(kernel.signature.inputs)
    inputs, first, second = operands[:count], operands[count : count + len(wrt)], operands[count + len(wrt) :]
    named: dict[str, Any] = {"kernel": kernel, "wrt": wrt, "mapped": mapped}
    full = _cotangents(twice, cotangents, operands, **named)
    is_first = bool(_asked(wrt, first))
    made = hvp(*inputs, *full, *(second if is_first else first), **named)
    none = [None for _ in wrt]
    return [*(None for _ in inputs), *(made if is_first else none), *(none if is_first else made)]


def _is_zero(tangent: Any) -> bool:
    return type(tangent) is ad.Zero or tangent.dtype == jax.dtypes.float0


def _zero_of(output: Any) -> ad.Zero:
    return ad.Zero(jax.typeof(output).to_tangent_aval())


ad.primitive_jvps[call.primitive] = _differentiate_call
for _computation, _along_inputs, _transpose, _groups in (
    (jvp, _jvp_of_jvp, _transpose_jvp, lambda signature, wrt: [wrt]),
    (vjp, _jvp_of_vjp, _transpose_vjp, lambda signature, wrt: [signature.outputs]),
    (hvp, _third_derivative, _transpose_hvp, lambda signature, wrt: [signature.outputs, wrt]),
    (twice, _third_derivative, _transpose_twice, lambda signature, wrt: [wrt, wrt]),
):
    ad.primitive_jvps[_computation.primitive] = functools.partial(_differentiate, _computation, _groups, _along_inputs)
    ad.primitive_transposes[_computation.primitive] = _transpose
