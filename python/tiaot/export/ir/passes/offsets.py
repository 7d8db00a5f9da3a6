"""Offsets: an element's place in an array, computed in 64 bits.

Taichi computes it, ((0 * s0 + i0) * s1 + i1)..., in i32 without the no-wrap flag, so LLVM cannot see that neighbours in
a row are neighbours in memory. Here the same chain is built again in i64 beside it; dead code elimination takes the old
one. A constant added to an index moves into the chain too: an index that wraps around by it lies outside of any array.
All other integer arithmetic is the user's and keeps its wrap.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..builder import Builder
from ..instructions import GetElementPointer, Instruction
from ..model import Function
from ..origins import UNKNOWN, Array, Layout, Origins
from ..types import I32, I64
from ..values import Constant, Value, integer, integer_of
from .chains import offset_chain, peel_constant
from .refusal import refuse

Copies = Callable[[int, int], int]


def widen_offsets(
    function: Function,
    layout: Layout,
    *,
    lanes: bool = False,
    in_steps: bool = False,
    copies: Copies = lambda index, field: 1,
) -> Function:
    """Recompute element offsets in 64 bits, and for arrays that lie in lanes (entry/cpu/lanes.py) in that order.

    Args:
        function: of a task.
        layout: for the array (index, field) its rank and, where it lies in lanes, the stride of its columns.
        lanes: whether any array lies in lanes.
        in_steps: whether the row, the place in it and what is constant are added to the pointer one after another, as
            CPUs want it: offsets that are sums LLVM's SLP vectoriser would compute in vector registers, and not know
            any longer that neighbours are neighbours.

    Raises:
        LoweringError: when an array in lanes is reached in a way that is not of this form, or it is not known what a
            pointer points to where there are such arrays.
    """
    origins = Origins(function)
    builder = Builder(function.names)
    widened: set[str] = set()

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, GetElementPointer):
            return None
        origin = origins.of(instruction.pointer)
        if not isinstance(origin, Array) or len(instruction.indices) != 1 or instruction.indices[0].type != I32:
            return None
        count = copies(origin.index, origin.field)
        constant = integer_of(instruction.indices[0])
        if constant is not None:
            if count == 1:
                return None
            widened.add(instruction.result.name)
            return [dataclasses.replace(instruction, indices=(integer(I64, constant * count),))]
        rank, stride = layout(origin.index, origin.field)
        chain = offset_chain(function, instruction.indices[0], rank)
        if chain is None:
            return None
        if stride is not None:  # the batch, the first axis, becomes the last
            chain = [*chain[1:], (integer(I64, stride), chain[0][1])]
        elif count > 1:
            chain = [*chain, (integer(I64, count), integer(I64, 0))]
        tag = f"wide{instruction.result.name}"
        pointer = instruction.pointer
        if in_steps:
            pointer, offset = _in_steps(builder, function, chain, pointer, tag)
        else:
            offset = _wide_offset(builder, function, chain, tag)
        widened.add(instruction.result.name)
        return [*builder.take(), dataclasses.replace(instruction, pointer=pointer, indices=(offset,))]

    changed = function.rewritten(change)
    if lanes:
        _check_lanes(function, origins, layout, copies, widened)
    return changed


def _check_lanes(function: Function, origins: Origins, layout: Layout, copies: Copies, widened: set[str]) -> None:
    """That every access to an array in lanes, or with copies, is by a pointer that was made for it."""

    def is_moved(array: Array) -> bool:
        return layout(array.index, array.field)[1] is not None or copies(array.index, array.field) > 1

    for instruction in function.instructions:
        touched = origins.touched_by(instruction)
        if UNKNOWN in touched:
            refuse(instruction, "it is not known whether this is an element of a batched array")
        if any(isinstance(each, Array) and is_moved(each) for each in touched):
            pointers = [each for each in instruction.operands if isinstance(origins.of(each), Array)]
            if any(str(each)[1:] not in widened for each in pointers):
                refuse(instruction, "an element of a batched array is not reached by its indices")


def _wide(builder: Builder, value: Value, name: str) -> Value:
    """An i32 in 64 bits."""
    if value.type == I64:
        return value
    if isinstance(value, Constant):
        return integer(I64, value.integer or 0)
    return builder.cast("sext", value, I64, name=name)


def _in_steps(
    builder: Builder, function: Function, chain: list[tuple[Value, Value]], pointer: Value, tag: str
) -> tuple[Value, Value]:
    """The element at ((i0 * s1 + i1) * s2 + i2)... as a pointer and a constant that is still to be added to it."""
    *front, (size, index) = chain
    if front:
        rows = _wide_offset(builder, function, front, f"{tag}.rows")
        row = builder.binary("mul", rows, _wide(builder, size, f"{tag}.size"), flags=["nsw"], name=f"{tag}.offset")
        pointer = builder.element_pointer(pointer, row, name=f"{tag}.row")
    plain, shift = peel_constant(function, index)
    if plain is not None:
        pointer = builder.element_pointer(pointer, _wide(builder, plain, f"{tag}.index"), name=f"{tag}.place")
    return pointer, integer(I64, shift)


def _wide_offset(builder: Builder, function: Function, chain: list[tuple[Value, Value]], tag: str) -> Value:
    """((i0 * s1 + i1) * s2 + i2)... in i64."""
    total: Value | None = None
    for axis, (size, index) in enumerate(chain):
        plain, shift = peel_constant(function, index)
        place: Value = integer(I64, shift)
        if plain is not None:
            place = builder.binary(
                "add", _wide(builder, plain, f"{tag}.p{axis}"), place, flags=["nsw"], name=f"{tag}.i{axis}"
            )
        if total is None:
            total = place
            continue
        scaled = builder.binary(
            "mul", total, _wide(builder, size, f"{tag}.s{axis}"), flags=["nsw"], name=f"{tag}.m{axis}"
        )
        total = builder.binary("add", scaled, place, flags=["nsw"], name=f"{tag}.t{axis}")
    assert total is not None
    return builder.binary("add", total, integer(I64, 0), flags=["nsw"], name=tag)
