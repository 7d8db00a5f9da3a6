"""Divisions of integers: defined for all operands, as LLVM's and the CPU's are not, which end the process.

A division by 0 gives 0 and leaves the dividend as the remainder; the least number divided by -1 wraps around to itself
and leaves 0. So `a == b * quotient + remainder` always holds. The divisor that is used in the place of 0 and -1 follows
from the divisor alone: in a loop that does not change it, it is worked out once.
"""

from __future__ import annotations

import dataclasses

from ..builder import Builder
from ..instructions import Binary, Instruction
from ..model import Function
from ..values import Constant, Local, Value, constant_of, zero
from .ranges import is_positive

_QUOTIENTS, _SIGNED = ("sdiv", "udiv"), ("sdiv", "srem")


def define_divisions(function: Function) -> Function:
    """Define them. Where the divisor is known to be neither 0 nor -1 the division stays as it is."""
    builder = Builder(function.names)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, Binary) or instruction.opcode not in (*_QUOTIENTS, "srem", "urem"):
            return None
        if _is_safe(function, instruction.right):
            return None
        return _defined(builder, instruction)

    return function.rewritten(change)


def _is_safe(function: Function, divisor: Value) -> bool:
    if isinstance(divisor, Constant) and (number := divisor.integer) is not None:
        return number not in (0, -1)
    return is_positive(function, divisor)


def _defined(builder: Builder, division: Binary) -> list[Instruction]:
    result, dividend, divisor = division.result, division.left, division.right
    assert result is not None
    kind, name = result.type, result.name
    none, one = zero(kind), constant_of(kind, 1)
    is_zero = builder.compare("eq", divisor, none, name=f"{name}.by0")
    used: Value = builder.select(is_zero, one, divisor, name=f"{name}.not0")
    signed = division.opcode in _SIGNED
    if signed:
        is_minus = builder.compare("eq", divisor, constant_of(kind, -1), name=f"{name}.by-1")
        used = builder.select(is_minus, one, used, name=f"{name}.divisor")
    plain = Local(kind, builder.fresh(f"{name}.plain"))
    builder.add(dataclasses.replace(division, result=plain, right=used, flags=()))
    value: Value = plain
    if division.opcode in _QUOTIENTS:
        if signed:
            minus = builder.binary("sub", none, dividend, name=f"{name}.minus")
            value = builder.select(is_minus, minus, value, name=f"{name}.signed")
        builder.select_as(result, is_zero, none, value)
    else:
        builder.select_as(result, is_zero, dividend, value)
    return builder.take()
