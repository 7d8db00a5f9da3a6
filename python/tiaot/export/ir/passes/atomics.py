"""Atomic operations: as plain ones where one thread runs at a time, and whether their order can show in results."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..instructions import (
    AtomicUpdate,
    Binary,
    Call,
    Compare,
    CompareExchange,
    Fence,
    Instruction,
    Load,
    Select,
    Store,
)
from ..model import Function
from ..origins import CONTEXT, LOCAL, Origins
from ..types import I1, Integer
from ..values import Local

# Atomic operations on whole numbers whose results do not depend on their order.
_ORDERLESS = frozenset({"add", "sub", "and", "or", "xor", "max", "min", "umax", "umin"})
# Functions that are given a pointer into an array and do such an operation there, or none that is atomic.
_ORDERLESS_CALLS = re.compile(
    r"atomic_(min|max|and|or|xor)_\w+|atomic_add_[iu]\d+|(tiaot_)?reduce_(min|max)_\w+|reduce_(add|and|or|xor)_i32"
    r"|get_ch_S\d+_to_S\d+|Dense_lookup_element|(Struct|Dense)Meta_set_\w+|LLVMRuntime_get_roots|RuntimeContext_get_\w+"
    r"|get_temporary_pointer|[cg]pu_parallel_range_for|rand_\w+"
)
_EXTREMUM = re.compile(r"atomic_(min|max)_f\d+")
_ATOMIC_CALL = re.compile(r"(atomic|reduce|tiaot_reduce)_\w+")


def plain_additions(function: Function, *, whole_numbers: bool = True) -> Function:
    """The atomic additions of a function that runs on one thread at a time, as plain ones. Other operations stay.

    Without `whole_numbers` only those of floating-point numbers, where these go to memory of the thread's own.
    """

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, AtomicUpdate) or instruction.operation not in ("fadd", "add"):
            return None
        if instruction.volatile or (instruction.operation == "add" and not whole_numbers):
            return None
        old, pointer, align = instruction.result, instruction.pointer, instruction.align
        new = Local(old.type, f"sum{old.name}")
        return [
            Load(old, pointer, align),
            Binary(new, instruction.operation, old, instruction.value),
            Store(None, new, pointer, align),
        ]

    return function.rewritten(change)


def plain_extrema(function: Function) -> Function:
    """The atomic minima and maxima of real numbers in a function that runs on one thread at a time, as plain ones. Of
    equal numbers the one that was there stays, as the forward mode has it; a NaN takes the place of any number."""

    def change(instruction: Instruction) -> list[Instruction] | None:
        match = _EXTREMUM.fullmatch(instruction.name) if isinstance(instruction, Call) else None
        if match is None or not isinstance(instruction, Call) or instruction.result is None:
            return None
        old, (pointer, value) = instruction.result, instruction.arguments
        stays, new = Local(I1, f"stays{old.name}"), Local(old.type, f"extremum{old.name}")
        return [
            Load(old, pointer, None),
            Compare(stays, "fcmp", "oge" if match[1] == "min" else "ole", value, old),
            Select(new, stays, old, value),
            Store(None, new, pointer, None),
        ]

    return function.rewritten(change)


def is_extremum(instruction: Instruction) -> bool:
    """Whether it is an atomic minimum or maximum of real numbers."""
    return isinstance(instruction, Call) and _EXTREMUM.fullmatch(instruction.name) is not None


def depends_on_order(functions: Iterable[Function]) -> bool:
    """Whether the result of a parallel loop can depend on which thread comes first: atomic sums of floating-point
    numbers, which round, atomics whose old value is used, loops around a compare-and-exchange, which are products and
    sums of float16, and whatever may be atomic and is not known to be none of these."""
    return any(
        _depends(function, origins, instruction)
        for function in functions
        for origins in [Origins(function)]
        for instruction in function.instructions
    )


def _depends(function: Function, origins: Origins, instruction: Instruction) -> bool:
    if isinstance(instruction, (CompareExchange, Fence)):
        return True
    if isinstance(instruction, (Load, Store)):
        return instruction.volatile or bool(instruction.ordering)
    if isinstance(instruction, AtomicUpdate):
        orderless = instruction.operation in _ORDERLESS and isinstance(instruction.value.type, Integer)
        return not orderless or bool(function.users(instruction.result))
    if isinstance(instruction, Call):
        if _ORDERLESS_CALLS.fullmatch(instruction.name):
            used = instruction.result is not None and bool(function.users(instruction.result))
            return used and bool(_ATOMIC_CALL.fullmatch(instruction.name))
        return any(origin not in (LOCAL, CONTEXT) for origin in origins.touched_by(instruction))
    return False
