"""Stacks: where an adjoint keeps the values of a variable that changes in a loop. Gives Taichi's stacks, which have
room for 32 values and do not look, another room, and calls other functions for them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ..instructions import Alloca, Call, Cast, Instruction, Return
from ..model import Function
from ..origins import CONTEXT_TYPE
from ..types import I8, I64, VOID, Array, FunctionType, Named, Pointer
from ..values import Global, Local, LoweringError, Value, integer_of
from .refusal import refuse

NAMES = frozenset({"stack_init", "stack_push", "stack_pop", "stack_top_primal", "stack_top_adjoint"})
_WITH_SIZE = frozenset({"stack_push", "stack_top_primal", "stack_top_adjoint"})
TABLE = Named("tiaot.stack")  # of the chunks of a stack that grows
OVERFLOW = "tiaot_stack_overflow"  # where a call of it is left after optimisation, a stack may have too little room
_BYTES = Pointer(I8)


@dataclass(frozen=True)
class Stacks:
    """The stacks of a function: by the name of each stack's memory the bytes of one of its values, and by the names of
    the pointers that the calls are given the name of that memory."""

    sizes: Mapping[str, int]
    owners: Mapping[str, str]


def find_stacks(function: Function) -> Stacks:
    """Look for the stacks of a function.

    Raises:
        LoweringError: when one is used in another way than by Taichi's functions for it.
    """
    sizes: dict[str, int] = {}
    owners: dict[str, str] = {}
    calls = [each for each in function.instructions if isinstance(each, Call) and each.name in NAMES]
    for call in calls:
        cast = function.definition(call.arguments[0])
        room = function.definition(cast.value) if isinstance(cast, Cast) and cast.opcode == "bitcast" else None
        if not isinstance(room, Alloca) or not isinstance(room.kind, Array) or room.kind.element != I8:
            refuse(call, "a stack is not where it was expected")
        assert isinstance(cast, Cast)
        owners[cast.result.name] = room.result.name
        if call.name in _WITH_SIZE:
            size = integer_of(call.arguments[-1])
            if not size or sizes.setdefault(room.result.name, size) != size:
                refuse(call, "a stack has values of no one size")
    for cast_name, room_name in owners.items():
        if room_name not in sizes:
            raise LoweringError(f"a stack, %{room_name} of Taichi's code, has values of no known size")
        for user in function.users(Local(_BYTES, cast_name)):
            if not isinstance(user, Call) or user.name not in NAMES:
                refuse(user, "a stack is used in another way")
    for instruction in function.instructions:
        for value in instruction.operands:
            if isinstance(value, Local) and value.name in sizes and not _is_cast(instruction, owners):
                refuse(instruction, "a stack is used in another way")
    return Stacks(sizes, owners)


def _is_cast(instruction: Instruction, owners: Mapping[str, str]) -> bool:
    return isinstance(instruction, Cast) and instruction.result.name in owners


def grow_stacks(function: Function) -> Function:
    """Give each stack room for 32 values in place, a number of values of its own, and a table of chunks beyond."""
    stacks = find_stacks(function)
    if not stacks.sizes:
        return function
    context = function.parameters[0].value
    if context.type != CONTEXT_TYPE:
        raise LoweringError(f"a function with stacks has no context, but {context.type}")
    table = Pointer(TABLE)
    create = Global(Pointer(FunctionType(VOID, (table, CONTEXT_TYPE))), "tiaot_stack_create")
    destroy = Global(Pointer(FunctionType(VOID, (table,))), "tiaot_stack_destroy")
    pending: list[Instruction] = []

    def change(instruction: Instruction) -> list[Instruction] | None:
        if isinstance(instruction, Alloca):
            if (name := instruction.result.name) not in stacks.sizes:
                return None
            own = Local(table, f"stack{name}.table")
            pending.append(Call(None, VOID, create, (own, context)))
            return [
                _with_room(instruction, 64 * stacks.sizes[name]),
                Alloca(Local(Pointer(I64), f"stack{name}.count"), I64),
                Alloca(own, TABLE),
            ]
        first, pending[:] = list(pending), []
        if isinstance(instruction, Return):
            names = sorted(f"%{name}" for name in stacks.sizes)
            ends = [Call(None, VOID, destroy, (Local(table, f"stack{name[1:]}.table"),)) for name in names]
            return [*first, *ends, instruction]
        return [*first, _changed(instruction, stacks, 64, tables=True)]

    return function.rewritten(change)


def fix_stacks(function: Function, values: int) -> Function:
    """Give each stack room for so many values and no more, and a number of values of its own."""
    stacks = find_stacks(function)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if isinstance(instruction, Alloca):
            if (name := instruction.result.name) not in stacks.sizes:
                return None
            count = Alloca(Local(Pointer(I64), f"stack{name}.count"), I64)
            return [count, _with_room(instruction, 2 * values * stacks.sizes[name])]
        return [_changed(instruction, stacks, 2 * values, tables=False)]

    return function.rewritten(change) if stacks.sizes else function


def _with_room(alloca: Alloca, size: int) -> Alloca:
    kind = Array(size, I8)
    return dataclasses.replace(alloca, result=Local(Pointer(kind), alloca.result.name), kind=kind)


def _changed(instruction: Instruction, stacks: Stacks, room: int, *, tables: bool) -> Instruction:
    """The instruction with what it says of stacks; `room` is how many values and adjoints one has room for."""
    if isinstance(instruction, Cast) and instruction.result.name in stacks.owners:
        owner = stacks.owners[instruction.result.name]
        return dataclasses.replace(instruction, value=Local(Pointer(Array(room * stacks.sizes[owner], I8)), owner))
    if not isinstance(instruction, Call) or instruction.name not in NAMES:
        return instruction
    where = instruction.arguments[0]
    own = f"stack{stacks.owners[str(where)[1:]]}"
    arguments: list[Value] = [where, Local(Pointer(I64), f"{own}.count")]
    if tables:
        arguments.append(Local(Pointer(TABLE), f"{own}.table"))
    if instruction.name in _WITH_SIZE:
        arguments.append(instruction.arguments[-1])
    kind = FunctionType(instruction.type, tuple(each.type for each in arguments))
    callee = Global(Pointer(kind), f"tiaot_{instruction.name}")
    return dataclasses.replace(instruction, callee=callee, arguments=tuple(arguments), attributes=())
