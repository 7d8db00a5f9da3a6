"""Refusal: how a pass says which instruction of Taichi's it does not take."""

from __future__ import annotations

from typing import NoReturn

from ..instructions import Instruction
from ..values import LoweringError
from ..writer import write_instruction


def refuse(instruction: Instruction, why: str) -> NoReturn:
    """Raises LoweringError with the instruction and its line."""
    raise LoweringError(f"{why}: {write_instruction(instruction)!r}, line {instruction.line} of Taichi's code")
