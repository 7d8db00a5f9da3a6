"""Shifts by any amount: defined, as LLVM's are only up to the width of the number.

By as many bits as a number has, or more, all of them are shifted out: what is left is 0, or -1 of a negative number
that is shifted to the right with its sign. A negative amount counts as a large one.
"""

from __future__ import annotations

import dataclasses

from ..builder import Builder
from ..instructions import Binary, Instruction
from ..model import Function
from ..types import Integer
from ..values import Constant, Local, constant_of, zero


def define_shifts(function: Function) -> Function:
    """Define them. Where the amount is known to be within the width the shift stays as it is."""
    builder = Builder(function.names)

    def change(instruction: Instruction) -> list[Instruction] | None:
        if not isinstance(instruction, Binary) or instruction.opcode not in ("shl", "lshr", "ashr"):
            return None
        result, amount = instruction.result, instruction.right
        assert result is not None
        width = result.type.scalar.bits if isinstance(result.type.scalar, Integer) else 0
        if isinstance(amount, Constant) and 0 <= (-1 if amount.integer is None else amount.integer) < width:
            return None
        kind, name = result.type, result.name
        most = constant_of(kind, width - 1)
        inside = builder.compare("ule", amount, most, name=f"{name}.inside")
        used = builder.select(inside, amount, most, name=f"{name}.amount")
        if instruction.opcode == "ashr":
            builder.add(dataclasses.replace(instruction, right=used, flags=()))
        else:
            plain = Local(kind, builder.fresh(f"{name}.plain"))
            builder.add(dataclasses.replace(instruction, result=plain, right=used, flags=()))
            builder.select_as(result, inside, plain, zero(kind))
        return builder.take()

    return function.rewritten(change)
