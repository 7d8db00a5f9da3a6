"""Repetitions: what a task calculates again within a block is calculated once.

Nothing is simplified meanwhile: chains of index arithmetic keep the form that other passes look for.
"""

from __future__ import annotations

from collections.abc import Hashable

from ..instructions import Binary, Cast, Compare, GetElementPointer, Instruction, Load, Select
from ..model import Function
from ..types import Named, Pointer
from ..values import Local, Value, integer_of

_CONTEXT = Pointer(Named("struct.RuntimeContext"))
_ARGUMENTS = 0  # the field of the context that points to the arguments
_CONTEXT_ITSELF, _ARGUMENTS_THEMSELVES = 0, 1  # what a pointer points into


def without_repetitions(function: Function) -> Function:
    """The function with the first of several like instructions of a block in the place of the others.

    Like are those that follow from the same values, and loads of an argument, which no task changes. `function` is a
    task, or the body of one.
    """
    same: dict[str, Local] = {}
    into = {each.value.name: _CONTEXT_ITSELF for each in function.parameters if each.value.type == _CONTEXT}

    def key(value: Value | None) -> Hashable:
        if isinstance(value, Local):
            return same.get(value.name, value).name
        return str(value), None if value is None else str(value.type)

    for block in function.blocks:
        first: dict[Hashable, Local] = {}
        for instruction in block.instructions:
            result = instruction.result
            if result is None or (how := _how(instruction, into)) is None:
                continue
            like = first.setdefault((*how, *map(key, instruction.operands)), result)
            if like is not result:
                same[result.name] = like

    def change(instruction: Instruction) -> Instruction | list[Instruction] | None:
        if instruction.result is not None and instruction.result.name in same:
            return []
        if any(isinstance(each, Local) and each.name in same for each in instruction.operands):
            return instruction.with_operands(
                lambda each: same.get(each.name, each) if isinstance(each, Local) else each
            )
        return None

    return function.rewritten(change) if same else function


def _how(instruction: Instruction, into: dict[str, int]) -> tuple[Hashable, ...] | None:
    """What a result follows from beside the operands; None where it follows from more.

    `into` has what pointers to the context, to its field for the arguments, and to the arguments point into; those
    that an instruction makes are added.
    """
    result = instruction.result
    if isinstance(instruction, Binary):
        return "binary", instruction.opcode, instruction.flags
    if isinstance(instruction, Compare):
        return "compare", instruction.opcode, instruction.predicate, instruction.flags
    if isinstance(instruction, Select):
        return "select", instruction.flags
    if result is None or not isinstance(instruction, (Cast, GetElementPointer, Load)):
        return None
    pointer = instruction.value if isinstance(instruction, Cast) else instruction.pointer
    what = into.get(pointer.name) if isinstance(pointer, Local) else None
    if isinstance(instruction, Load):
        if what is None or instruction.volatile or instruction.ordering:
            return None
        if what == _CONTEXT_ITSELF:
            into[result.name] = _ARGUMENTS_THEMSELVES
        return "load", instruction.align
    if isinstance(instruction, Cast):
        if what is not None and instruction.opcode == "bitcast":
            into[result.name] = what
        return "cast", instruction.opcode, str(result.type)
    if what == _ARGUMENTS_THEMSELVES or (what == _CONTEXT_ITSELF and _is_arguments(instruction)):
        into[result.name] = what
    return "pointer", instruction.inbounds


def _is_arguments(pointer: GetElementPointer) -> bool:
    return [integer_of(each) for each in pointer.indices] == [0, _ARGUMENTS]
