"""Temporaries: the memory that the tasks of a call share, and which of it each thread of a device has for itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..instructions import Call
from ..model import Function
from ..types import I64, FunctionType, Pointer
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
    offsets = [
        offset_of(each)
        for function in functions
        for each in function.instructions
        if isinstance(each, Call) and each.name == "get_temporary_pointer"
    ]
    return max(offsets) + _NUMBER_BYTES if offsets else 0


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
