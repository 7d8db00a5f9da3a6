"""Scaling: lets the elements of arrays and fields that a loop adds to lie as many elements apart as a grid has threads.
Between them are those of the other threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping

from ..builder import Builder
from ..instructions import AtomicUpdate, GetElementPointer, Instruction, Load, Store
from ..model import Function
from ..origins import CONTEXT_TYPE, UNKNOWN, Array, Origins, Root
from ..types import I8, I64, FunctionType, Pointer
from ..values import Global, Value, integer
from .refusal import refuse

_THREADS = Global(Pointer(FunctionType(I64, ())), "tiaot_threads")
_COPIED = Global(Pointer(FunctionType(Pointer(I8), (CONTEXT_TYPE, Pointer(I8), I64))), "tiaot_copied")
_NOT_REACHED = "an element of an array that a loop adds to is not reached by offsets"


def point_to_copies(function: Function, places: Mapping[int, int], roots: Container[int]) -> Function:
    """Let all accesses to some roots of fields go to the thread's copies of them.

    Args:
        places: of the numbers of these roots, where their addresses are in the array of all.
        roots: the numbers of all roots.

    Raises:
        LoweringError: when such a root is used in another way.
    """
    origins = Origins(function, roots)
    builder = Builder(function.names)

    def is_of_copied(pointer: Value) -> bool:
        origin = origins.of(pointer)
        return isinstance(origin, Root) and origin.node in places

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not any(isinstance(each, Root) and each.node in places for each in origins.touched_by(instruction)):
            return None
        if not isinstance(instruction, (Load, Store, AtomicUpdate)) or not is_of_copied(instruction.pointer):
            refuse(instruction, _NOT_REACHED)
        origin = origins.of(instruction.pointer)
        assert isinstance(origin, Root)
        kind = instruction.pointer.type
        pointer = builder.cast("bitcast", instruction.pointer, Pointer(I8), name="shared")
        arguments = (function.parameters[0].value, pointer, integer(I64, places[origin.node]))
        own = builder.call(_COPIED, *arguments, name="copied")
        assert own is not None
        typed = builder.cast("bitcast", own, kind, name="own")
        return [*builder.take(), dataclasses.replace(instruction, pointer=typed)]

    return function.rewritten(change)


def scale_offsets(function: Function, is_summed: Callable[[int, int], bool], roots: Container[int] = ()) -> Function:
    """Scale them in the arrays of which is_summed(index, field) holds; `roots` are the numbers of the roots of fields.

    Raises:
        LoweringError: when an element of such an array is not reached by offsets from its start.
    """
    origins = Origins(function, roots)
    builder = Builder(function.names)
    scaled: set[Value] = set()

    def is_of_summed(pointer: Value) -> bool:
        origin = origins.of(pointer)
        return isinstance(origin, Array) and is_summed(origin.index, origin.field)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, GetElementPointer) or not is_of_summed(instruction.pointer):
            return None
        start = instruction.pointer in scaled or isinstance(function.definition(instruction.pointer), Load)
        if len(instruction.indices) != 1 or not start:
            refuse(instruction, _NOT_REACHED)
        name = f"apart{instruction.result.name}"
        value = instruction.indices[0]
        if value.type != I64:
            value = builder.cast("sext", value, I64, name=f"{name}.w")
        threads = builder.call(_THREADS, name=f"{name}.n")
        assert threads is not None
        offset = builder.binary("mul", value, threads, flags=["nsw"], name=name)
        scaled.add(instruction.result)
        return [*builder.take(), dataclasses.replace(instruction, indices=(offset,))]

    changed = function.rewritten(change)
    for instruction in function.instructions:
        touched = origins.touched_by(instruction)
        pointers = [each for each in instruction.operands if is_of_summed(each)]
        if any(isinstance(each, Array) and is_summed(each.index, each.field) for each in touched):
            if any(each not in scaled for each in pointers):
                refuse(instruction, _NOT_REACHED)
        elif UNKNOWN in touched:
            refuse(instruction, _NOT_REACHED)
    return changed
