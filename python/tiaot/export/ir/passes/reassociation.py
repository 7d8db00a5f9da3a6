"""Reassociation: lets additions into some arrays be done in any order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ..instructions import Binary, Instruction, Load, Store
from ..model import Function
from ..origins import UNKNOWN, Array, Origins

IsSum = Callable[[int, int], bool]


def reassociate_sums(function: Function, is_sum: IsSum) -> Function:
    """Allow it in `a[i] = a[i] + v`, where is_sum(index, field) holds of the array a.

    For the gradients of shared inputs, sums over the batch, whose order is the exporter's to choose: with it LLVM keeps
    one partial sum in each vector lane. Any other addition is left alone.
    """
    sums = {id(addition) for addition in _additions(function, is_sum).values()}

    def change(instruction: Instruction) -> Instruction | None:
        if isinstance(instruction, Binary) and id(instruction) in sums:
            return dataclasses.replace(instruction, flags=(*instruction.flags, "reassoc"))
        return None

    return function.rewritten(change)


def only_adds(function: Function, is_sum: IsSum) -> bool:
    """Whether `a[i] = a[i] + v` is all that is done to those arrays, so that a copy that begins with zeros will do."""
    origins = Origins(function)
    additions = _additions(function, is_sum)
    used = {id(each) for each in additions.values()}
    for instruction in function.instructions:
        touched = origins.touched_by(instruction)
        if not any(each is UNKNOWN or (isinstance(each, Array) and is_sum(each.index, each.field)) for each in touched):
            continue
        if isinstance(instruction, Load):
            users = function.users(instruction.result)
            if len(users) != 1 or id(users[0]) not in used:
                return False
        elif id(instruction) not in additions:
            return False
    return True


def _additions(function: Function, is_sum: IsSum) -> dict[int, Binary]:
    """Of each store of such a sum, by its id, the addition that it stores."""
    origins = Origins(function)
    found = {}
    for instruction in function.instructions:
        if not isinstance(instruction, Store):
            continue
        origin, added = origins.of(instruction.pointer), function.definition(instruction.value)
        if not isinstance(origin, Array) or not is_sum(origin.index, origin.field):
            continue
        if isinstance(added, Binary) and added.opcode == "fadd":
            sources = (function.definition(added.left), function.definition(added.right))
            if any(isinstance(each, Load) and each.pointer == instruction.pointer for each in sources):
                found[id(instruction)] = added
    return found
