"""How the arrays of a kernel lie on several devices: inside of shard_map, under jit, and as a part of their types.

A batch may be cut along its axes; all else is whole on every device. The gradient of what the samples share is then a
sum over the devices too. Inside of shard_map JAX adds it up, as the transpose of the cast of a shared value to one that
varies; under jit, where the compiler chooses the cut, the partitioned call does.

Throughout, `axes` are numbers of leading axes that may be cut: those of the batch and of vmap before it, or none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec

Shape = tuple[int, ...]
_NO_MESH = jax.sharding.AbstractMesh((), ())


def leading_axes(signature: Any, names: Sequence[str], mapped: int) -> list[int]:
    """For each of these arguments how many axes may be cut, where vmap has put `mapped` before that of the batch."""
    return [mapped + 1 if name in signature.batched else 0 for name in names]


# What the types of operands and results say.


def aligned(arrays: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """The operands of one call, all varying over the manual axes that any varies over, and the batch cut in one way."""
    avals = [jax.typeof(array) for array in arrays]
    union = frozenset[Any]().union(*map(_varying, avals))
    cut = _cut_of_types(avals, axes)
    result = []
    for array, aval, count in zip(arrays, avals, axes, strict=True):
        missing = tuple(sorted(union - _varying(aval), key=str))
        if missing:
            array = _cast(array, missing)
        spec = (*cut[:count], *aval.sharding.spec[count:])
        if spec != tuple(aval.sharding.spec):
            array = jax.sharding.reshard(array, PartitionSpec(*spec))
        result.append(array)
    return result


def _varying(aval: Any) -> frozenset[Any]:
    # Older versions of JAX call it `vma`, for varying manual axes.
    return aval.mat.varying if hasattr(aval, "mat") else aval.vma


def _cast(array: Any, axes: tuple[Any, ...]) -> Any:
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(array, axes, to="varying")
    return jax.lax.pvary(array, axes)  # type: ignore[attr-defined]  # its name in JAX 0.8


def _cut_of_types(avals: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """What the leading axes are cut along: the first entry for each in a type's PartitionSpec, None if whole."""
    specs = [aval.sharding.spec[:count] for aval, count in zip(avals, axes, strict=True)]
    return [next((s[i] for s in specs if i < len(s) and s[i] is not None), None) for i in range(max(axes, default=0))]


def result_types(
    label: str,
    names: Sequence[str],
    avals: Sequence[Any],
    axes: Sequence[int],
    shapes: Sequence[tuple[Shape, Any]],
    axes_of_results: Sequence[int],
) -> list[Any]:
    """The abstract values of results of these shapes and element types, lying as those of aligned operands do.

    Raises ValueError for operands that are cut along other axes, or are sums that are yet to be added up.
    """
    cut = _cut_of_types(avals, axes)
    for name, aval, count in zip(names, avals, axes, strict=True):
        kinds = [getattr(each, "unreduced", None) for each in (aval.sharding.spec, getattr(aval, "mat", None))]
        if (*cut[:count], *(None for _ in aval.shape[count:])) != tuple(aval.sharding.spec) or any(kinds):
            expected = "a whole array" if count == 0 else "an array that is cut along the batch at most, as others are"
            raise ValueError(f"{label}: '{name}': expected {expected}, got {aval}: jax.sharding.reshard it before")
    model = next((aval for aval in avals if not aval.sharding.mesh.empty), avals[0])
    types = []
    for (shape, dtype), count in zip(shapes, axes_of_results, strict=True):
        spec = PartitionSpec(*cut[:count], *(None for _ in shape[count:]))
        where = NamedSharding(model.sharding.mesh, spec)
        types.append(model.update(shape=shape, dtype=dtype, weak_type=False, sharding=where))
    return types


# Calls that the compiler cuts.


def lower_for_known_devices(primitive: Primitive) -> None:
    """Has jit know its devices when it lowers the primitive. Where JAX has no such list, calls are not partitioned."""
    try:
        from jax._src.dispatch import prim_requires_devices_during_lowering as known
    except ImportError:
        return
    known.add(primitive)


def is_partitioned(context: mlir.LoweringRuleContext) -> bool:
    """Whether the compiler may cut what is lowered here. Not in an exported program, which cannot call back to Python,
    nor inside of shard_map, where arrays are a device's own.
    """
    module = context.module_context
    axes = module.axis_context
    return (
        isinstance(axes, mlir.ShardingContext)
        and axes.num_devices > 1
        and axes.device_assignment is not None
        and axes.abstract_mesh is not None
        and not module.lowering_parameters.for_export
    )


def partitioned(
    call: Callable[[Sequence[Any], Sequence[Shape]], list[Any]],
    context: mlir.LoweringRuleContext,
    operands: Sequence[int],
    results: Sequence[int],
) -> Callable[..., list[Any]]:
    """The call that is lowered in `context`, as a function of its arrays that the compiler may cut along leading axes.

    `call(arrays, shapes)` computes results of these shapes; a device's share of them from its share of the arrays.
    `operands` and `results` are the numbers of leading axes of each.
    """
    shapes = [aval.shape for aval in context.avals_out]

    def lying(mesh: Any, cut: Sequence[Any], axes: Sequence[int]) -> list[NamedSharding]:
        return [NamedSharding(mesh, PartitionSpec(*cut[:count])) for count in axes]

    def infer(mesh: Any, arrays: Sequence[Any], _: Any) -> list[NamedSharding]:
        return lying(mesh, _cut(mesh, arrays, operands), results)

    def partition(mesh: Any, arrays: Sequence[Any], made: Sequence[Any]) -> Any:
        cut = _cut(mesh, (*arrays, *made), (*operands, *results))
        added_over = tuple(name for entry in cut for name in _entry_names(entry))
        pieces = [_pieces(mesh, entry) for entry in cut]
        own = [
            (*(size // n for size, n in zip(shape, pieces[:count], strict=False)), *shape[count:])
            for shape, count in zip(shapes, results, strict=True)
        ]

        def share(*arrays: Any) -> list[Any]:
            with jax.sharding.use_abstract_mesh(_NO_MESH):  # a device's own arrays lie on no mesh
                values = call(arrays, own)
                is_sum = [count == 0 and bool(added_over) for count in results]
                return [jax.lax.psum(v, added_over) if add else v for v, add in zip(values, is_sum, strict=True)]

        return mesh, share, lying(mesh, cut, results), tuple(lying(mesh, cut, operands))

    function = custom_partitioning(lambda *arrays: call(arrays, shapes))
    rule, whole = _rule(context, operands, results)
    function.def_partition(
        partition, infer_sharding_from_operands=infer, sharding_rule=rule, need_replication_factors=whole
    )
    return function


def _entry_names(entry: Any) -> tuple[str, ...]:
    """The mesh axes of an entry of a PartitionSpec."""
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _pieces(mesh: Any, entry: Any) -> int:
    return math.prod(mesh.shape[name] for name in _entry_names(entry))


def _cut(mesh: Any, arrays: Sequence[Any], axes: Sequence[int]) -> list[Any]:
    """The entry of a PartitionSpec for each leading axis: that of the first array that is cut there in equal pieces.

    XLA would fill up an unequal last piece, and the filling would be added to sums over the batch. Takes any sharding
    and none: XLA calls this, and an exception would end the process.
    """
    cut: list[Any] = [None] * max(axes, default=0)
    for array, count in zip(arrays, axes, strict=True):
        for place, entry in enumerate(getattr(array.sharding, "spec", ())[:count]):
            taken = {name for other in cut for name in _entry_names(other)}
            fits = not taken & set(_entry_names(entry)) and array.shape[place] % _pieces(mesh, entry) == 0
            if cut[place] is None and fits:
                cut[place] = entry
    return cut


def _rule(
    context: mlir.LoweringRuleContext, operands: Sequence[int], results: Sequence[int]
) -> tuple[str, tuple[str, ...]]:
    """How cuts spread between the arrays, for XLA's partitioner: a factor for each leading axis, which arrays share,
    and one for each other axis, which is to be whole; the second result names these.
    """
    whole: list[str] = []

    def factors(aval: Any, count: int) -> str:
        own = [f"whole{len(whole) + place}" for place in range(len(aval.shape) - count)]
        whole.extend(own)
        return " ".join([*(f"batch{place}" for place in range(count)), *own])

    inward = [factors(aval, count) for aval, count in zip(context.avals_in, operands, strict=True)]
    outward = [factors(aval, count) for aval, count in zip(context.avals_out, results, strict=True)]
    return f"{', '.join(inward)} -> {', '.join(outward)}", tuple(whole)
