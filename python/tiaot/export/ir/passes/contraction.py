"""Contraction: lets multiplications and additions be fused."""

from __future__ import annotations

import dataclasses

from ..instructions import Binary, Instruction, Unary
from ..model import Function

_ARITHMETIC = ("fadd", "fsub", "fmul", "fdiv", "fneg")


def contract(function: Function) -> Function:
    """Allow it in every operation of a function."""

    def change(instruction: Instruction) -> Instruction | None:
        if isinstance(instruction, (Binary, Unary)) and instruction.opcode in _ARITHMETIC:
            flags = tuple(each for each in instruction.flags if each != "contract")
            return dataclasses.replace(instruction, flags=(*flags, "contract"))
        return None

    return function.rewritten(change)
