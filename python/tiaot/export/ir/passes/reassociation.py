"""Reassociation: lets additions into some arrays be done in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..instructions import Binary, Instruction, Load, Store
from ..model import Function
from ..origins import Array, Origins


def reassociate_sums(function: Function, is_sum: Callable[[int, int], bool]) -> Function:
    """Allow it in `a[i] = a[i] + v`, where is_sum(index, field) holds of the array a.

    For the gradients of shared inputs, sums over the batch, whose order is the exporter's to choose: with it LLVM keeps
    one partial sum in each vector lane. Any other addition is left alone.
    """
    origins = Origins(function)
    sums = set()
    for instruction in function.instructions:
        if not isinstance(instruction, Store):
            continue
        origin, added = origins.of(instruction.pointer), function.definition(instruction.value)
        if not isinstance(origin, Array) or not is_sum(origin.index, origin.field):
            continue
        if isinstance(added, Binary) and added.opcode == "fadd":
            sources = (function.definition(added.left), function.definition(added.right))
            if any(isinstance(each, Load) and each.pointer == instruction.pointer for each in sources):
                sums.add(added.result)

    def change(instruction: Instruction) -> Instruction | None:
        if isinstance(instruction, Binary) and instruction.result in sums:
            return dataclasses.replace(instruction, flags=(*instruction.flags, "reassoc"))
        return None

    return function.rewritten(change)
