"""Sums: what a parallel loop only adds floating-point numbers to, atomically.

The order of such additions shows in the result, so that the loop would have to run on one thread. Where nothing else
reads or writes the memory in the loop, each of its pieces can add into a copy of its own instead, and the copies are
added up in their order.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TypeGuard

from ..instructions import AtomicUpdate, Instruction
from ..model import Function
from ..origins import UNKNOWN, Array, Origin, Origins, Root, Temporary
from ..types import DOUBLE, FLOAT, Float
from ..values import Constant
from .atomics import depends_on_order

Accumulator = Array | Root | Temporary


def summed(functions: Sequence[Function], roots: Container[int] = ()) -> list[Accumulator] | None:
    """What the functions of a loop only add to.

    None where it depends on the order in another way, or that is not known; [] where it does not depend on it.
    """
    targets: dict[Accumulator, None] = {}
    touched: set[Origin] = set()
    others: list[Function] = []
    for function in functions:
        origins = Origins(function, roots)
        sums: set[int] = set()
        for instruction in function.instructions:
            if not _is_sum(instruction):
                touched.update(origins.touched_by(instruction))
                continue
            target = origins.of(instruction.pointer)
            if not isinstance(target, (Array, Root, Temporary)) or function.users(instruction.result):
                return None
            targets[target] = None
            sums.add(id(instruction))
        others.append(_without(function, sums))
    if not targets:
        return None if depends_on_order(others) else []
    if UNKNOWN in touched or touched & targets.keys() or depends_on_order(others):
        return None
    return list(targets)


def _without(function: Function, instructions: set[int]) -> Function:
    """A function without some instructions, which `instructions` are the ids of."""
    return function.rewritten(lambda each: [] if id(each) in instructions else None)


def added_type(functions: Sequence[Function], target: Accumulator) -> Float | None:
    """The type of what a loop adds to a target."""
    for function in functions:
        origins = Origins(function)
        for instruction in function.instructions:
            if _is_sum(instruction) and origins.of(instruction.pointer) == target:
                kind = instruction.value.type
                return kind if isinstance(kind, Float) else None
    return None


def _is_sum(instruction: Instruction) -> TypeGuard[AtomicUpdate]:
    return (
        isinstance(instruction, AtomicUpdate)
        and instruction.operation == "fadd"
        and instruction.value.type in (FLOAT, DOUBLE)
        and not isinstance(instruction.pointer, Constant)
    )
