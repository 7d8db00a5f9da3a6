"""Dead code: instructions whose results nobody uses, left out. Knows which of Taichi's functions only compute."""

from __future__ import annotations

import dataclasses
import re

import llvmlite.binding as llvm

from ..ir.instructions import AtomicUpdate, Call, CompareExchange, Fence, Instruction, Load, Store
from ..ir.model import Function, Module
from ..ir.origins import is_address
from ..ir.reader import read
from ..ir.values import Local, LoweringError
from ..ir.writer import write
from .rules import rule_of

_INTEGERS = re.compile(
    r"(min|max|abs|sgn|pow|logical_not|bit_not|popcnt|clz)_[iu]\d+|llvm\.(smin|smax|umin|umax|abs)\..*"
)


def only_computes(call: Call) -> bool:
    """Whether a call has no effect but its result, which follows from its arguments alone."""
    if is_address(call.name) and call.result is not None:
        return True
    if any(each.type.is_pointer for each in call.arguments):
        return False
    return rule_of(call.name) is not None or _INTEGERS.fullmatch(call.name) is not None


def has_effect(instruction: Instruction) -> bool:
    """Whether an instruction does more than give a result."""
    if isinstance(instruction, Call):
        return not only_computes(instruction)
    if isinstance(instruction, Load):
        return instruction.volatile or bool(instruction.ordering)
    return instruction.ends_block or isinstance(instruction, (Store, AtomicUpdate, CompareExchange, Fence))


def without_dead(function: Function) -> Function:
    """The function without what has no effect and no use."""
    needed: set[str] = set()
    pending = [each for each in function.instructions if has_effect(each)]
    while pending:
        for operand in pending.pop().operands:
            if isinstance(operand, Local) and operand.name not in needed:
                needed.add(operand.name)
                if (definition := function.definition(operand)) is not None and not has_effect(definition):
                    pending.append(definition)

    def change(instruction: Instruction) -> list[Instruction] | None:
        result = instruction.result
        return [] if not has_effect(instruction) and (result is None or result.name not in needed) else None

    return function.rewritten(change)


def without_idle_branches(module: Module, name: str) -> Function:
    """A function of a module without what has no effect, conditions of branches between which nothing is left among it.
    What is left keeps its names."""
    pure = [
        dataclasses.replace(each, after=("nounwind", "readnone", "willreturn"))
        for each in module.declarations
        if rule_of(each.name) is not None or _INTEGERS.fullmatch(each.name)
    ]
    try:
        parsed = llvm.parse_assembly(write(module.with_functions(*pure)), llvm.create_context())
        parsed.verify()
    except RuntimeError as error:
        raise LoweringError(f"LLVM refused the adjoint: {error}") from error
    passes = llvm.create_module_pass_manager()
    passes.add_aggressive_dead_code_elimination_pass()
    passes.run(parsed)
    return read(str(parsed)).functions[name]
