"""Conversions of floating-point numbers to integers: defined for all of them.

LLVM's give any value for a number out of range, and the CPU's and a GPU's differ. Here such a number gives the nearest
integer that there is, and NaN gives 0: what LLVM's own `llvm.fptosi.sat` gives, which it does not vectorise well.
"""

from __future__ import annotations

import dataclasses
import math

from ..builder import Builder
from ..instructions import Cast, Instruction
from ..model import Function
from ..types import FLOAT, Float, Integer, Type, with_element
from ..values import Local, Value, constant_of, float_constant, zero

_MANTISSA = {"float": 24, "double": 53}  # bits of a whole number that are exact


def define_conversions(function: Function) -> Function:
    """Define them."""
    builder = Builder(function.names)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, Cast) or instruction.opcode not in ("fptosi", "fptoui"):
            return None
        value, name = instruction.value, instruction.result.name
        if str(value.type.scalar) in ("half", "bfloat"):
            value = builder.cast("fpext", value, with_element(value.type, FLOAT), name=f"{name}.wide")
        _define(builder, instruction, value)
        return builder.take()

    return function.rewritten(change)


def _bounds(cast: Cast) -> tuple[int, int]:
    kind = cast.result.type.scalar
    assert isinstance(kind, Integer)
    if cast.opcode == "fptoui":
        return 0, (1 << kind.bits) - 1
    return -(1 << (kind.bits - 1)), (1 << (kind.bits - 1)) - 1


def _define(builder: Builder, cast: Cast, value: Value) -> None:
    least, most = _bounds(cast)
    kind, name = value.type, cast.result.name
    exact = most.bit_length() <= _MANTISSA[_name(kind)]

    def number(of: float) -> Value:
        return float_constant(kind, of)

    low = builder.compare("olt", value, number(least), name=f"{name}.low")
    bounded: Value = builder.select(low, number(least), value, name=f"{name}.above")
    if exact:
        high = builder.compare("ogt", bounded, number(most), name=f"{name}.high")
        bounded = builder.select(high, number(most), bounded, name=f"{name}.below")
        good = builder.compare("ord", value, zero(kind), name=f"{name}.number")
        given = builder.select(good, bounded, zero(kind), name=f"{name}.given")
        builder.add(dataclasses.replace(cast, value=given))
        return
    # The most is no floating-point number: what is not below the next power of two becomes 0, and then the most.
    limit = number(math.ldexp(1, most.bit_length()))
    good = builder.compare("olt", bounded, limit, name=f"{name}.inside")
    given = builder.select(good, bounded, zero(kind), name=f"{name}.given")
    plain = Local(cast.result.type, builder.fresh(f"{name}.plain"))
    builder.add(dataclasses.replace(cast, result=plain, value=given))
    high = builder.compare("oge", value, limit, name=f"{name}.high")
    builder.select_as(cast.result, high, constant_of(cast.result.type, most), plain)


def _name(kind: Type) -> str:
    assert isinstance(kind.scalar, Float)
    return kind.scalar.name
