"""Chains: the arithmetic on indices that Taichi writes, found again. Knows no arrays."""

from __future__ import annotations

from ..instructions import Binary
from ..model import Function
from ..types import I32
from ..values import Value, integer_of


def binary(function: Function, value: Value, *opcodes: str) -> Binary | None:
    """The instruction that a value is the result of, where it is one of these."""
    definition = function.definition(value)
    return definition if isinstance(definition, Binary) and definition.opcode in opcodes else None


def peel_constant(function: Function, index: Value) -> tuple[Value | None, int]:
    """index = plain + constant, in i32; plain is None for a constant index."""
    total = 0
    while True:
        if (number := integer_of(index)) is not None:
            return None, total + number
        sum_ = binary(function, index, "add")
        if sum_ is None or sum_.flags or index.type != I32:
            return index, total
        if (number := integer_of(sum_.right)) is not None:
            total, index = total + number, sum_.left
        elif (number := integer_of(sum_.left)) is not None:
            total, index = total + number, sum_.right
        else:
            return index, total


def offset_chain(function: Function, value: Value, rank: int) -> list[tuple[Value, Value]] | None:
    """The (size, index) of each axis, outermost first, where value = ((0 * s0 + i0) * s1 + i1)...; else None."""
    chain = []
    for _ in range(rank):
        sum_ = binary(function, value, "add")
        product = None if sum_ is None else binary(function, sum_.left, "mul")
        if sum_ is None or product is None or sum_.flags or product.flags:
            return None
        value = product.left
        chain.append((product.right, sum_.right))
    return chain[::-1] if integer_of(value) == 0 else None
