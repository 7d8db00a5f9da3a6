"""Temporaries: the memory that the tasks of a call share, and which of it each thread of a device has for itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..instructions import Call, Cast
from ..model import Function
from ..types import I8, I64, FunctionType, Pointer, Type, byte_size
from ..values import Global, LoweringError, Value, integer, integer_of
from ..writer import write_instruction

_NUMBER_BYTES = 64  # what the last temporary may take, a number or a vector of them


@dataclass(frozen=True)
class Private:
    """Each thread has it for itself."""


@dataclass(frozen=True)
class Summed:
    """Each thread has a copy that it adds to: the INDEXth such temporary, of so many bytes."""

    index: int
    item: int


def offset_of(call: Call) -> int:
    """The offset of the temporary that a call of get_temporary_pointer gives.

    Raises:
        LoweringError: when it is no constant.
    """
    offset = integer_of(call.arguments[1])
    if offset is None:
        raise LoweringError(f"it is not known which temporary this is: {write_instruction(call)!r}")
    return offset


def temporaries_bytes(functions: Iterable[Function]) -> int:
    """The size of the buffer that the tasks of a call share."""
    ends = [
        offset + max(_NUMBER_BYTES, byte_size(kind) or 0)
        for function in functions
        for offset, kind in temporaries_of(function)
    ]
    return max(ends, default=0)


def temporaries_of(function: Function) -> list[tuple[int, Type]]:
    """The offsets of the temporaries that a function uses, and what it takes them for: a local vector or matrix that
    several tasks share is an array, or its elements one by one."""
    found = []
    for call in function.instructions:
        if isinstance(call, Call) and call.name == "get_temporary_pointer":
            assert call.result is not None
            users = function.users(call.result)
            kinds = [each.result.type for each in users if isinstance(each, Cast)]
            found.append((offset_of(call), I8))
            found += [(offset_of(call), kind.to) for kind in kinds if isinstance(kind, Pointer)]
    return found


def point_temporaries(function: Function, kinds: Mapping[int, Private | Summed]) -> Function:
    """Let the pointers to temporaries be what `kinds` says for their offsets; others stay as they are."""

    def change(instruction: object) -> Call | None:
        if not isinstance(instruction, Call) or instruction.name != "get_temporary_pointer":
            return None
        offset = offset_of(instruction)
        kind = kinds.get(offset)
        if isinstance(kind, Private):
            return _calling(instruction, "tiaot_private_pointer", integer(I64, offset))
        if isinstance(kind, Summed):
            numbers = (integer(I64, kind.index), integer(I64, kind.item))
            return _calling(instruction, "tiaot_summed_pointer", *numbers)
        return None

    return function.rewritten(change)


def _calling(call: Call, name: str, *numbers: Value) -> Call:
    arguments = (call.arguments[0], *numbers)
    kind = FunctionType(call.type, tuple(each.type for each in arguments))
    return dataclasses.replace(call, callee=Global(Pointer(kind), name), arguments=arguments)
