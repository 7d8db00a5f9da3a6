"""Repetitions: what a task calculates again within a block is calculated once.

Nothing is simplified meanwhile: chains of index arithmetic keep the form that other passes look for.
"""

from __future__ import annotations

from collections.abc import Hashable

from ..instructions import Binary, Cast, Compare, GetElementPointer, Instruction, Load, Select
from ..model import Function
from ..origins import Origins
from ..values import Local, Value


def without_repetitions(function: Function) -> Function:
    """The function with the first of several like instructions of a block in the place of the others.

    Like are those that follow from the same values, and loads of an argument, which no task changes. `function` is a
    task, or the body of one.
    """
    same: dict[str, Local] = {}
    origins = Origins(function)

    def first_of(value: Value) -> Value:
        return same.get(value.name, value) if isinstance(value, Local) else value

    def key(value: Value) -> Hashable:
        return str(first_of(value)) if isinstance(value, Local) else (str(value), str(value.type))

    for block in function.blocks:
        first: dict[Hashable, Local] = {}
        for instruction in block.instructions:
            result = instruction.result
            if result is None or (how := _how(instruction, origins)) is None:
                continue
            like = first.setdefault((*how, *map(key, instruction.operands)), result)
            if like is not result:
                same[result.name] = like

    def change(instruction: Instruction) -> Instruction | list[Instruction] | None:
        if instruction.result is not None and instruction.result.name in same:
            return []
        repeated = any(isinstance(each, Local) and each.name in same for each in instruction.operands)
        return instruction.with_operands(first_of) if repeated else None

    return function.rewritten(change) if same else function


def _how(instruction: Instruction, origins: Origins) -> tuple[Hashable, ...] | None:
    """What a result follows from beside the operands; None where it follows from more."""
    if isinstance(instruction, Binary):
        return "binary", instruction.opcode, instruction.flags
    if isinstance(instruction, Compare):
        return "compare", instruction.opcode, instruction.predicate, instruction.flags
    if isinstance(instruction, Select):
        return "select", instruction.flags
    if isinstance(instruction, Cast):
        return "cast", instruction.opcode, str(instruction.result.type)
    if isinstance(instruction, GetElementPointer):
        return "pointer", instruction.inbounds
    if not isinstance(instruction, Load) or instruction.volatile or instruction.ordering:
        return None
    is_argument = origins.is_arguments(instruction.result) or origins.is_in_arguments(instruction.pointer)
    return ("load", instruction.align) if is_argument else None
