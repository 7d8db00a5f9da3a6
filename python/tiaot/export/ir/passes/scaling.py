"""Scaling: lets the elements of arrays that a loop adds to lie as many elements apart as a grid has threads. Between
them are those of the other threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..builder import Builder
from ..instructions import GetElementPointer, Instruction, Load
from ..model import Function
from ..origins import UNKNOWN, Array, Origins
from ..types import I64, FunctionType, Pointer
from ..values import Global, Value
from .refusal import refuse

_THREADS = Global(Pointer(FunctionType(I64, ())), "tiaot_threads")
_NOT_REACHED = "an element of an array that a loop adds to is not reached by offsets"


def scale_offsets(function: Function, is_summed: Callable[[int, int], bool]) -> Function:
    """Scale them in the arrays of which is_summed(index, field) holds.

    Raises:
        LoweringError: when an element of such an array is not reached by offsets from its start.
    """
    origins = Origins(function)
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
